"""A call with a cache before it: answered from there, or limited, sent, and stored. Pure.

no question of the cache ────────────────────────────────> limited as ever
look ── hit, join ───────────────────────────────────────> the stored answer; nothing is reserved
│ └── stale, and this one is to get a new one ─────────> the stored answer; the call goes beside it
└──── lead, alone ──> limited ──> served ──────────────> recorded on its way, stored at its end
└── failed, refused, given up ─> left to the next one
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from limiter.transport.effects import (
    Follow,
    Http,
    Leave,
    Look,
    Refresh,
    Send,
    Serve,
    Steps,
)
from limiter.transport.flow import attempt_gen
from limiter.transport.recording import Recorder

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter, Limiter
    from limiter.cache.flights import Flight
    from limiter.transport.attempt import Attempt
    from limiter.transport.rules import Rules


class Begun(NamedTuple):
    """Hold a response that has begun, and what is left to do while it is read.

    Attributes:
        follow: for the limiter. `recorder`: for the cache.
    """

    response: Http
    follow: Follow | None = None
    recorder: Recorder | None = None


def call_gen(rules: Rules, limiter: Limiter | AsyncLimiter, request: Http) -> Steps[Begun]:
    """Run a call until the response that its caller gets has begun."""
    told = rules.control(request)
    attempt = rules.attempt(request, limiter.quotas, limiter.expected_output)
    question = rules.question(request, attempt, limiter.quotas, told)
    if question is None:
        return Begun(*(yield from _limited_gen(rules, attempt, request)))
    found, flight = yield Look(question)
    if found.served is not None:
        if flight is not None:
            yield Refresh(flight, attempt)
        return Begun((yield Serve(found)))
    if flight is None:
        return Begun(*(yield from _limited_gen(rules, attempt, request)))
    return (yield from recorded_gen(rules, attempt, request, flight))


def recorded_gen(
    rules: Rules, attempt: Attempt | None, request: Http, flight: Flight
) -> Steps[Begun]:
    """Make the call of a flight; what its answer ends in is stored, or left to the next one."""
    try:
        response, follow = yield from _limited_gen(rules, attempt, request)
    except Exception:
        yield Leave(flight)
        raise
    except BaseException:
        assert rules.cache is not None
        rules.cache.leave_now(flight)  # a cancelled task must not wait
        raise
    if not 200 <= response.status_code < 300:
        yield Leave(flight)
        return Begun(response, follow)
    assert rules.cache is not None
    profile = rules.profile_of(request)
    recorder = Recorder(flight, rules.cache.settings, profile, response.headers)
    return Begun(response, follow, recorder)


def _limited_gen(rules: Rules, attempt: Attempt | None, request: Http) -> Steps[Any]:
    if attempt is None:
        return (yield Send()), None
    return (yield from attempt_gen(rules, attempt, request))
