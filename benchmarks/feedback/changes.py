"""A provider whose limits nobody has told us, that halves and doubles them, and serves others too.

Four processes with no numbers before a bucket of a minute, as OpenAI's is. Its level counts when the
limit changes: what is used stays used. So half the limit leaves a debt of half the old one, which
takes a minute to be repaid, and the doubled one gives half of itself at once.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from benchmarks.feedback import picture
from benchmarks.feedback.callers import MODEL, Crew, Job, fleet
from benchmarks.feedback.server import Arrival, Provider, provider
from benchmarks.report import Row
from limiter import Limiter, Quota
from limiter.mock import MockConfig

MEAN_TOKENS = 300
CALLS_PER_S = 40
TPM = CALLS_PER_S * 60 * MEAN_TOKENS
# Tokens run out first; requests are there to be learned beside them.
RPM = CALLS_PER_S * 90
LATENCY_S = 0.3
SETTLED_S = 5.0  # after a change, before utilisation counts
WINDOW_S = 5.0  # in which a rate is measured: 200 calls
NEAR = 0.05  # of the fair rate
LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Phase:
    """Say what holds from one change to the next.

    Attributes:
        share: of the full limit.
        foreign: the part of the limit that others ask for.
    """

    name: str
    lasts_s: float
    share: float = 1.0
    foreign: float = 0.0

    @property
    def rate(self) -> float:
        """Return what the provider gives, in tokens a second."""
        return TPM / 60 * self.share

    @property
    def fair(self) -> float:
        """Return what is ours of it."""
        return self.rate * (1 - self.foreign)


LONG = (
    Phase("learn", 25.0),
    Phase("steady", 25.0),
    Phase("halved", 95.0, share=0.5),
    Phase("doubled", 35.0),
    Phase("foreign 50 %", 45.0, foreign=0.5),
    Phase("foreign gone", 35.0),
)
SHORT = (
    Phase("learn", 12.0),
    Phase("foreign 50 %", 12.0, foreign=0.5),
    Phase("foreign gone", 12.0),
)


class Look(NamedTuple):
    """Hold both levels of the tokens at one moment; ours is None while it is not learned."""

    at_s: float
    theirs: float
    ours: float | None
    guard: float
    amount: int


@dataclass(slots=True)
class Record:
    """Hold what happened in a run, by the machine's clock."""

    phases: Sequence[Phase]
    begin_s: float
    arrivals: list[Arrival] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def spans(self) -> Iterator[tuple[Phase, float, float]]:
        """Give each phase with its begin and end."""
        at_s = self.begin_s
        for phase in self.phases:
            yield phase, at_s, at_s + phase.lasts_s
            at_s += phase.lasts_s

    def within(self, since_s: float, until_s: float, who: str = "") -> list[Arrival]:
        """Return the calls that came in a span, of all or of one kind."""
        return [a for a in self.arrivals if since_s <= a.came_s < until_s and who in a.who]

    def level_at(self, at_s: float) -> float:
        """Return the provider's level at a moment, by the look after it."""
        found = bisect.bisect_left(self.looks, at_s, key=lambda look: look.at_s)
        return self.looks[min(found, len(self.looks) - 1)].theirs


def refused(arrivals: Sequence[Arrival]) -> int:
    """Count the 429s."""
    return sum(a.status == 429 for a in arrivals)


def tokens(arrivals: Sequence[Arrival]) -> int:
    """Add up what was served."""
    return sum(a.tokens for a in arrivals if a.status == 200)


# --- the run ------------------------------------------------------------------------------------


def _look(limiter: Limiter, server: Provider) -> Look:
    label = "tokens/minute"
    theirs = server.level()
    found = limiter.peek(MODEL).limits.get(label)
    if found is None:
        return Look(time.time(), theirs, None, 0, 0)
    # A level of ours leaves the headroom out, which the provider's has.
    headroom = found.limit.amount - found.limit.capacity
    return Look(time.time(), theirs, found.level + headroom, found.guard, found.limit.amount)


@contextmanager
def _watched(url: str, server: Provider, looks: list[Look]) -> Iterator[None]:
    """Look at both levels every quarter of a second."""
    over = threading.Event()

    def watch() -> None:
        with Limiter(url, quotas=[Quota(MODEL)]) as limiter:
            while not over.wait(LOOK_S):
                looks.append(_look(limiter, server))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _foreign(phases: Sequence[Phase], base_url: str) -> list[Job]:
    """Let one process without a limiter call at an even pace, whatever it is answered."""
    at_s, spans = 0.0, []
    for phase in phases:
        if phase.foreign:
            spans.append((at_s, at_s + phase.lasts_s))
        at_s += phase.lasts_s
    rate = max(phase.foreign * phase.share for phase in phases) * CALLS_PER_S
    job = Job("foreign", base_url, mean_tokens=MEAN_TOKENS, spans=tuple(spans), rate=rate, seed=2)
    return [job] if spans else []


def run(url: str, phases: Sequence[Phase] = LONG, *, drained: bool = False) -> Record:
    """Let the fleet meet all phases."""
    config = MockConfig(rpm=RPM, tpm=TPM, latency_s=LATENCY_S, answer_tokens=16)
    ends_s = sum(phase.lasts_s for phase in phases)
    with provider(config) as server:
        if drained:
            server.drain()
        ours = Job("ours", server.base_url, url, mean_tokens=MEAN_TOKENS, spans=((0.0, ends_s),))
        jobs = [*fleet(ours), *_foreign(phases, server.base_url)]
        looks: list[Look] = []
        with Crew(jobs) as crew, _watched(url, server, looks):
            record = Record(phases, crew.begin(), looks=looks)
            _change(record, server)
            crew.called()
        record.arrivals = [a for a in server.arrivals() if a.who != "drain"]
    return record


def _change(record: Record, server: Provider) -> None:
    """Set the limits of each phase when it begins."""
    for (before, *_), (phase, begin_s, _) in pairwise(record.spans()):
        time.sleep(max(0.0, begin_s - time.time()))
        if phase.share != before.share:
            share = phase.share
            server.mock.set_limits(rpm=round(RPM * share), tpm=round(TPM * share))


# --- what came of it ----------------------------------------------------------------------------


def utilisation(record: Record, since_s: float, until_s: float, rate: float) -> float:
    """Return what was served, of the rate times the time."""
    return tokens(record.within(since_s, until_s)) / (rate * (until_s - since_s))


def settled_s(record: Record, phase: Phase, begin_s: float, end_s: float) -> float:
    """Return when a change is over: after 5 s, and after the debt or the burst that it left.

    Until the provider's level is between nought and what is refilled in a second, less or more than
    the rate can be served, whatever anybody does.
    """
    later = (
        look.at_s for look in record.looks
        if look.at_s > begin_s + LOOK_S and 0 <= look.theirs <= phase.rate
    )  # fmt: skip
    return min(max(begin_s + SETTLED_S, next(later, end_s)), end_s - WINDOW_S)


def free_s(record: Record, begin_s: float, end_s: float) -> float:
    """Return when the provider was out of debt: until then nobody can call."""
    later = (look for look in record.looks if look.at_s > begin_s + LOOK_S)
    return next((look.at_s for look in later if look.theirs >= 0), end_s)


def adapted_s(record: Record, phase: Phase, begin_s: float, end_s: float, *, falls: bool) -> float:
    """Return how long after `begin_s` the first window begins whose rate is within 5 % of ours.

    Where our part falls it may be less, where it grows it may be more: until the provider's level
    is used up more than the rate is there.
    """
    calls = record.within(begin_s, end_s, "ours")
    times = [a.came_s for a in calls]
    at_s = begin_s
    while at_s + WINDOW_S <= end_s:
        first, last = (bisect.bisect_left(times, t) for t in (at_s, at_s + WINDOW_S))
        rate = tokens(calls[first:last]) / WINDOW_S
        if rate <= phase.fair * (1 + NEAR) if falls else rate >= phase.fair * (1 - NEAR):
            return at_s - begin_s
        at_s += LOOK_S
    return float("inf")


def _adaptation(
    record: Record, before: Phase | None, phase: Phase, begin_s: float, end_s: float
) -> tuple[float, str]:
    """Return the time to adapt, and a note on what it is."""
    if before is not None and phase.share < before.share:
        out_s = free_s(record, begin_s, end_s)
        took_s = adapted_s(record, phase, out_s, end_s, falls=False)
        return took_s, f"after the provider's debt of {out_s - begin_s:.1f} s"
    falls = before is not None and phase.fair < before.fair
    return adapted_s(record, phase, begin_s, end_s, falls=falls), ""


def _knows(record: Record, phase: Phase, begin_s: float) -> str:
    amount = round(TPM * phase.share)
    known = (look.at_s for look in record.looks if look.at_s > begin_s and look.amount == amount)
    at_s = next(known, None)
    return (
        "never knew the limit" if at_s is None else f"knew the limit after {at_s - begin_s:.2f} s"
    )


def _rows_of(
    record: Record, before: Phase | None, phase: Phase, begin_s: float, end_s: float
) -> list[Row]:
    mine, others = (record.within(begin_s, end_s, who) for who in ("ours", "foreign"))
    late = ", ".join(f"{a.came_s - begin_s:.2f}" for a in mine if a.status == 429)
    said = [f"at {late} s"] if late else []
    if others:
        said.append(f"the foreigner met {refused(others)} in {len(others)} calls")
    since_s = settled_s(record, phase, begin_s, end_s)
    took_s, took = _adaptation(record, before, phase, begin_s, end_s)
    if before is None or before.share != phase.share:
        took = "; ".join(filter(None, [took, _knows(record, phase, begin_s)]))
    levels = (
        f"from {since_s - begin_s:.1f} s after the change; the provider's level "
        f"{record.level_at(since_s):,.0f} then, {record.level_at(end_s):,.0f} at the end"
    )
    return [
        Row(f"{phase.name}: our 429s", refused(mine), 1, "stay below", "", "; ".join(said)),
        Row("  … utilisation", utilisation(record, since_s, end_s, phase.rate), 0.95, note=levels),
        Row("  … time to adapt", took_s, SETTLED_S, "stay below", "s", took),
    ]


def rows_of(record: Record) -> list[Row]:
    """Judge each phase."""
    found: list[Row] = []
    before: Phase | None = None
    for phase, begin_s, end_s in record.spans():
        found += _rows_of(record, before, phase, begin_s, end_s)
        before = phase
    return found


def rows(url: str, phases: Sequence[Phase] = LONG) -> list[Row]:
    """Run it, judge it, and draw the long one; the short one begins with an empty bucket."""
    record = run(url, phases, drained=phases is SHORT)
    if phases is LONG:
        picture.draw(record)
    return rows_of(record)
