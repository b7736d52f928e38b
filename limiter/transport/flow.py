"""One call from reserving to settling, written once; below it the two ways to carry it out.

    reserve ── refused ──> the limiter's error, nothing was sent
       │ ^
       │ └────────────────────────────────────────────────────────────────┐
     send ──── no answer ──> report, settle by what the failure says ──> worth it: pause, again
       │  └─── an error ───> read, report, settle by its status ────────────┘ └─> else: the end
    report
       │
    follow: the caller reads, we look on ── [DONE] · end · break · close ──> settle, once

The caller gets the last response and every byte as they came; a response that has begun to be
delivered is never replaced by another. Transports exist four times (sync and asyncio, httpx and
httpx2); `family` only gives them their bases.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from limiter.errors import LimiterError, NeverFits
from limiter.observing import is_repeat
from limiter.providers import Outcome
from limiter.retrying import Course
from limiter.transport import coding, raised, streams
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
    Steps,
    Told,
)
from limiter.transport.rules import is_kept

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter, Limiter
    from limiter.providers import Verdict
    from limiter.transport.attempt import Attempt
    from limiter.transport.rules import Rules

log = logging.getLogger("limiter")

_COUNT = "x-stainless-retry-count"


class _Ended(NamedTuple):
    """Hold how an attempt ended.

    Attributes:
        response, error: one of them.
        verdict: what that means; None: nothing that another attempt could mend.
        follow: what is left to do while a response is read.
        is_whole: its body was read, if it had to be.
    """

    response: Http = None
    error: Exception | None = None
    verdict: Verdict | None = None
    follow: Follow | None = None
    is_whole: bool = True


def attempt_gen(
    rules: Rules, limiter: Limiter | AsyncLimiter, request: Http
) -> Steps[tuple[Http, Follow | None]]:
    """Run a call until the response that its caller gets has begun; say what is left to do."""
    attempt = rules.attempt(request, limiter.quotas, limiter.expected_output)
    if attempt is None:
        return (yield Send()), None
    accepted = request.headers.get("accept-encoding")
    if accepted is not None:
        request.headers["accept-encoding"] = coding.acceptable(accepted)
    course = None if rules.retry is None else Course(rules.retry)
    if course:
        course.asks()
    try:
        held = yield Reserve(attempt, attempt.asked)
    except NeverFits:
        if not attempt.forget_learned():
            raise
        held = yield Reserve(attempt, attempt.asked)
    if course:
        course.granted()
    ended = yield from _once_gen(attempt, held)
    if course and ended.verdict and is_kept(request) and not is_repeat(request.headers):
        ended = yield from _repeat_gen(attempt, held, request, course, ended)
    if ended.error is not None:
        raise ended.error
    return ended.response, ended.follow


def _once_gen(attempt: Attempt, held: Any) -> Steps[_Ended]:
    """Send a request that was granted, and let the fleet know how it was answered."""
    try:
        response = yield Send()
    except Exception as exc:  # noqa: BLE001 - it is judged by its name, and raised in the end
        verdict = attempt.unanswered(exc)
        if verdict is None:
            held.hush()
        else:
            yield Report(held, verdict)
        yield Settle(held, attempt.failed(exc))
        return _Ended(error=exc, verdict=verdict)
    except BaseException:
        # A cancelled task must not wait, and may have been heard.
        held.settle_soon(attempt.cost)
        raise
    attempt.answered(response.status_code, response.headers)
    if response.status_code >= 400:
        return (yield from _error_gen(attempt, held, response))
    if response.status_code >= 300:
        return _Ended(response, follow=Follow(attempt, held))
    verdict = attempt.judged(response.headers)
    if verdict.when == "end":
        held.hush()
        return _Ended(response, follow=Follow(attempt, held, verdict))
    yield Report(held, verdict)
    return _Ended(response, follow=Follow(attempt, held))


def _error_gen(attempt: Attempt, held: Any, response: Http) -> Steps[_Ended]:
    """Read what an error says, and end the reservation."""
    try:
        told: Told = yield Read(response, Follow(attempt, held))
    except BaseException:
        held.settle_soon(attempt.used())
        raise
    verdict = attempt.judged(response.headers, told.content)
    yield Report(held, verdict)
    yield Settle(held, attempt.used())
    return _Ended(response, verdict=verdict, is_whole=told.is_whole)


def _repeat_gen(
    attempt: Attempt, held: Any, request: Http, course: Course, ended: _Ended
) -> Steps[_Ended]:
    """Repeat a call that failed for as long as that is worth it.

    Whoever sent the request repeats nothing after that: an answer that is passed on says so.

    Raises:
        CallFailed: another attempt might help, but there will be none.
    """
    patience_s = attempt.asked["timeout"]
    patience_s = held.patience_s if patience_s is None else patience_s
    while (verdict := ended.verdict) is not None:
        is_last = course.retry.attempts == 1 and not _must_be_ours(request, ended)
        if is_last or not verdict.again or not ended.is_whole:
            return _last(ended)
        pause_s = course.pause_s(verdict)
        if pause_s is None:
            return _fail(attempt, request, course, ended)
        log.info("A call on %r is repeated, the next attempt is number %d: %d %s",
                 attempt.quota, course.attempts + 1, verdict.status, verdict.code)  # fmt: skip
        if pause_s:
            yield Pause(pause_s)
        if _COUNT in request.headers:
            request.headers[_COUNT] = str(course.attempts)
        try:
            held = yield Reserve(attempt, {**attempt.asked, **course.asking(patience_s)})
        except LimiterError as reason:
            return _fail(attempt, request, course, ended, reason)
        course.granted()
        ended = yield from _once_gen(attempt, held)
    return ended


def _last(ended: _Ended) -> _Ended:
    """Let an answer be the last one, whatever the SDK that gets it does with its like."""
    if ended.response is not None:
        ended.response.headers["x-should-retry"] = "false"
    return ended


def _must_be_ours(request: Http, ended: _Ended) -> bool:
    """Say whether the SDK would repeat what is passed on: openai's, where there was no answer."""
    return ended.response is None and raised.is_openai(request.headers)


def _fail(
    attempt: Attempt, request: Http, course: Course, ended: _Ended,
    reason: LimiterError | None = None,
) -> _Ended:  # fmt: skip
    """End a call that was worth another attempt.

    An SDK that is not openai's takes an exception for a lost connection, and begins anew: it gets
    the answer, where there is one, and raises what its users know.
    """
    assert ended.verdict is not None
    response = ended.response
    if response is not None and raised.is_other_sdk(request.headers):
        return _last(ended)
    if response is not None:
        response.request = request
        with contextlib.suppress(Exception):  # of a coding that says what it is not
            response.read()
    failure = course.failure(attempt.quota, ended.verdict, response, reason)
    raise failure from ended.error or reason


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
