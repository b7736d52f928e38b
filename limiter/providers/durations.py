"""Times as providers write them, made whole microseconds: Go durations, seconds, dates.

Pure; nothing here raises, whatever the text: what cannot be read is None. A text is short, or it
is no time, so that neither work nor the caches can be made to grow by a long one.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

MS_US, SECOND_US = 1_000, 1_000_000
_LONGEST_TEXT = 64
# Nothing that a limit or a refusal tells is longer than a month; a year is past any doubt.
_LONGEST_US = 366 * 86_400 * SECOND_US
# A bare number from here on is a moment, not a span: seconds since 1970 (2001-09-09 is 10^9), or
# milliseconds, as OpenRouter's reset is.
_EPOCH_S, _EPOCH_MS = 10**9, 10**12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,20})?")
GO = r"(?:[0-9]{1,12}(?:\.[0-9]{1,20})?(?:ms|us|µs|μs|ns|[dhms]))+"
_GO = re.compile(GO)
_PART = re.compile(r"([0-9.]+)(ms|us|µs|μs|ns|[dhms])")
_UNIT_US = {
    "d": 86_400e6,
    "h": 3_600e6,
    "m": 60e6,
    "s": 1e6,
    "ms": 1e3,
    "us": 1.0,
    "µs": 1.0,
    "μs": 1.0,
    "ns": 1e-3,
}


class Span(NamedTuple):
    """Hold a span of time, and how far the true one may be from it."""

    us: int
    grain_us: int


def count(text: str) -> int | None:
    """Read a whole number of units from 0 on, in ASCII digits."""
    if not text.isdigit():
        text = text.strip()
    return int(text) if text.isdigit() and text.isascii() and len(text) <= 15 else None


def number(text: str) -> float | None:
    """Read a decimal number from 0 on; signs, exponents, `nan` and `inf` are none."""
    text = text.strip()
    return float(text) if len(text) <= _LONGEST_TEXT and _NUMBER.fullmatch(text) else None


def span(text: str) -> Span | None:
    """Read how long something lasts: `1m13.588s`, `6ms`, or bare seconds.

    Go durations are cut down to the millisecond (1,526 of 1,526 recorded by OpenAI). Bare seconds
    are exact to one if whole, else to a millisecond.
    """
    return _span(text) if len(text) <= _LONGEST_TEXT else None


@lru_cache(4096)  # resets repeat: the same few values make up most of a day's answers
def _span(text: str) -> Span | None:
    text = text.strip()
    if (seconds := number(text)) is not None:
        us, grain_us = seconds * SECOND_US, (MS_US if "." in text else SECOND_US)
    elif (told_us := _go_us(text)) is not None:
        us, grain_us = told_us, MS_US
    else:
        return None
    # Half a nanosecond, or 17.379 s would be 17,378,999 us: binary fractions fall short.
    return Span(int(us + 0.0005), grain_us) if us <= _LONGEST_US else None


def _go_us(text: str) -> float | None:
    if not _GO.fullmatch(text):
        return None
    return math.fsum(float(n) * _UNIT_US[unit] for n, unit in _PART.findall(text))


def moment_us(text: str) -> int | None:
    """Read a moment, as microseconds since 1970: RFC 3339, an HTTP date, or a Unix time."""
    return _moment_us(text) if len(text) <= _LONGEST_TEXT else None


@lru_cache(256)  # `date` and whole-second resets change once a second
def _moment_us(text: str) -> int | None:
    text = text.strip()
    if (stamp := number(text)) is not None:
        return _unix_us(stamp)
    try:
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else _http_date(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _unix_us(stamp: float) -> int | None:
    if stamp < _EPOCH_S:
        return None
    return int(stamp * (MS_US if stamp >= _EPOCH_MS else SECOND_US))


def _http_date(text: str) -> datetime:
    """Read the date of RFC 9110, in any of its three formats.

    Raises:
        ValueError, TypeError, IndexError, OverflowError: it is none.
    """
    # Late: few answers tell a moment, and the module brings sockets along.
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(text)
