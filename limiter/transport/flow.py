"""One attempt from reserving to settling, written once; below it the two ways to carry it out.

    reserve ── refused ──> the limiter's error, nothing was sent
       │
     send ──── no response ──> settle by what the failure says
       │
    follow: the caller reads, we look on ── [DONE] · end · break · close ──> settle, once

The caller gets the response and every byte as they came. A transport and a stream exist four times
(sync and asyncio, httpx and httpx2); all of them are here, `family` only gives them their bases.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limiter.errors import LimiterError, NeverFits, StoreError
from limiter.transport import coding
from limiter.transport.raised import through_openai

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter, Limiter
    from limiter.reservation import AsyncReservation, Reservation
    from limiter.transport.attempt import Attempt
    from limiter.transport.rules import Rules

log = logging.getLogger("limiter")

# Httpx's requests, responses, streams and transports: two unrelated families of the same shape.
Http = Any


@dataclass(frozen=True, slots=True)
class Reserve:
    """Ask the driver for a reservation."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Send:
    """Ask the driver to send the request, and for its response."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Ask the driver to end a reservation; None: nothing was used."""

    held: Any
    used: Mapping[str, int] | None


def attempt_gen(
    rules: Rules, limiter: Limiter | AsyncLimiter, request: Http
) -> Generator[Reserve | Send | Settle, Any, tuple[Http, Attempt | None, Any]]:
    """Run an attempt until its response has begun; return it with what is left to settle."""
    attempt = rules.attempt(request, limiter.quotas, limiter.expected_output)
    if attempt is None:
        return (yield Send()), None, None
    accepted = request.headers.get("accept-encoding")
    if accepted is not None:
        request.headers["accept-encoding"] = coding.acceptable(accepted)
    try:
        held = yield Reserve(attempt)
    except NeverFits:
        if not attempt.forget_learned():
            raise
        held = yield Reserve(attempt)
    try:
        response = yield Send()
    except Exception as exc:
        yield Settle(held, attempt.failed(exc))
        raise
    except BaseException:
        # A cancelled task must not wait, and may have been heard.
        held.settle_soon(attempt.cost)
        raise
    attempt.answered(response.status_code, response.headers)
    return response, attempt, held


class Limited:
    """Hold a transport and what limits it.

    Attributes:
        inner: the transport that sends.
        limiter: of the kind that fits the transport.
        rules: the caller's settings.
    """

    def __init__(self, inner: Http, limiter: Any, rules: Rules, stream: type) -> None:
        self.inner, self.limiter, self.rules = inner, limiter, rules
        self._stream = stream


class SyncTransport(Limited):
    """Carry attempts for threads."""

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
            raise_through_openai(exc)

    def _do(self, asked: Reserve | Send | Settle, request: Http) -> Any:
        match asked:
            case Reserve(attempt):
                return self.limiter.acquire(attempt.quota, attempt.cost, **attempt.asked)
            case Send():
                return self.inner.handle_request(request)
            case Settle(held, used):
                return settle(held, used)

    def _follow(self, response: Http, attempt: Attempt | None, held: Any) -> Http:
        if attempt is None:
            return response
        if hasattr(response, "_content"):  # read before it came here: nobody iterates it again
            attempt.saw_plain(response.content)
            settle(held, ended(held, attempt))
        else:
            response.stream = self._stream(response.stream, attempt, held)
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
    """Carry attempts for asyncio tasks."""

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
            raise_through_openai(exc)

    async def _do(self, asked: Reserve | Send | Settle, request: Http) -> Any:
        match asked:
            case Reserve(attempt):
                return await self.limiter.acquire(attempt.quota, attempt.cost, **attempt.asked)
            case Send():
                return await self.inner.handle_async_request(request)
            case Settle(held, used):
                return await settle_async(held, used)

    async def _follow(self, response: Http, attempt: Attempt | None, held: Any) -> Http:
        if attempt is None:
            return response
        if hasattr(response, "_content"):  # read before it came here: nobody iterates it again
            attempt.saw_plain(response.content)
            await settle_async(held, ended(held, attempt))
        else:
            response.stream = self._stream(response.stream, attempt, held)
        return response

    async def aclose(self) -> None:
        """Close the transport inside; the limiter stays open."""
        await self.inner.aclose()

    async def __aenter__(self) -> Any:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.inner.__aexit__(*error)


class _Followed:
    """Hold what both kinds of stream know; settle what is dropped without a close."""

    def __init__(self, inner: Http, attempt: Attempt, held: Any) -> None:
        self._inner, self._attempt, self._held = inner, attempt, held

    def _leave(self) -> None:
        """Settle without waiting, for one who is interrupted."""
        if self._held.state == "held":
            self._held.settle_soon(self._attempt.used())

    def __del__(self) -> None:
        if self._held.state == "held":
            self._held.settle_from_finalizer(self._attempt.used())


class SyncStream(_Followed):
    """Pass a response's bytes on, and settle at their end."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                if self._attempt.saw(chunk):
                    self._finish()
                yield chunk
        except Exception:
            self._finish()
            raise
        except BaseException:
            self._leave()
            raise
        self._finish()

    def close(self) -> None:
        """Settle by what was seen, if that was not done, and close."""
        try:
            self._finish()
        finally:
            self._inner.close()

    def _finish(self) -> None:
        if self._held.state == "held":
            settle(self._held, ended(self._held, self._attempt))


class AsyncStream(_Followed):
    """Pass a response's bytes on, and settle at their end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._inner)
        try:
            async for chunk in chunks:
                if self._attempt.saw(chunk):
                    await self._finish()
                yield chunk
        except Exception:
            await self._finish()
            raise
        except BaseException:
            self._leave()
            raise
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        await self._finish()

    async def aclose(self) -> None:
        """Settle by what was seen, if that was not done, and close."""
        try:
            await self._finish()
        finally:
            await self._inner.aclose()

    async def _finish(self) -> None:
        if self._held.state == "held":
            await settle_async(self._held, ended(self._held, self._attempt))


def ended(held: Any, attempt: Attempt) -> Mapping[str, int] | None:
    """Return what a call used; how long its answer became is told along with that."""
    amounts = attempt.used()
    if attempt.output_key and attempt.output_tokens is not None:
        held.record_output(attempt.output_key, attempt.output_tokens)
    return amounts


def settle(held: Reservation, used: Mapping[str, int] | None) -> None:
    """End a reservation; a store that is away does not cost the caller its answer."""
    with _warned(held):
        held.cancel() if used is None else held.settle(**used)


async def settle_async(held: AsyncReservation, used: Mapping[str, int] | None) -> None:
    """End a reservation; see `settle`."""
    with _warned(held):
        await (held.cancel() if used is None else held.settle(**used))


@contextlib.contextmanager
def _warned(held: Any) -> Iterator[None]:
    try:
        yield
    except StoreError as exc:
        log.warning(
            "The answer of a call on %r is here, but what it used could not be told: %s "
            "It will be when the store is back.", held.quota, exc,
        )  # fmt: skip


def raise_through_openai(error: LimiterError) -> Any:
    """Raise an error of ours as one that the openai client lets through at once."""
    other = through_openai(error)
    if other is error:
        raise error
    raise other from error
