"""Carry out a call, step by step, for threads and for tasks: the only code of the transport that waits.

What is next is decided in `flow`. Transports exist four times (sync and asyncio, httpx and httpx2);
`clients` gives them their bases.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from limiter.errors import LimiterError
from limiter.providers import Outcome
from limiter.transport import raised, streams
from limiter.transport.effects import (
    Effect,
    Follow,
    Http,
    Pause,
    Read,
    Report,
    Reserve,
    Send,
    Settle,
)
from limiter.transport.flow import attempt_gen

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter, Limiter
    from limiter.transport.rules import Rules


class Limited:
    """Hold a transport and what limits it.

    Attributes:
        inner: the transport that sends.
        limiter: of the kind that fits the transport.
        rules: the caller's settings.
    """

    def __init__(self, inner: Http, limiter: Any, rules: Rules, stream: type, whole: type) -> None:
        self.inner, self.limiter, self.rules = inner, limiter, rules
        self._stream, self._whole = stream, whole


class SyncTransport(Limited):
    """Carry calls for threads."""

    limiter: Limiter

    def handle_request(self, request: Http) -> Http:
        """Send a request when the quota allows it."""
        steps = attempt_gen(self.rules, self.limiter, request)
        try:
            asked = next(steps)
            while True:
                try:
                    answer = self._do(asked, request)
                except BaseException as exc:  # noqa: BLE001 - the flow decides, and raises it
                    asked = steps.throw(exc)
                else:
                    asked = steps.send(answer)
        except StopIteration as stop:
            return self._follow(*stop.value)
        except LimiterError as exc:
            raise_through_openai(exc, request)

    def _do(self, asked: Effect, request: Http) -> Any:
        match asked:
            case Reserve(attempt, wishes):
                return self.limiter.acquire(attempt.quota, attempt.cost, **wishes)
            case Send():
                return self.inner.handle_request(request)
            case Report(held, verdict):
                return held.report_soon(verdict)
            case Read(response, follow):
                return streams.read(response, self._whole, partial(self._stream, follow=follow))
            case Settle(held, used):
                return streams.settle(held, used)
            case Pause(seconds):
                return time.sleep(seconds)

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
            response.stream = self._stream(response.stream, follow)
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

    async def handle_async_request(self, request: Http) -> Http:
        """Send a request when the quota allows it."""
        steps = attempt_gen(self.rules, self.limiter, request)
        try:
            asked = next(steps)
            while True:
                try:
                    answer = await self._do(asked, request)
                except BaseException as exc:  # noqa: BLE001 - the flow decides, and raises it
                    asked = steps.throw(exc)
                else:
                    asked = steps.send(answer)
        except StopIteration as stop:
            return await self._follow(*stop.value)
        except LimiterError as exc:
            raise_through_openai(exc, request)

    async def _do(self, asked: Effect, request: Http) -> Any:
        match asked:
            case Reserve(attempt, wishes):
                return await self.limiter.acquire(attempt.quota, attempt.cost, **wishes)
            case Send():
                return await self.inner.handle_async_request(request)
            case Report(held, verdict):
                is_served = verdict.outcome is Outcome.SERVED
                return held.report_soon(verdict) if is_served else await held.report(verdict)
            case Read(response, follow):
                again = partial(self._stream, follow=follow)
                return await streams.read_async(response, self._whole, again)
            case Settle(held, used):
                return await streams.settle_async(held, used)
            case Pause(seconds):
                return await asyncio.sleep(seconds)

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
            response.stream = self._stream(response.stream, follow)
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
