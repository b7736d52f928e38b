"""What the fleet hears of calls that go through no client of ours, and what their ends use."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx2
import pytest

from limiter import AsyncLimiter, CallFailed, ConfigError, Limiter, Quota, WaitTimeout
from limiter.amounts import used_amounts
from limiter.observing import verdict_of, was_repeated
from limiter.providers import Outcome, Verdict

HEADERS = {
    "x-ratelimit-limit-requests": "1000",
    "x-ratelimit-remaining-requests": "900",
    "x-ratelimit-reset-requests": "6s",
}
ERROR = {"error": {"message": "No.", "code": "insufficient_quota"}}


class Answered(Exception):
    """Be an error of an SDK that carries a response."""

    def __init__(self, status: int, body: Any = None, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = httpx2.Response(status, headers=named, json=body)


class Bare(Exception):
    """Be an error of an SDK that tells a status, and nothing else."""

    status_code = 503


class APIConnectionError(Exception):
    """Bear the name that SDKs give to a call without an answer."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.fixture
def limiter():
    with Limiter(f"memory://{uuid.uuid4().hex}", quotas=[Quota("q", rpm=1000, headroom=0)]) as made:
        yield made


def status_of(limiter: Any) -> Any:
    return limiter.as_sync().peek("q")


FAILS = {
    "a status": (Answered(500), 1),
    "a key": (Answered(401, ERROR), 1),
    "a status alone": (Bare(), 1),
    "no answer": (APIConnectionError(), 1),
    "no answer, of httpx": (httpx2.ReadError("x"), 1),
    "a connection": (ConnectionResetError(), 1),
    "a refusal": (Answered(429), 0),
    "a mistake of the caller's": (Answered(400), 0),
    "a redirect": (Answered(302), 0),
    "a defect": (KeyError("x"), 0),
    "a timer of the caller's": (TimeoutError(), 0),
    "a pool that is too small": (httpx2.PoolTimeout("x"), 0),
    "the same, wrapped": (caused(APIConnectionError(), httpx2.PoolTimeout("x")), 0),
    "an error of ours": (WaitTimeout("x", wait_s=1.0), 0),
    "one that was reported": (CallFailed("x", status=500, response=httpx2.Response(500)), 0),
}


@pytest.mark.parametrize("what", FAILS)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_block_that_ends_in_an_exception_tells_it(limiter: Limiter, what: str, mode: str) -> None:
    """What says something of the provider is reported, before the reservation is settled."""
    error, failures = FAILS[what]
    if mode == "sync":
        with pytest.raises(type(error)), limiter.reserve("q"):
            raise error
    else:

        async def fail() -> None:
            other: AsyncLimiter = limiter.as_async()
            try:
                with pytest.raises(type(error)):
                    async with other.reserve("q"):
                        raise error
            finally:
                await other.aclose()

        asyncio.run(fail())
    assert status_of(limiter).failures == failures
    assert status_of(limiter).held == 0


def test_a_refusal_in_a_block_holds_back_the_fleet(limiter: Limiter) -> None:
    """Its wait is a brake for everybody."""
    with pytest.raises(Answered), limiter.reserve("q"):
        raise Answered(429, retry_after="30")
    assert 29 < status_of(limiter).brake_s <= 33.3


def test_a_body_that_was_read_is_heard(limiter: Limiter) -> None:
    """Only it tells a lack of money from a limit that is met."""
    verdict = verdict_of(Answered(429, ERROR))
    assert (verdict.outcome, verdict.again) == (Outcome.DENIED, False)


def raw(**options: Any) -> httpx2.Response:
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    return httpx2.Response(200, headers=HEADERS, json=usage, **options)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_raw_response_settles_and_is_reported(limiter: Limiter, mode: str) -> None:
    """`r.settle(raw)`: its usage is in the body, the provider's levels are in the headers."""
    if mode == "sync":
        limiter.acquire("q").settle(raw())
    else:

        async def settle() -> None:
            other = limiter.as_async()
            await (await other.acquire("q")).settle(raw())
            await other.aclose()

        asyncio.run(settle())
    (limit,) = status_of(limiter).limits.values()
    assert limit.provider_level == 900


def test_levels_of_the_end_are_told_after_the_settling(limiter: Limiter) -> None:
    """They have in them what the call used: the report names no reservation that is held."""
    r = limiter.acquire("q", requests=10)
    mistral = {"x-ratelimit-limit-req-minute": "1000", "x-ratelimit-remaining-req-minute": "995"}
    r.settle(httpx2.Response(200, headers=mistral, json={"usage": {"total_tokens": 7}}), requests=5)
    with limiter.ticket("q", requests=1) as ticket:  # a round trip: what was posted travels with it
        assert ticket.granted
    (limit,) = status_of(limiter).limits.values()
    assert limit.provider_level == 995
    assert -1 <= limit.drift <= 0  # a little was refilled since


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_call_that_was_served_ends_a_row_of_failures(limiter: Limiter, mode: str) -> None:
    """Where nothing is known of an answer but that it was there: else a circuit never closed."""
    limiter.acquire("q").settle(tokens=1)  # told just now: the next one is, all the same
    with pytest.raises(Answered), limiter.reserve("q"):
        raise Answered(500)
    assert status_of(limiter).failures == 1
    if mode == "sync":
        limiter.acquire("q").settle(tokens=1)
    else:

        async def serve() -> None:
            other = limiter.as_async()
            async with other.reserve("q") as r:
                await r.settle()
            await other.aclose()

        asyncio.run(serve())
    limiter.acquire("q").cancel()
    assert status_of(limiter).failures == 0


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_block_that_broke_off_is_no_success(limiter: Limiter, mode: str) -> None:
    """Whatever ended it, nobody knows of an answer: a row of failures goes on."""
    with pytest.raises(Answered), limiter.reserve("q"):
        raise Answered(500)
    if mode == "sync":
        with pytest.raises(KeyError), limiter.reserve("q"):
            raise KeyError
    else:

        async def fail() -> None:
            other = limiter.as_async()
            with pytest.raises(KeyError):
                async with other.reserve("q"):
                    raise KeyError
            await other.aclose()

        asyncio.run(fail())
    limiter.acquire("q").cancel()
    assert status_of(limiter).failures == 1


def test_successes_are_told_now_and_then(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each: a program that only settles sends a report a second, at most."""
    now = [10**15]
    monkeypatch.setattr("limiter.reservation.now_us", lambda: now[0])
    reports = []
    shell = limiter._open()
    report = shell.report
    shell.report = lambda lane, request: (reports.append(request.verdict), report(lane, request))
    for _ in range(50):
        limiter.acquire("q").settle(tokens=1)
        limiter.acquire("q").cancel()
    assert len(reports) == 1
    now[0] += 1_000_000
    limiter.acquire("q").settle(tokens=1)
    assert len(reports) == 2


class Odd:
    """Have attributes that fail in every way."""

    status_code = 200

    @property
    def headers(self) -> None:
        raise RuntimeError


ODD = [None, 5, "x", b"x", object(), [], {}, {1: 2}, {"retry-after": object()}, {b"x": "y"}, Odd(),
       KeyError(), KeyboardInterrupt(), type, Verdict, httpx2.Response(302), Answered(999)]  # fmt: skip


@pytest.mark.parametrize("status", [200, 429, 0, -1, 10**9, None, "429", 1.5])
def test_what_is_no_answer_is_ignored(limiter: Limiter, status: Any) -> None:
    """`observe` never raises, whatever it is shown, held or settled."""
    r = limiter.acquire("q")
    for odd in ODD:
        r.observe(odd, status, "nobody")
        limiter.acquire("q").hear(odd)
    r.settle()
    r.observe({"retry-after": "1"}, 429)


def test_what_nothing_else_sees_can_be_shown(limiter: Limiter) -> None:
    """Headers with their status, a response, an exception, a verdict."""
    r = limiter.acquire("q")
    r.observe(HEADERS)
    limiter.acquire("q").cancel()
    (limit,) = status_of(limiter).limits.values()
    assert limit.provider_level == 900
    for failure in (Answered(500), httpx2.Response(503), Verdict(Outcome.FAILED, 500)):
        r.observe(failure)
    r.observe({}, status=401)
    r.cancel()
    assert status_of(limiter).failures == 4


@pytest.mark.parametrize(
    ("headers", "is_repeat"),
    [({"x-stainless-retry-count": "1"}, True), ({"x-stainless-retry-count": "0"}, False),
     ({"x-stainless-retry-count": "x"}, False), ({}, False)],
)  # fmt: skip
def test_an_sdk_s_own_repeats_are_known(headers: dict[str, str], *, is_repeat: bool) -> None:
    """By what the last request said of itself."""
    error = Answered(500)
    assert not was_repeated(error)
    error.response.request = httpx2.Request("POST", "http://x", headers=headers)
    assert was_repeated(error) is is_repeat


DIMENSIONS = ("requests", "tokens", "input_tokens", "output_tokens", "images")
USED = [
    ({"tokens": 80, "input_tokens": 5}, {"tokens": 80, "input_tokens": 5}),
    ({"tokens": 80, "input_tokens": 5, "output_tokens": 6},
     {"tokens": 80, "input_tokens": 5, "output_tokens": 6}),
    ({"requests": 2, "output_tokens": 6}, {"requests": 2, "output_tokens": 6}),
    ({"images": 3, "input_tokens": 5}, {"images": 3, "input_tokens": 5}),
    ({"tokens": 80}, {"tokens": 80}),
    ({"input_tokens": 5, "output_tokens": 6}, {"tokens": 11, "input_tokens": 5, "output_tokens": 6}),
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
     {"tokens": 11, "input_tokens": 5, "output_tokens": 6}),
    ({"input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 6},
     {"tokens": 13, "input_tokens": 7, "output_tokens": 6}),
    ({"usage": {"total_tokens": 9}}, {"tokens": 9}),
    (9, {"tokens": 9}),
    (None, {}),
]  # fmt: skip


@pytest.mark.parametrize(("used", "amounts"), USED)
def test_a_mapping_is_a_usage_or_names_dimensions_or_both(used: Any, amounts: dict) -> None:
    """Nothing that it names is dropped, and what only a usage tells is added."""
    assert used_amounts(used, {}, DIMENSIONS) == amounts
    assert used_amounts(used, {"tokens": 1}, DIMENSIONS) == amounts | {"tokens": 1}


@pytest.mark.parametrize(
    "used", [{"tokens": 1.5, "input_tokens": 5}, {"tokens": "x"}, object(), "x"]
)
def test_what_is_no_amount_is_refused(used: Any) -> None:
    """As before: the message says what to pass."""
    with pytest.raises(ConfigError):
        used_amounts(used, {}, DIMENSIONS)
