"""Whether an answer is worth another attempt, and when. Pure; no clock, jitter is an argument.

Sources: OpenAI's guides to rate limits and error codes: wait at least as long as the answer says
and add a little at random; never repeat what lack of money refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

BACKOFF_LEAST_S, BACKOFF_MOST_S = 0.5, 30.0

# A wait does not mend these (OpenAI's error-code guide; the last two are the older names).
_MONEY = frozenset({
    "credit_balance_exhausted", "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
})  # fmt: skip
_TOO_LARGE = re.compile(r"^Request too large")
_AGAIN = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:ms|[dhms]))+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say what to do with an answer that is no success.

    Attributes:
        code, message: for the errors file.
        again: another attempt may succeed.
        wait_s: what the answer asks to wait at least; None: it does not say.
    """

    code: str
    message: str
    again: bool
    wait_s: float | None = None


def judge(status: int, headers: Mapping[str, str], body: object, now: datetime) -> Verdict:
    """Read an answer of status 300 or above; `headers` finds names in any case, as httpx2's do."""
    error = _error(body)
    code = str(error.get("code") or error.get("type") or f"http_{status}")
    message = str(error.get("message") or f"The server answered {status}.")[:2000]
    again = status in (408, 409, 429) or status >= 500
    names = {str(error.get("code")), str(error.get("type"))}
    if names & _MONEY or _TOO_LARGE.match(message) or headers.get("x-should-retry") == "false":
        again = False
    return Verdict(code, message, again, wait_s(headers, message, now) if again else None)


def wait_s(headers: Mapping[str, str], message: str, now: datetime) -> float | None:
    """Return the seconds to wait that an answer tells, by the most exact of the ways it may.

    `retry-after-ms`, then the message's "try again in 1.352s", then `retry-after` (seconds, which
    OpenAI rounds up, or a date). A zero is no hint: Azure sends it beside a real `retry-after`.
    """
    told = [_number(headers.get("retry-after-ms"), 0.001)]
    if found := _AGAIN.search(message):
        told.append(sum(float(n) * _UNIT_S[unit] for n, unit in _PART.findall(found[1])))
    told.append(_number(headers.get("retry-after"), 1.0))
    told.append(_date(headers.get("retry-after"), now))
    return next((wait for wait in told if wait), None)


def _number(text: str | None, unit_s: float) -> float | None:
    if text is None or not re.fullmatch(r"\s*\d{1,12}(\.\d+)?\s*", text):
        return None
    return float(text) * unit_s


def _date(text: str | None, now: datetime) -> float | None:
    try:
        then = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - now).total_seconds())


def pause_s(attempt: int, told_s: float | None, jitter: float) -> float:
    """Return how long to wait before another attempt.

    Args:
        attempt: 0 after the first one failed.
        told_s: what the server asked for; up to a tenth of it, 1 s at most, is added.
        jitter: at random, from 0 to 1. Without a hint the whole backoff is random ("full
            jitter"), so that calls which failed together do not come back together.
    """
    if told_s is not None:
        return told_s + jitter * min(1.0, 0.05 + told_s / 10)
    return jitter * min(BACKOFF_MOST_S, BACKOFF_LEAST_S * 2.0**attempt)


def keeps_tokens(body: object) -> bool:
    """Say whether a 429 is about tokens, or does not say what it is about."""
    error = _error(body)
    text = f"{error.get('type')} {error.get('message')}"
    return "token" in text or not ("requests" in text or "RPM" in text or "RPD" in text)


def _error(body: object) -> Mapping[str, Any]:
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, Mapping) else {}
