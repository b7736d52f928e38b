"""What the headers of an answer tell of the limits, whoever sent them.

Which provider it was is told by the headers that are there: OpenAI's names are spoken by many, at
base URLs of their own. The provider's name only decides where the same header means two things.
Nothing here raises; what cannot be read of a known header is ignored and counted (`oddities`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from limiter.providers import durations
from limiter.providers.durations import SECOND_US, Span
from limiter.providers.oddities import oddities
from limiter.providers.verdict import DAY_US, MINUTE_US, Seen
from limiter.providers.windows import TEN_SECONDS_US, Reading, window

MONTH_US = 30 * DAY_US
_LATEST_S = 253_402_300_799  # the end of the year 9999, as far as dates go

# Azure answers -1 where it does not know (reported by users of its .NET client, 2025-11).
_NOT_TOLD = "-1"

# Anthropic's rate-limit guide: remaining tokens are rounded to the nearest thousand.
_ANTHROPIC_ROUNDING = 1_000
# Its resets and its `date` are whole seconds, each up to one off.
_ANTHROPIC_SLACK_US = 2 * SECOND_US

Told = dict[str, str]


class Source(NamedTuple):
    """Hold what an answer's headers are read by, beside themselves."""

    provider: str = ""
    now_s: float | None = None


@dataclass(frozen=True, slots=True)
class Meter:
    """Name the headers of one limit, and how they are read.

    Attributes:
        dimension, scope: as in `Seen`.
        limit, remaining, reset, renewal: names of headers, in lower case; "" for one that is not
            sent. Without `limit` there is nothing to read.
        read: makes a `Seen` of them, or None.
        period_us: of the limit, where the names or the provider's documents say it.
        rounding: the remaining units are told to the nearest multiple of it.
    """

    dimension: str
    limit: str
    remaining: str
    reset: str
    read: Callable[[Meter, Told, Source], Seen | None]
    renewal: str = ""
    period_us: int = MINUTE_US
    rounding: int = 1
    scope: str = ""

    def seen(
        self,
        amount: int,
        remaining: int | None,
        *,
        period_us: int | None = None,
        full_us: int | None = None,
        slack_us: int = 0,
        is_bucket: bool | None = None,
    ) -> Seen:
        """Make what was seen of this limit."""
        return Seen(
            self.dimension,
            amount,
            self.period_us if period_us is None else period_us,
            remaining,
            full_us,
            slack_us,
            is_bucket,
            self.scope,
        )


def _level(meter: Meter, told: Told) -> tuple[int | None, int | None]:
    """Return a limit and what remains of it; no limit where it is none or nought."""
    amount = counted(told, meter.limit)
    if amount == 0:
        oddities.note(meter.limit, told[meter.limit])
    return amount or None, counted(told, meter.remaining)


def counted(told: Told, name: str) -> int | None:
    """Read the whole number that a header tells; None if it tells none."""
    text = told.get(name)
    if text is None or text == _NOT_TOLD:
        return None
    found = durations.count(text)
    if found is None:
        oddities.note(name, text)
    return found


def _span(told: Told, name: str) -> Span | None:
    text = told.get(name)
    if text is None:
        return None
    found = durations.span(text)
    if found is None:
        oddities.note(name, text)
    return found


def _unit_us(amount: int, period_us: int, units: int = 1) -> int:
    """Return the time in which so many units are refilled, rounded up."""
    return -(-units * period_us // amount)


def _openai(meter: Meter, told: Told, source: Source) -> Seen | None:
    """Read the headers that OpenAI, Groq and Azure send, and many others (xAI: without a reset)."""
    amount, remaining = _level(meter, told)
    if amount is None:
        return None
    azure = meter.renewal in told or source.provider == "azure"
    # Groq's requests are per day and its tokens per minute (Groq's rate-limit guide).
    daily = meter.dimension == "requests" and source.provider in {"openai", "groq"}
    expected_us = DAY_US if daily and source.provider == "groq" else meter.period_us
    if remaining is None or meter.reset not in told:
        return meter.seen(amount, remaining, period_us=expected_us)
    if azure:
        return _azure(meter, told, amount, remaining)
    reset = _span(told, meter.reset)
    if reset is None:
        return meter.seen(amount, remaining, period_us=expected_us)
    return _by_reset(meter, Reading(amount, max(0, amount - remaining), *reset), remaining,
                     expected_us, daily=daily)  # fmt: skip


def _by_reset(
    meter: Meter, reading: Reading, remaining: int, expected_us: int, *, daily: bool
) -> Seen:
    """Take a bucket's level from its reset, which is finer than the whole units that remain.

    Only where the reset is in whole seconds the units may be the finer ones.
    """
    amount, used, reset_us, grain_us = reading
    period_us, is_bucket = window(reading, expected_us, daily=daily)
    if used == 0 and is_bucket is None:
        return meter.seen(amount, remaining, period_us=period_us, full_us=0, slack_us=grain_us)
    if not is_bucket:
        return meter.seen(amount, remaining, period_us=period_us, is_bucket=is_bucket)
    unit_us = _unit_us(amount, period_us)
    if grain_us >= SECOND_US > unit_us:
        reset_us, grain_us = used * period_us // amount, unit_us
    return Seen(
        meter.dimension, amount, period_us, remaining, reset_us, grain_us, True, meter.scope
    )


def _azure(meter: Meter, told: Told, amount: int, remaining: int) -> Seen:
    """Derive the level from the units that remain: the reset's unit differs by deployment.

    Recorded: milliseconds (500 for one of 120 requests), and whole seconds (30 for half of 1.5
    million tokens). Where it agrees with a bucket in one of both, that is a bucket's; a nought is
    told by a full level as by an exhausted one. The limit is per minute even where the renewal
    period is 10 s: a deployment with such a one told 9,000 requests beside 1,500,000 tokens, and
    Azure's quota guide grants 6 requests per minute for each 1,000 tokens per minute.
    """
    period_us = max(meter.period_us, renewal_us(meter, told))
    used = max(0, amount - remaining)
    full_us, unit_us = used * period_us // amount, _unit_us(amount, period_us)
    reset = _span(told, meter.reset)
    agrees = reset is not None and reset.us > 0 and any(
        abs(reset.us // per_second - full_us) <= unit_us + SECOND_US // per_second
        for per_second in (1, 1_000)
    )  # fmt: skip
    return meter.seen(amount, remaining, period_us=period_us, full_us=full_us, slack_us=unit_us,
                      is_bucket=True if agrees else None)  # fmt: skip


def renewal_us(meter: Meter, told: Told) -> int:
    """Return the time after which Azure counts anew: what it says, from a second to a day."""
    seconds = counted(told, meter.renewal)
    return min(max(seconds, 1) * SECOND_US, DAY_US) if seconds is not None else MINUTE_US


def _anthropic(meter: Meter, told: Told, source: Source) -> Seen | None:
    """Derive the level from the units that remain, and hold the reset against it.

    A bucket by Anthropic's rate-limit guide ("continuously replenished"); the reset is the moment
    at which it is full, so it is read by the answer's own clock.
    """
    amount, remaining = _level(meter, told)
    if amount is None:
        return None
    reset_us = until_us(told, meter.reset, source)
    if remaining is None or meter.reset not in told:
        return meter.seen(amount, remaining)
    full_us = max(0, amount - remaining) * meter.period_us // amount
    # To the nearest thousand is half of it to either side; whole units are cut down to.
    slack_us = _unit_us(amount, meter.period_us, max(1, meter.rounding // 2))
    if reset_us is not None and abs(reset_us - full_us) > slack_us + _ANTHROPIC_SLACK_US:
        return meter.seen(amount, remaining)
    return meter.seen(amount, remaining, full_us=full_us, slack_us=slack_us,
                      is_bucket=None if reset_us is None else True)  # fmt: skip


def _told(meter: Meter, told: Told, source: Source) -> Seen | None:  # noqa: ARG001
    """Read a limit that comes without a reset, as Mistral's do: the units are all there is."""
    amount, remaining = _level(meter, told)
    return None if amount is None else meter.seen(amount, remaining)


def _plain(meter: Meter, told: Told, source: Source) -> Seen | None:
    """Read `x-ratelimit-limit` and the like, which name no dimension: requests.

    Together: per second (its documents), with resets of whole seconds that tell nothing of it.
    OpenRouter: a window of a minute or of a day (its documents), with the moment of its end.
    """
    amount, remaining = _level(meter, told)
    if amount is None:
        return None
    if source.provider == "together" or _TOGETHER_ONLY in told:
        return meter.seen(amount, remaining, period_us=SECOND_US)
    text = told.get(meter.reset, "")
    if durations.moment_us(text) is not None:
        left_us = until_us(told, meter.reset, source) or 0
        period_us = MINUTE_US if left_us <= MINUTE_US else DAY_US
        return meter.seen(amount, remaining, period_us=period_us, is_bucket=False)
    reset = _span(told, meter.reset)
    if reset is None or remaining is None:
        return meter.seen(amount, remaining)
    reading = Reading(amount, max(0, amount - remaining), *reset)
    return _by_reset(meter, reading, remaining, meter.period_us, daily=False)


def until_us(told: Told, name: str, source: Source) -> int | None:
    """Return how long it is until the moment that a header tells, by the answer's own `date`.

    So a client whose clock is an hour off changes nothing. Without a `date` the client's clock has
    to do. Not below 0; None: no moment, or no clock.
    """
    text = told.get(name)
    if text is None:
        return None
    moment_us, now_us = durations.moment_us(text), _now_us(told, source)
    if moment_us is None:
        oddities.note(name, text)
    return None if moment_us is None or now_us is None else max(0, moment_us - now_us)


def _now_us(told: Told, source: Source) -> int | None:
    text = told.get("date")
    if text is not None:
        now_us = durations.moment_us(text)
        if now_us is not None:
            return now_us
        oddities.note("date", text)
    now_s = source.now_s
    # The comparison leaves out NaN, and numbers that are no time.
    return int(now_s * SECOND_US) if now_s is not None and 0 <= now_s <= _LATEST_S else None


def _openai_meter(suffix: str, dimension: str, scope: str = "") -> Meter:
    limit, remaining, reset, renewal = (
        f"x-ratelimit-{part}-{suffix}" for part in ("limit", "remaining", "reset", "renewalperiod")
    )
    return Meter(dimension, limit, remaining, reset, _openai, renewal=renewal, scope=scope)


def _anthropic_meter(name: str) -> Meter:
    limit, remaining, reset = (
        f"anthropic-ratelimit-{name}-{part}" for part in ("limit", "remaining", "reset")
    )
    rounding = 1 if name == "requests" else _ANTHROPIC_ROUNDING
    dimension = name.replace("-", "_")
    return Meter(dimension, limit, remaining, reset, _anthropic, rounding=rounding)


def _mistral_meter(suffix: str, dimension: str, period_us: int = MINUTE_US) -> Meter:
    limit, remaining = (f"x-ratelimit-{part}-{suffix}" for part in ("limit", "remaining"))
    return Meter(dimension, limit, remaining, "", _told, period_us=period_us)


_TOGETHER_ONLY = "x-tokenlimit-limit"
_MISTRAL = (
    _mistral_meter("req-minute", "requests"),
    _mistral_meter("req-10-second", "requests", TEN_SECONDS_US),
    _mistral_meter("tokens-minute", "tokens"),
    _mistral_meter("tokens-month", "tokens", MONTH_US),
    _mistral_meter("audio-seconds-minute", "audio_seconds"),
    _mistral_meter("ocr-pages-minute", "ocr_pages"),
    _mistral_meter("input-characters-minute", "input_characters"),
)
# Every family of which headers are known. Left out on purpose: OpenAI's -tokens_usage_based (2023
# only), Anthropic's -priority- and -fast- (of service tiers), Mistral's -query-cost (of one call).
METERS: tuple[Meter, ...] = (
    _openai_meter("requests", "requests"),
    _openai_meter("tokens", "tokens"),
    _openai_meter("project-requests", "requests", "project"),
    _openai_meter("project-tokens", "tokens", "project"),
    _openai_meter("input-images", "input_images"),
    *map(_anthropic_meter, ("requests", "tokens", "input-tokens", "output-tokens")),
    *_MISTRAL,
    Meter("requests", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", _plain),
    Meter(
        "tokens", _TOGETHER_ONLY, "x-tokenlimit-remaining", "x-tokenlimit-reset", _told,
        period_us=SECOND_US,
    ),
)  # fmt: skip
_BY_LIMIT = {meter.limit: meter for meter in METERS}
_OTHERS = ("date", "retry-after", "retry-after-ms", "x-should-retry", "x-amzn-errortype")
_NAMES = (
    {n for m in METERS for n in (m.limit, m.remaining, m.reset, m.renewal) if n} | {*_OTHERS}
)  # fmt: skip
_KNOWN = {name: name for name in _NAMES} | {name.encode(): name for name in _NAMES}
MISTRAL_LIMITS = frozenset(meter.limit for meter in _MISTRAL)


def known(headers: object) -> Told:
    """Return the headers that are known here, by names in lower case.

    Cost: one look per header. Of httpx's headers the bytes are taken as they came: their own
    look-ups decode and compare each header anew (5.5 us for six names of 23, against 2).
    """
    raw = getattr(headers, "raw", None)
    pairs: Iterable[Any] = raw if isinstance(raw, list) else _items(headers)
    name_of = _KNOWN.get
    told: Told = {}
    for name, value in [(name, v) for k, v in pairs if (name := name_of(k.lower())) is not None]:
        text = value if isinstance(value, str) else _text(value)
        if text is not None:
            told.setdefault(name, text)
        else:
            oddities.note(name, type(value).__name__)
    return told


def _items(headers: object) -> Iterable[Any]:
    found = headers.items() if isinstance(headers, Mapping) else ()
    return [pair for pair in found if isinstance(pair[0], (str, bytes))]


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    # A test's or a gateway's dict may hold numbers; of other shapes no provider's client is known.
    return str(value) if isinstance(value, (int, float)) and -1 <= value < 2**50 else None


def seen(told: Told, source: Source) -> tuple[Seen, ...]:
    """Return what the headers tell of each limit."""
    found = []
    for name in told:
        meter = _BY_LIMIT.get(name)
        if meter is not None and (one := meter.read(meter, told, source)) is not None:
            found.append(one)
    return tuple(found)


def exhausted_us(told: Told, source: Source) -> int | None:
    """Return the longest renewal period of those limits of Azure's that nothing is left of."""
    empty = [
        renewal_us(meter, told)
        for name in told
        if (meter := _BY_LIMIT.get(name)) is not None
        and (meter.renewal in told or (source.provider == "azure" and meter.renewal))
        and told.get(meter.remaining) == "0"
    ]
    return max(empty, default=None)
