"""What five kinds of providers tell of their limits in headers. Pure text and arithmetic.

A family says how limits are told, and how a refused call is told to wait. What it does not tell
here is told nowhere: no family may hint at more than its model does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from limiter.mock.wire import go_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from limiter.mock.meters import View

Headers = dict[str, str]


class Told(NamedTuple):
    """Be what headers can tell.

    Attributes:
        period_us: the period of the limits.
        unix_us: the time.
        charged_tokens: what the call was charged so far; None if it was not admitted.
    """

    views: Mapping[str, View]
    period_us: int
    unix_us: int
    charged_tokens: int | None = None


class Family(NamedTuple):
    """Be one way of telling.

    Attributes:
        limits: give the headers of every answer.
        wait: give those that a 429 has beside them, from the wait in microseconds (None: waiting
            would not help) and the dimension that refused (None: it was no limit of those told).
    """

    limits: Callable[[Told], Headers]
    wait: Callable[[int | None, str | None], Headers]


def openai_limits(told: Told) -> Headers:
    """Give x-ratelimit-{limit,remaining,reset}-{requests,tokens}, resets as Go durations."""
    headers = {}
    for name, view in told.views.items():
        headers[f"x-ratelimit-limit-{name}"] = str(view.limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(view.remaining)
        headers[f"x-ratelimit-reset-{name}"] = go_duration(view.reset_us)
    return headers


def openai_wait(wait_us: int | None, _dimension: str | None) -> Headers:
    """Give retry-after in whole seconds, rounded up, and retry-after-ms, rounded down.

    So they were seen: "20" with "19363". Nothing when waiting would not help.
    """
    if wait_us is None:
        return {}
    return {"retry-after": _seconds(wait_us), "retry-after-ms": str(wait_us // 1_000)}


def _seconds(wait_us: int) -> str:
    return str(max(1, -(-wait_us // 1_000_000)))


def azure_limits(told: Told) -> Headers:
    """Give OpenAI's names, with resets as bare milliseconds and the period in seconds.

    48 recorded responses of 2026-03-31, on 120 requests and 120,000 tokens a minute: a call of 14
    tokens was told resets of 500 and 7, and a renewal period of 60. (Other deployments tell 0, 1
    or 30.)
    """
    headers = {}
    for name, view in told.views.items():
        headers[f"x-ratelimit-limit-{name}"] = str(view.limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(view.remaining)
        headers[f"x-ratelimit-reset-{name}"] = str(view.reset_us // 1_000)
        headers[f"x-ratelimit-renewalperiod-{name}"] = str(max(1, told.period_us // 1_000_000))
    return headers


def azure_wait(_wait_us: int | None, dimension: str | None) -> Headers:
    """Give a hint that helps nobody, whatever the wait, as recorded on 2026-08-19.

    `retry-after: 1` with `retry-after-ms: 0`, and a remaining and a reset of 0.
    """
    headers = {"retry-after": "1", "retry-after-ms": "0"}
    if dimension is not None:
        headers[f"x-ratelimit-remaining-{dimension}"] = "0"
        headers[f"x-ratelimit-reset-{dimension}"] = "0"
    return headers


def anthropic_limits(told: Told) -> Headers:
    """Give anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}.

    By Anthropic's rate-limits page and 268 recorded responses: the reset is a time in RFC 3339 with
    whole seconds, and remaining tokens are rounded to the nearest 1,000. Which way the reset is
    rounded is not known: up, because a reset that is told too early would be worse.
    """
    headers = {}
    for name, view in told.views.items():
        left = view.remaining
        if name == "tokens":
            left = min(view.limit, (left + 500) // 1_000 * 1_000)
        reset = datetime.fromtimestamp(-(-(told.unix_us + view.reset_us) // 1_000_000), UTC)
        headers[f"anthropic-ratelimit-{name}-limit"] = str(view.limit)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(left)
        headers[f"anthropic-ratelimit-{name}-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers


def anthropic_wait(wait_us: int | None, _dimension: str | None) -> Headers:
    """Give retry-after in seconds."""
    return {} if wait_us is None else {"retry-after": _seconds(wait_us)}


def mistral_limits(told: Told) -> Headers:
    """Give limits and what remains under names that have the period, and the call's own cost.

    Recorded responses of 2025-09 to 2026-08: -req-minute (older: -req-10-second), -tokens-minute,
    -tokens-query-cost, of which `remaining` is already net; no reset.
    """
    period_s = told.period_us / 1_000_000
    unit = "minute" if period_s == 60 else f"{period_s:g}-second"
    headers = {}
    for name, view in told.views.items():
        short = "req" if name == "requests" else name
        headers[f"x-ratelimit-limit-{short}-{unit}"] = str(view.limit)
        headers[f"x-ratelimit-remaining-{short}-{unit}"] = str(view.remaining)
    if told.charged_tokens is not None:
        headers["x-ratelimit-tokens-query-cost"] = str(told.charged_tokens)
    return headers


def _nothing(*_: object) -> Headers:
    return {}


# How Mistral tells a refused call to wait was not recorded: not at all is the harder case.
FAMILIES: Mapping[str, Family] = {
    "openai": Family(openai_limits, openai_wait),
    "azure": Family(azure_limits, azure_wait),
    "anthropic": Family(anthropic_limits, anthropic_wait),
    "mistral": Family(mistral_limits, _nothing),
    "none": Family(_nothing, _nothing),
}
