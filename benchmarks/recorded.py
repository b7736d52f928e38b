"""Read recorded exchanges, and hold the formulas of admission and of resets against them.

    python -m benchmarks.recorded recorded_exchanges.jsonl

A line of the file is one exchange, reduced to numbers: provider, path, model, status, bytes of text,
messages, images, and the rate-limit headers as they came. It is read where it lies; the figures go
to `.bench/recorded.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from limiter.providers import Seen, Verdict, judge, oddities
from limiter.providers.headers import METERS
from limiter.providers.openai import chat_tokens

CHAT_SINCE = datetime(2025, 4, 1, tzinfo=UTC)
TOKENS_OFF, RESET_OFF_US = 2, 1_000
RESETS_WITHIN = 0.99
_INTO = Path(".bench/recorded.json")

Exchange = Mapping[str, Any]
_LIMITS, _RESETS = {meter.limit for meter in METERS}, {meter.reset for meter in METERS}
_PERIODS = {1: "1 s", 10: "10 s", 60: "minute", 3_600: "hour", 86_400: "day", 2_592_000: "month"}


@dataclass(slots=True)
class Provider:
    """Count what one provider's answers told: whether of a bucket, and of which periods."""

    exchanges: int = 0
    limits: int = 0
    buckets: dict[str, int] = field(default_factory=dict)
    periods: dict[str, int] = field(default_factory=dict)

    def add(self, seen: Iterable[Seen]) -> None:
        """Count an exchange and the limits in it."""
        self.exchanges += 1
        for one in seen:
            self.limits += 1
            _count(self.buckets, {True: "yes", False: "no", None: "unknown"}[one.is_bucket])
            _count(self.periods, _PERIODS[one.period_us // 1_000_000])


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


@dataclass(slots=True)
class Survey:
    """Hold what a file of exchanges shows.

    Attributes:
        parsed: exchanges of which each limit that their headers tell was read.
        odd: headers that could not be read.
        chats, chats_near: OpenAI's chat completions since 2025-04, and those that took their
            estimate from the bucket, give or take 2 tokens.
        resets: that headers of OpenAI and Groq tell.
        resets_near: those within 1 ms of used / amount x period, where what is used lies within
            the unit that `remaining` is cut down by.
        resets_plain: those within 1 ms of it as if `remaining` were exact.
    """

    exchanges: int = 0
    parsed: int = 0
    odd: int = 0
    chats: int = 0
    chats_near: int = 0
    resets: int = 0
    resets_near: int = 0
    resets_plain: int = 0
    providers: dict[str, Provider] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Say whether the three figures are what they must be, and there is something behind each."""
        return (
            self.parsed == self.exchanges > 0
            and not self.odd
            and self.chats_near == self.chats > 0
            and self.resets_near >= RESETS_WITHIN * self.resets > 0
        )


def survey(rows: Iterable[Exchange]) -> Survey:
    """Read exchanges as a limited client would have, and count."""
    found, before = Survey(), sum(oddities.count.values())
    for row in rows:
        verdict = _judged(row)
        found.exchanges += 1
        found.parsed += len(verdict.seen) == sum(name in _LIMITS for name in row["headers"])
        found.providers.setdefault(row["provider"], Provider()).add(verdict.seen)
        _count_chat(found, row, verdict)
        if row["provider"] in {"openai", "groq"}:
            found.resets += sum(name in _RESETS for name in row["headers"])
            for off_us, unit_us in _resets(verdict):
                found.resets_plain += abs(off_us) <= RESET_OFF_US
                found.resets_near += -RESET_OFF_US <= off_us <= unit_us + RESET_OFF_US
    found.odd = sum(oddities.count.values()) - before
    return found


def _judged(row: Exchange) -> Verdict:
    return judge(
        row.get("status", 200),
        row["headers"],
        provider=row["provider"],
        path=row["path"],
        stream=bool(row["stream"]),
        model=row["model"] or "",
    )


def _count_chat(found: Survey, row: Exchange, verdict: Verdict) -> None:
    """Hold what a chat completion took from an idle bucket against its estimate."""
    is_chat = row["provider"] == "openai" and row["path"] == "/v1/chat/completions"
    if not is_chat or parsedate_to_datetime(row["headers"]["date"]) < CHAT_SINCE:
        return
    for one in verdict.seen:
        if (one.dimension, one.scope) == ("tokens", "") and one.remaining is not None:
            estimate = chat_tokens(row["text_utf8_bytes"], row["n_messages"], row["n_images"])
            found.chats += 1
            found.chats_near += abs(one.amount - one.remaining - estimate) <= TOKENS_OFF


def _resets(verdict: Verdict) -> Iterator[tuple[float, float]]:
    """Yield how far each reset is below used / amount x period, and the time of one unit."""
    for one in verdict.seen:
        if one.full_us is not None and one.remaining is not None:
            unit_us = one.period_us / one.amount
            yield (one.amount - one.remaining) * unit_us - one.full_us, unit_us


def read(path: Path) -> Iterator[Exchange]:
    """Yield the exchanges of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def table(found: Survey) -> str:
    """Give a line per provider, and the three figures."""
    lines = [f"{'provider':<10}{'n':>5}{'limits':>8}{'bucket':>8}{'no':>5}{'unknown':>9}  periods"]
    for name, one in sorted(found.providers.items(), key=lambda item: -item[1].exchanges):
        bucket = one.buckets
        ordered = sorted(one.periods.items(), key=lambda item: -item[1])
        periods = ", ".join(f"{period} {n}" for period, n in ordered)
        lines.append(
            f"{name:<10}{one.exchanges:>5}{one.limits:>8}{bucket.get('yes', 0):>8}{bucket.get('no', 0):>5}"
            f"{bucket.get('unknown', 0):>9}  {periods}"
        )
    return "\n".join([*lines, "", *_figures(found)])


def _figures(found: Survey) -> Iterator[str]:
    yield f"parsed: {found.parsed:,} of {found.exchanges:,} exchanges, {found.odd} oddities"
    yield (
        f"admission cost of OpenAI chat since {CHAT_SINCE:%Y-%m}: within ±{TOKENS_OFF} tokens on "
        f"{found.chats_near:,} of {found.chats:,}"
    )
    yield (
        f"reset arithmetic of OpenAI and Groq: within 1 ms on {found.resets_near:,} of "
        f"{found.resets:,} ({_percent(found.resets_near, found.resets)}), by the whole units that "
        f"`remaining` is cut down to;"
    )
    yield (
        f"  taking `remaining` as exact: on {found.resets_plain:,} "
        f"({_percent(found.resets_plain, found.resets)}), the reset being the finer of the two"
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def main() -> int:
    """Print the table; return 1 if a figure is not what it must be."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("exchanges", type=Path)
    found = survey(read(parser.parse_args().exchanges))
    print(table(found))
    _INTO.parent.mkdir(exist_ok=True)
    _INTO.write_text(json.dumps(asdict(found), indent=2) + "\n")
    return 0 if found.met else 1


if __name__ == "__main__":
    sys.exit(main())
