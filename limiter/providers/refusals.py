"""Which limit refused a call, and how long it asks to wait: by the refusal's own words.

Pure; nothing here raises. The words are a provider's, in the error that `problems` has read; the
headers that stand beside them are read by `headers`.
"""

from __future__ import annotations

import re

from limiter.providers import durations, headers, problems
from limiter.providers.durations import GO, MS_US, SECOND_US
from limiter.providers.headers import Source, Told
from limiter.providers.oddities import oddities
from limiter.providers.problems import Problem
from limiter.providers.verdict import DAY_US, MINUTE_US, Seen
from limiter.providers.windows import HOUR_US

# No wait is longer, whatever an answer says: by then somebody has looked.
LONGEST_WAIT_US = DAY_US

# OpenAI cuts its waits down to the millisecond (13 of 13 messages of 2023 to 2026), so the true one
# is up to one longer; Google's `retryDelay` stands at 48s beside a message of 48.939935699s.
_CUT_US = MS_US

# OpenAI and Groq say "Limit 30000, Used 14567, Requested 24754."; others mark the thousands. In 2023
# it was "Limit: 10000 / min. Please try again in 6ms."
_NUMBER = r"([0-9]{1,3}(?:,[0-9]{3}){1,4}|[0-9]{1,15})(?:\.[0-9]{1,9})?(?: / [0-9a-z]{1,6})?"
_NUMBERS = re.compile(
    rf"Limit:? {_NUMBER}(?:[,.] Used:? {_NUMBER})?(?:[,.] Requested:? {_NUMBER})?"
)
_WHAT = re.compile(
    r"\((?P<tag>[A-Z]{3,4})\)"
    r"|(?P<units>input tokens|output tokens|tokens|requests|images) per (?P<per>min|hour|day)"
)
_WHAT_BEFORE = 120
_PERIODS = {"min": MINUTE_US, "hour": HOUR_US, "day": DAY_US}
_TAGS = {
    f"{unit}P{per[0].upper()}": (dimension, _PERIODS[per])
    for unit, dimension in (
        ("T", "tokens"),
        ("R", "requests"),
        ("I", "images"),
        ("IT", "input_tokens"),
        ("OT", "output_tokens"),
    )
    for per in _PERIODS
} | {"ASH": ("audio_seconds", HOUR_US), "ASD": ("audio_seconds", DAY_US)}  # Groq's, for speech

# "This request would exceed your organization's rate limit of 30,000 input tokens per minute" and
# "the rate limit for your organization (…) of 40,000 input tokens per minute" (Anthropic).
_ANTHROPIC = re.compile(
    rf"rate limit\b.{{0,120}}? of {_NUMBER} (input tokens|output tokens|tokens|requests) per minute"
)

_AGAIN_IN = re.compile(rf"(?:try again|retry) in ({GO})(?![0-9a-z])")
_AFTER = re.compile(
    r"(?:try again|retry) (?:in|after) ([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(second|minute|hour)"
)
_WORD_US = {"second": SECOND_US, "minute": MINUTE_US, "hour": HOUR_US}

# The arithmetic of Groq's messages holds within 3 ms; Used and Requested are whole units.
_ARITHMETIC_SLACK_US = 3 * MS_US


def refused_by(problem: Problem) -> Seen | None:
    """Return what a refusal's words tell of the limit that refused; None if they tell no number."""
    return _by_numbers(problem.message) or _by_violation(problem) or _anthropic(problem.message)


def _by_numbers(message: str) -> Seen | None:
    """Read OpenAI's and Groq's sentence.

    Its wait is (Used + Requested - Limit) x period / Limit, which makes it a bucket's (13 of 13
    of OpenAI's). Another provider's sentence of the same form may not agree: then it is none.
    """
    found = _NUMBERS.search(message)
    what = _what(message[: found.start()]) if found else None
    if found is None or what is None:
        return None
    dimension, period_us = what
    limit, used, requested = map(_whole, found.groups())
    if not limit:
        return None
    if used is None:
        return Seen(dimension, limit, period_us)
    unit_us = -(-period_us // limit)
    asked_us = _again_in_us(message)
    if requested is not None and asked_us is not None:
        off_us = (used + requested - limit) * period_us // limit - asked_us
        if abs(off_us) > unit_us + _ARITHMETIC_SLACK_US:
            return Seen(dimension, limit, period_us, limit - used, is_bucket=False)
    return Seen(dimension, limit, period_us, limit - used, used * period_us // limit, unit_us, True)


def _what(before: str) -> tuple[str, int] | None:
    """Return the dimension and the period that stand last before a limit's number."""
    for found in reversed([*_WHAT.finditer(before[-_WHAT_BEFORE:])]):
        if found["units"]:
            return found["units"].replace(" ", "_"), _PERIODS[found["per"]]
        if (what := _TAGS.get(found["tag"])) is not None:
            return what
    return None


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text.replace(",", ""))


def _anthropic(message: str) -> Seen | None:
    found = _ANTHROPIC.search(message)
    amount = _whole(found[1]) if found else None
    return Seen(found[2].replace(" ", "_"), amount) if found and amount else None


def _by_violation(problem: Problem) -> Seen | None:
    """Read Google's `QuotaFailure`: of several limits the longest, for it is the last to yield.

    Nothing is left of it. A day's limit is a window, which ends at midnight Pacific (Google's
    rate-limit guide); a minute's is not known to be a bucket.
    """
    violations = [v for d in problem.details for v in _list(d.get("violations"))]
    found = [seen for v in violations if (seen := _violation(v)) is not None]
    return max(found, key=lambda seen: seen.period_us, default=None)


def _violation(violation: object) -> Seen | None:
    quota = violation if isinstance(violation, dict) else {}
    name, value = quota.get("quotaId"), quota.get("quotaValue")
    if not isinstance(name, str) or value is None:
        return None
    amount = durations.count(problems.text_of(value))
    if amount is None:
        oddities.note("quotaValue", type(value).__name__)
    dimension = next((d for word, d in _GOOGLE if word in name), None)
    if not amount or dimension is None:
        return None
    is_daily = "PerDay" in name
    return Seen(dimension, amount, DAY_US if is_daily else MINUTE_US, 0,
                is_bucket=False if is_daily else None)  # fmt: skip


def keeps_tokens(body: object) -> bool:
    """Say whether a refusal is about tokens, or does not say what it is about.

    Then its tokens stay charged in the fleet's own bucket, which was too full by about so much.
    """
    problem = problems.read(body)
    refused = refused_by(problem)
    if refused is not None:
        return "token" in refused.dimension
    text = " ".join((*problem.names, problem.message))
    return "token" in text or not ("requests" in text or "RPM" in text or "RPD" in text)


# Parts of Google's `quotaId`, as in GenerateContentPaidTierInputTokensPerModelPerMinute and
# GenerateRequestsPerDayPerProjectPerModel-FreeTier; the first that is in it counts.
_GOOGLE = (
    ("InputToken", "input_tokens"),
    ("OutputToken", "output_tokens"),
    ("Token", "tokens"),
    ("Request", "requests"),
    ("Image", "images"),
)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def wait_us(told: Told, problem: Problem, source: Source) -> int | None:
    """Return how long an answer asks to wait at least, by the most exact of the ways it may.

    `retry-after-ms`, then the message's "try again in 1.352s", then Google's `retryDelay`, then
    `retry-after` (seconds, which OpenAI rounds up, or a date), then a text in words. A nought is no
    hint: Azure sends it beside a real `retry-after`.
    """
    ways = (
        _retry_after_ms(told),
        _again_in_us(problem.message, _CUT_US) or _again_in_us(problem.upstream, _CUT_US),
        _retry_delay_us(problem),
        _retry_after(told, source),
        _in_words_us(problem.message),
    )
    found = next((wait for wait in ways if wait), None)
    return None if found is None else min(found, LONGEST_WAIT_US)


def _retry_after_ms(told: Told) -> int | None:
    text = told.get("retry-after-ms")
    ms = None if text is None else durations.number(text)
    if text is not None and ms is None:
        oddities.note("retry-after-ms", text)
    return int(ms * MS_US) + _CUT_US if ms else None


def _again_in_us(message: str, more_us: int = 0) -> int | None:
    found = _AGAIN_IN.search(message)
    span = durations.span(found[1]) if found else None
    return span.us + more_us if span else None


def _retry_delay_us(problem: Problem) -> int | None:
    for detail in problem.details:
        text = detail.get("retryDelay")
        if text is None:
            continue
        span = durations.span(text) if isinstance(text, str) else None
        if span is not None:
            return span.us + (_CUT_US if "." in str(text) else SECOND_US)
        oddities.note("retryDelay", type(text).__name__)
    return None


def _retry_after(told: Told, source: Source) -> int | None:
    text = told.get("retry-after")
    seconds = None if text is None else durations.number(text)
    if seconds is not None:
        return int(seconds * SECOND_US)
    return headers.until_us(told, "retry-after", source)


def _in_words_us(message: str) -> int | None:
    found = _AFTER.search(message)
    return int(float(found[1]) * _WORD_US[found[2]]) if found else None
