"""Carry out a call, step by step, for threads and for tasks: the only code of the transport that waits.

What is next is decided in `flow`. Transports exist four times (sync and asyncio, httpx and httpx2);
`clients` gives them their bases.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from limiter.cache.beside import Beside, in_thread
from limiter.errors import LimiterError
from limiter.providers import Outcome
from limiter.transport import raised, recording, streams
from limiter.transport.caching import Begun, call_gen, recorded_gen
from limiter.transport.effects import (
    Follow,
    Http,
    Leave,
    Look,
    OfCache,
    OfLimiter,
    Pause,
    Read,
    Refresh,
    Report,
    Reserve,
    Send,
    Serve,
    Settle,
    Steps,
)

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter, Limiter
    from limiter.cache.api import AsyncCache, Cache
    from limiter.cache.flights import Flight
    from limiter.cache.looking import Found
    from limiter.transport.attempt import Attempt
    from limiter.transport.recording import Recorder
    from limiter.transport.rules import Rules


class Made(NamedTuple):
    """Hold the classes of a family that a carrier makes objects of.

    Attributes:
        followed: streams that are settled at their end; recorded: those that are stored.
        replayed: streams from the cache; whole: bytes in memory.
        response: a response.
    """

    followed: type
    recorded: type
    replayed: type
    whole: type
    response: type


class Limited:
    """Hold a transport and what limits it.

    Attributes:
        inner: the transport that sends.
        limiter: of the kind that fits the transport.
        rules: the caller's settings.
    """

    def __init__(self, inner: Http, limiter: Any, rules: Rules, made: Made) -> None:
        self.inner, self.limiter, self.rules, self._made = inner, limiter, rules, made

    def _serve(self, found: Found) -> Http:
        """Make a response of an answer from the cache."""
        served, headers = found.served, recording.headers_of(found)
        if served.kind == recording.EVENTS:
            stream = self._made.replayed(served.pieces)
            return self._made.response(200, headers=headers, stream=stream)
        return self._made.response(200, headers=headers, content=b"".join(served.pieces))


class SyncTransport(Limited):
    """Carry calls for threads."""

    limiter: Limiter

    def handle_request(self, request: Http) -> Http:
        """Send a request when the quota allows it, unless the cache has its answer."""
        try:
            return self._carry(call_gen(self.rules, self.limiter, request), request)
        except LimiterError as exc:
            raise_through_openai(exc, request)

    def _carry(self, steps: Steps[Begun], request: Http) -> Http:
        try:
            asked = next(steps)
            while True:
                try:
                    if isinstance(asked, OfCache):
                        answer = self._ask_cache(asked, request)
                    else:
                        answer = self._do(asked, request)
                except BaseException as exc:  # noqa: BLE001 - the flow decides, and raises it
                    asked = steps.throw(exc)
                else:
                    asked = steps.send(answer)
        except StopIteration as stop:
            begun: Begun = stop.value
            return self._record(self._follow(begun.response, begun.follow), begun.recorder)

    def _do(self, asked: OfLimiter, request: Http) -> Any:
        match asked:
            case Reserve(attempt, wishes):
                return self.limiter.acquire(attempt.quota, attempt.cost, **wishes)
            case Send():
                return self.inner.handle_request(request)
            case Report(held, verdict):
                return held.report_soon(verdict)
            case Read(response, follow):
                again = partial(self._made.followed, follow=follow)
                return streams.read(response, self._made.whole, again)
            case Settle(held, used):
                return streams.settle(held, used)
            case Pause(seconds):
                return time.sleep(seconds)

    def _ask_cache(self, asked: OfCache, request: Http) -> Any:
        match asked:
            case Look(question):
                return self.cache.look(question, partial(recording.serve, question))
            case Serve(found):
                return self._serve(found)
            case Refresh(flight, attempt):
                return in_thread(lambda: self._refresh(flight, attempt, request))
            case Leave(flight):
                return self.cache.leave(flight)

    @property
    def cache(self) -> Cache:
        """Return the cache, which there is where it is asked."""
        assert self.rules.cache is not None
        return self.rules.cache.as_sync()

    def _refresh(self, flight: Flight, attempt: Attempt | None, request: Http) -> None:
        """Get an answer anew that was served when it was stale."""
        response = self._carry(recorded_gen(self.rules, attempt, request, flight), request)
        try:
            response.read()
        finally:
            response.close()

    def _record(self, response: Http, recorder: Recorder | None) -> Http:
        if recorder is not None:
            if hasattr(response, "_content"):
                recorder.saw_plain(response.content)
                recording.store(self.cache, recorder)
            else:
                response.stream = self._made.recorded(response.stream, recorder, self.cache)
        return response

    def _follow(self, response: Http, follow: Follow | None) -> Http:
        if follow is None:
            return response
        if hasattr(response, "_content"):  # read before it came here: nobody iterates it again
            attempt, held, late = follow
            attempt.saw_plain(response.content)
            if (trouble := attempt.trouble()) is not None:
                held.report_soon(trouble)
            streams.settle(held, streams.ended(held, attempt), late)
        else:
            response.stream = self._made.followed(response.stream, follow)
        return response

    def close(self) -> None:
        """Close the transport inside; the limiter stays open."""
        self.inner.close()

    def __enter__(self) -> Any:
        self.inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(*error)


class AsyncTransport(Limited):
    """Carry calls for asyncio tasks."""

    limiter: AsyncLimiter

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._beside = Beside()

    async def handle_async_request(self, request: Http) -> Http:
        """Send a request when the quota allows it, unless the cache has its answer."""
        try:
            return await self._carry(call_gen(self.rules, self.limiter, request), request)
        except LimiterError as exc:
            raise_through_openai(exc, request)

    async def _carry(self, steps: Steps[Begun], request: Http) -> Http:
        try:
            asked = next(steps)
            while True:
                try:
                    if isinstance(asked, OfCache):
                        answer = await self._ask_cache(asked, request)
                    else:
                        answer = await self._do(asked, request)
                except BaseException as exc:  # noqa: BLE001 - the flow decides, and raises it
                    asked = steps.throw(exc)
                else:
                    asked = steps.send(answer)
        except StopIteration as stop:
            begun: Begun = stop.value
            response = await self._follow(begun.response, begun.follow)
            return await self._record(response, begun.recorder)

    async def _do(self, asked: OfLimiter, request: Http) -> Any:
        match asked:
            case Reserve(attempt, wishes):
                return await self.limiter.acquire(attempt.quota, attempt.cost, **wishes)
            case Send():
                return await self.inner.handle_async_request(request)
            case Report(held, verdict):
                is_served = verdict.outcome is Outcome.SERVED
                return held.report_soon(verdict) if is_served else await held.report(verdict)
            case Read(response, follow):
                again = partial(self._made.followed, follow=follow)
                return await streams.read_async(response, self._made.whole, again)
            case Settle(held, used):
                return await streams.settle_async(held, used)
            case Pause(seconds):
                return await asyncio.sleep(seconds)

    async def _ask_cache(self, asked: OfCache, request: Http) -> Any:
        match asked:
            case Look(question):
                return await self.cache.look(question, partial(recording.serve, question))
            case Serve(found):
                return self._serve(found)
            case Refresh(flight, attempt):
                return self._beside.start(self._refresh(flight, attempt, request))
            case Leave(flight):
                return await self.cache.leave(flight)

    @property
    def cache(self) -> AsyncCache:
        """Return the cache, which there is where it is asked."""
        assert self.rules.cache is not None
        return self.rules.cache.as_async()

    async def _refresh(self, flight: Flight, attempt: Attempt | None, request: Http) -> None:
        """Get an answer anew that was served when it was stale."""
        steps = recorded_gen(self.rules, attempt, request, flight)
        response = await self._carry(steps, request)
        try:
            await response.aread()
        finally:
            await response.aclose()

    async def _record(self, response: Http, recorder: Recorder | None) -> Http:
        if recorder is not None:
            if hasattr(response, "_content"):
                recorder.saw_plain(response.content)
                await recording.store_async(self.cache, recorder)
            else:
                response.stream = self._made.recorded(response.stream, recorder, self.cache)
        return response

    async def _follow(self, response: Http, follow: Follow | None) -> Http:
        if follow is None:
            return response
        if hasattr(response, "_content"):  # read before it came here: nobody iterates it again
            attempt, held, late = follow
            attempt.saw_plain(response.content)
            if (trouble := attempt.trouble()) is not None:
                held.report_soon(trouble)
            await streams.settle_async(held, streams.ended(held, attempt), late)
        else:
            response.stream = self._made.followed(response.stream, follow)
        return response

    async def aclose(self) -> None:
        """Close the transport inside; the limiter stays open."""
        await self.inner.aclose()

    async def __aenter__(self) -> Any:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.inner.__aexit__(*error)


def raise_through_openai(error: LimiterError, request: Http) -> Any:
    """Raise an error of ours as one that the openai client lets through at once."""
    other = raised.through_openai(error, request)
    if other is error:
        raise error
    raise other from error
