"""The perfect line: what *ideal* and *oracle* mean wherever a makespan is asked for.

An event simulation of one first-come-first-served line before the given token buckets, with the
same arrivals, service times and *estimates* as the run it is compared with, no latency, and the
difference estimate - actual given back at the moment a call ends. A limiter that trusts its
estimates cannot beat it. Time starts at 0 s. It never sleeps, reads no clock and draws no numbers
of its own (`workload` takes a seed).
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Bucket:
    """Hold at most `capacity` units, refilled by `rate_per_s`; full at 0 s unless `level` says."""

    capacity: float
    rate_per_s: float
    level: float | None = None

    @property
    def initial(self) -> float:
        """Return the level at 0 s, in units; it may be negative (debt)."""
        return self.capacity if self.level is None else self.level


@dataclass(frozen=True, slots=True)
class Call:
    """Ask for `estimate`, last `service_s`, and turn out to have cost `actual` (one per bucket)."""

    estimate: tuple[float, ...]
    actual: tuple[float, ...]
    service_s: float = 0.0
    arrives_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """Say when each call was granted, in the order of the calls, and when the last one ended."""

    makespan_s: float
    granted_s: tuple[float, ...]


class _Levels:
    """Keep the levels of all buckets at `now_s`; time moves forward only."""

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self.buckets = buckets
        self.levels = [bucket.initial for bucket in buckets]
        self.now_s = 0.0

    def advance(self, to_s: float) -> None:
        """Refill every bucket up to its capacity; a level above it (never refilled) stays."""
        elapsed_s = to_s - self.now_s
        for i, (bucket, level) in enumerate(zip(self.buckets, self.levels, strict=True)):
            full = max(bucket.capacity, level)
            self.levels[i] = min(full, level + bucket.rate_per_s * elapsed_s)
        self.now_s = to_s

    def give_back(self, difference: Sequence[float]) -> None:
        """Add a refund, never above capacity; a negative one is debt and is always taken."""
        for i, (bucket, units) in enumerate(zip(self.buckets, difference, strict=True)):
            full = max(bucket.capacity, self.levels[i])
            self.levels[i] = min(full, self.levels[i] + units)

    def fits_at(self, estimate: Sequence[float]) -> float:
        """Return the second at which refill alone lets `estimate` in; infinity if it never does.

        A call above the capacity is let in by a full bucket: nothing fuller will ever come.
        """
        at_s = self.now_s
        for bucket, level, units in zip(self.buckets, self.levels, estimate, strict=True):
            missing = min(units, bucket.capacity) - level
            if missing <= 0:
                continue
            if bucket.rate_per_s <= 0:
                return float("inf")
            at_s = max(at_s, self.now_s + missing / bucket.rate_per_s)
        return at_s

    def take(self, estimate: Sequence[float]) -> None:
        """Take `estimate` from every bucket at once."""
        for i, units in enumerate(estimate):
            self.levels[i] -= units


def perfect_line(
    buckets: Sequence[Bucket], calls: Sequence[Call], workers: int | None = None
) -> Line:
    """Grant `calls` in their order as early as the buckets allow; O(n log n) for n calls.

    Args:
        buckets: all of them must let a call in.
        calls: in the order of the line; `arrives_s` must not decrease.
        workers: at most so many callers; each asks for the next call of the list as soon as its
            last one ended. None: every call stands in the line from its arrival on.

    Raises:
        ValueError: the calls are not in the order of arrival, or one would wait for ever.
    """
    if any(later.arrives_s < sooner.arrives_s for sooner, later in pairwise(calls)):
        raise ValueError("calls must be given in the order of their arrival: sort by arrives_s")
    levels = _Levels(buckets)
    refunds: list[tuple[float, int, tuple[float, ...]]] = []
    free_s = [0.0] * workers if workers is not None else []
    granted_s: list[float] = []
    makespan_s = 0.0
    for place, call in enumerate(calls):
        asks_s = max(call.arrives_s, heapq.heappop(free_s) if workers is not None else 0.0)
        at_s = _grant(levels, refunds, call, asks_s)
        granted_s.append(at_s)
        ends_s = at_s + call.service_s
        makespan_s = max(makespan_s, ends_s)
        heapq.heappush(refunds, (ends_s, place, _difference(call)))
        if workers is not None:
            heapq.heappush(free_s, ends_s)
    return Line(makespan_s, tuple(granted_s))


def _grant(
    levels: _Levels,
    refunds: list[tuple[float, int, tuple[float, ...]]],
    call: Call,
    asks_s: float,
) -> float:
    """Move time to the first moment at which `call` fits, take its estimate, return the moment."""
    asks_s = max(asks_s, levels.now_s)
    _pass_until(levels, refunds, asks_s)
    levels.advance(asks_s)
    at_s = levels.fits_at(call.estimate)
    # A call that ends before then may give back enough to let this one in earlier, or charge debt.
    while refunds and refunds[0][0] <= at_s:
        _pass_until(levels, refunds, refunds[0][0])
        at_s = levels.fits_at(call.estimate)
    if at_s == float("inf"):
        raise ValueError(f"a call of {call.estimate} never fits: a bucket has no refill")
    levels.advance(at_s)
    levels.take(call.estimate)
    return at_s


def _pass_until(
    levels: _Levels, refunds: list[tuple[float, int, tuple[float, ...]]], until_s: float
) -> None:
    while refunds and refunds[0][0] <= until_s:
        ends_s, _, difference = heapq.heappop(refunds)
        levels.advance(ends_s)
        levels.give_back(difference)


def _difference(call: Call) -> tuple[float, ...]:
    return tuple(e - a for e, a in zip(call.estimate, call.actual, strict=True))


def lower_bound(buckets: Sequence[Bucket], calls: Sequence[Call]) -> float:
    """Return cost/rate after the burst, in seconds: max over buckets of (cost - level)/rate.

    No line can be faster while calls pay before they start; estimates that are too high put the
    bound out of reach, which is why a run is judged by `perfect_line` and both are printed.
    """
    bound_s = 0.0
    for i, bucket in enumerate(buckets):
        beyond_burst = sum(call.actual[i] for call in calls) - bucket.initial
        if beyond_burst > 0:
            bound_s = max(
                bound_s,
                beyond_burst / bucket.rate_per_s if bucket.rate_per_s > 0 else float("inf"),
            )
    return bound_s


def workload(
    count: int, seed: int, *, too_high: float = 1.0, mean_tokens: int = 1_000
) -> Iterator[Call]:
    """Draw calls of (1 request, tokens): 200 ms to 1.2 s, tokens from half to one and a half mean.

    The estimate is the actual cost times `too_high`; the same seed draws the same calls for every
    factor, so that only the estimates differ between two runs.
    """
    rng = random.Random(seed)
    for _ in range(count):
        tokens = rng.randint(mean_tokens // 2, mean_tokens * 3 // 2)
        service_s = rng.uniform(0.2, 1.2)
        yield Call((1, int(tokens * too_high)), (1, tokens), service_s)


def fleet(rpm: float, tpm: float, burst_s: float) -> list[Bucket]:
    """Return the two buckets of a provider that allows a burst of `burst_s` seconds' refill."""
    return [Bucket(per_min / 60 * burst_s, per_min / 60) for per_min in (rpm, tpm)]


def main() -> None:
    """Print, for exact and too high estimates, the perfect line against cost/rate, as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--workers", type=int, default=128)
    parser.add_argument("--rpm", type=float, default=6_000)
    parser.add_argument("--tpm", type=float, default=2_400_000)
    parser.add_argument("--burst-s", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    buckets = fleet(args.rpm, args.tpm, args.burst_s)
    for too_high in (1.0, 2.0, 4.0):
        calls = list(workload(args.calls, args.seed, too_high=too_high))
        line = perfect_line(buckets, calls, args.workers)
        bound_s = lower_bound(buckets, calls)
        row = {
            "estimates_times": too_high,
            "makespan_s": round(line.makespan_s, 3),
            "lower_bound_s": round(bound_s, 3),
            "ratio": round(line.makespan_s / bound_s, 4),
        }
        print(json.dumps(row))


if __name__ == "__main__":
    main()
