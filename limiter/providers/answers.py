"""What one answer of a provider means: `judge` reads status, headers and body into a `Verdict`.

Pure, called once per answer, and it never raises, whatever a provider sends. It decides nothing
for the caller: when to come again, and how often, is for those who know the budget.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from limiter.providers import durations, problems, refusals
from limiter.providers import headers as family
from limiter.providers.durations import SECOND_US
from limiter.providers.endpoints import endpoint
from limiter.providers.headers import Source, Told
from limiter.providers.problems import Problem
from limiter.providers.sse import StreamError
from limiter.providers.verdict import Outcome, Verdict, When

# A wait does not mend these: OpenAI's error-code guide (the first four), its older names, and
# Anthropic's rate-limit guide (spend limits).
BILLING = frozenset({
    "credit_balance_exhausted", "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
    "enforced_spend_limit_reached", "billing_error",
})  # fmt: skip
# Anthropic's "would exceed your account's monthly spend limit" comes as a plain rate_limit_error
# (reported by users in 2026-07), its "credit balance is too low" as an invalid request. Google's "limit: 0" is a model that the plan does not include,
# whatever wait stands beside it (reported by users of 2025 and 2026).
_SPENT = re.compile(r"\bmonthly spend limit\b|\bcredit balance is too low\b")
_GOOGLE_LIMIT = re.compile(r"Quota exceeded for metric: [^\s,]{1,200}, limit: ([0-9]{1,15})")

# OpenAI and Groq (413): "Request too large for M …: Limit 30000, Requested 37313."
_TOO_LARGE = re.compile(r"\s*Request too large")

# Until about the middle of 2026 OpenAI's ramp limit was a 503 "Slow Down" (its error-code guide);
# Anthropic's acceleration limit is a 429 of "maximum usage increase rate for input tokens".
_SLOW_DOWN = re.compile(r"\s*slow down\b", re.IGNORECASE)
_ACCELERATION = re.compile(r"usage increase rate|acceleration limit", re.IGNORECASE)

# AWS refuses by name, partly with a 400 (Bedrock's API reference). Its ModelTimeoutException (408)
# and ModelErrorException are failures of the model, not of a limit.
_THROTTLED = frozenset({
    "throttlingexception", "servicequotaexceededexception", "modelnotreadyexception",
    "toomanyrequestsexception",
})  # fmt: skip
_FORBIDDEN = frozenset({"accessdeniedexception", "unrecognizedclientexception"})

# The status that an error inside a stream would have had; the names of OpenAI's and Anthropic's
# error-code guides. One that is not listed is the provider's failure.
_STATUS_OF = {
    "rate_limit_exceeded": 429, "rate_limit_error": 429, "rate_limited": 429, "slow_down": 429,
    "tokens": 429, "requests": 429, "resource_exhausted": 429, "throttlingexception": 429,
    "overloaded_error": 529, "server_is_overloaded": 503, "service_unavailable_error": 503,
    "authentication_error": 401, "invalid_api_key": 401, "permission_error": 403,
    "not_found_error": 404, "model_not_found": 404, "request_too_large": 413,
    "context_length_exceeded": 400, "data_residency_mismatch": 400,
}  # fmt: skip
_REJECTED_WORDS = re.compile(r"^invalid_|_policy(_|$)|image|unsupported")

_GPT_5_ON = re.compile(r"(ft:)?gpt-([5-9]|\d\d)")


def judge(
    status: int,
    headers: Mapping[str, str],
    body: object = None,
    *,
    provider: str = "openai",
    path: str = "",
    stream: bool = False,
    model: str = "",
    now_s: float | None = None,
) -> Verdict:
    """Read an answer.

    Args:
        status: of HTTP.
        headers: any mapping, names in any case; httpx's and httpx2's are read fastest.
        body: of an error, as parsed JSON, text or bytes; None where it was not read. Of a 2xx it
            is not looked at.
        provider: whose it is, by name. Its headers say more: the name only decides between two
            meanings of one header.
        path: of the call; with the next two it tells `Verdict.when`.
        stream: whether the call asked for a stream.
        model: that the call named.
        now_s: seconds since 1970, for dates in an answer that has no `date` of its own.
    """
    source, told = Source(provider, now_s), family.known(headers)
    when = _when(told, provider, path, stream=stream, model=model)
    if 200 <= status < 300:
        return Verdict(Outcome.SERVED, status, seen=family.seen(told, source), when=when)
    problem = problems.read(body, told.get("x-amzn-errortype", ""))
    if problem.headers:
        told = family.known(problem.headers) | told
    # What failed has come to no end at which more could have been charged.
    return _failed(status, status, told, problem, source, "start" if when == "start" else "either")


def judge_stream_error(error: StreamError, provider: str = "openai") -> Verdict:
    """Read an error that came inside a stream, after its status 200.

    The same rules as for an answer with the status that its code stands for.
    """
    told = family.known(error.headers)
    code = error.code.lower()
    problem = Problem(frozenset({code}), error.code, error.message)
    return _failed(200, _status_of(code), told, problem, Source(provider), "either")


def no_answer(error: BaseException) -> Verdict:
    """Say what a call that ended without an answer means; it may have been received or not."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an exception's text is its author's code
        message = ""
    return Verdict(Outcome.FAILED, 0, type(error).__name__, message[:2_000], again=True)


def _failed(
    status: int, meant: int, told: Told, problem: Problem, source: Source, when: When
) -> Verdict:
    """Make the verdict on an error of HTTP status `status`, which stands for `meant`."""
    outcome = _outcome(meant, problem)
    again = _again(outcome, told.get("x-should-retry", ""), problem)
    return Verdict(
        outcome,
        status,
        problem.code or f"http_{status}",
        problem.message or f"The server answered {status}.",
        again=again,
        wait_us=_wait_us(outcome, told, problem, source) if again else None,
        seen=family.seen(told, source),
        refused_by=refusals.refused_by(problem),
        when=when,
    )


def _outcome(status: int, problem: Problem) -> Outcome:
    if _is_unpaid(problem) or problem.names & _FORBIDDEN:
        return Outcome.DENIED
    if _TOO_LARGE.match(problem.message):
        return Outcome.REJECTED
    if _is_slow_down(status, problem):
        return Outcome.SLOW_DOWN
    if status == 429 or problem.names & _THROTTLED:
        return Outcome.REFUSED
    return _by_status(status)


def _by_status(status: int) -> Outcome:
    """Say what a status means that is no limit's; one that is none of HTTP's is a failure."""
    if status in {401, 402, 403}:
        return Outcome.DENIED
    if status in {408, 409} or status >= 500 or status < 200:
        return Outcome.FAILED
    return Outcome.REJECTED


def _is_unpaid(problem: Problem) -> bool:
    limits = _GOOGLE_LIMIT.findall(problem.message)
    return bool(
        problem.names & BILLING
        or _SPENT.search(problem.message)
        or (limits and not any(map(int, limits)))
    )


def _is_slow_down(status: int, problem: Problem) -> bool:
    if status not in {429, 503}:
        return False
    message = problem.message
    return bool(
        "slow_down" in problem.names or _SLOW_DOWN.match(message) or _ACCELERATION.search(message)
    )


def _again(outcome: Outcome, told: str, problem: Problem) -> bool:
    """Say whether another attempt may succeed; the provider's own word goes before the rule.

    But not for what lacks money, nor for what is larger than the limit: nothing can mend these.
    """
    word = told.strip().lower()
    if word == "true" and not _is_unpaid(problem) and not _TOO_LARGE.match(problem.message):
        return True
    return outcome in {Outcome.REFUSED, Outcome.SLOW_DOWN, Outcome.FAILED} and word != "false"


def _wait_us(outcome: Outcome, told: Told, problem: Problem, source: Source) -> int | None:
    """Return the wait that is asked for, or that a limit which is used up makes necessary.

    Azure's refusals say `retry-after-ms: 0` and `retry-after: 1` while nothing is left (recorded
    in 2026-08). Neither is a time: what a call needs is refilled within the renewal period at
    most, and Azure's quota guide has the count start anew with each. How much less would do
    depends on the call; and each refused attempt counts (the same guide), so guessing costs more
    than waiting.
    """
    asked_us = refusals.wait_us(told, problem, source)
    if outcome is not Outcome.REFUSED:
        return asked_us
    is_no_hint = asked_us is None or (told.get("retry-after-ms") == "0" and asked_us <= SECOND_US)
    emptied_us = family.exhausted_us(told, source) if is_no_hint else None
    return emptied_us or asked_us or _window_us(told, source)


def _window_us(told: Told, source: Source) -> int | None:
    """Return the time to the end of a window that is used up, as OpenRouter's 429s tell it."""
    text = told.get("x-ratelimit-reset")
    if text is None or told.get("x-ratelimit-remaining") != "0":
        return None
    span = durations.span(text)
    left_us = span.us if span else family.until_us(told, "x-ratelimit-reset", source)
    return min(left_us, refusals.LONGEST_WAIT_US) if left_us else None


def _status_of(code: str) -> int:
    if code.isascii() and code.isdigit() and len(code) == 3:
        return int(code)
    if (found := _STATUS_OF.get(code)) is not None:
        return found
    return 400 if _REJECTED_WORDS.search(code) else 500


def _when(told: Told, provider: str, path: str, *, stream: bool, model: str) -> When:
    """Say when the levels of an answer's headers were read.

    Mistral: at the end, `remaining` is net of the call's own cost (49 of 51 recorded; the others
    were audio). OpenAI, by recorded exchanges: chat completions at the start, gpt-5.6 as well;
    embeddings and legacy completions show what admission charges (94 of 101, 57 of 66); streams
    send their headers before they have an end. `/responses` of gpt-5 and later without a stream at
    the end: what is used is the output beyond the scaffold (18 of 18); of older models it is not
    known for certain.
    """
    if not told.keys().isdisjoint(family.MISTRAL_LIMITS):
        return "end"
    if provider != "openai":
        return "either"
    kind = endpoint(path)
    if kind in {"chat", "embeddings", "completions"} or (stream and kind == "responses"):
        return "start"
    return "end" if kind == "responses" and _GPT_5_ON.match(model) else "either"
