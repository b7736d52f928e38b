"""One call from reserving to settling, written once; `carriers` has the two ways to carry it out. Pure.

    reserve ── refused ──> the limiter's error, nothing was sent
       │ ^
       │ └────────────────────────────────────────────────────────────────┐
     send ──── no answer ──> report, settle by what the failure says ──> worth it: pause, again
       │  └─── an error ───> read, report, settle by its status ────────────┘ └─> else: the end
    report
       │
    follow: the caller reads, we look on ── [DONE] · end · break · close ──> settle, once

The caller gets the last response and every byte as they came; a response that has begun to be
delivered is never replaced by another.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from limiter.errors import LimiterError, NeverFits
from limiter.observing import is_repeat
from limiter.retrying import Course
from limiter.transport import coding, raised
from limiter.transport.effects import (
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


def attempt_gen(rules: Rules, attempt: Attempt, request: Http) -> Steps[tuple[Http, Follow | None]]:
    """Run a call until the response that its caller gets has begun; say what is left to do."""
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
