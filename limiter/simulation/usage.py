"""What was used of each limit while somebody waited. Pure.

A limit's use is what was granted, less what was given back, over what there was to be had: the
level when the first one began to wait, and what the rate brought until nobody waited any more.
Over all such spells together it is 1 for a limit that held everybody up and lost nothing. Of slots
it is the time that they were taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from limiter.core.buckets import Bucket, of
from limiter.core.definition import Definition
from limiter.core.quota import Limit


class Usage:
    """Follow all levels from run to run, in the units of 1/den in which they are exact.

    Attributes:
        busy_us: how long somebody waited, so far.
    """

    def __init__(self, definition: Definition, start_us: int) -> None:
        self._buckets = [_full(limit, definition.dims) for limit in definition.limits]
        self._used = [0] * len(self._buckets)
        self._had = [0] * len(self._buckets)
        self._busy = False
        self._at_us = start_us
        self.busy_us = 0

    @property
    def levels(self) -> tuple[int, ...]:
        """Return the levels as an engine should tell them."""
        return tuple(bucket.units for bucket in self._buckets)

    def advance(self, now_us: int) -> None:
        """Let time pass, before the run of that time is told."""
        passed_us, self._at_us = now_us - self._at_us, now_us
        for i, bucket in enumerate(self._buckets):
            if self._busy and bucket.num:
                self._had[i] += bucket.num * passed_us
            elif self._busy:
                self._had[i] += bucket.capacity * passed_us
                self._used[i] += (bucket.capacity - bucket.level) * passed_us
            bucket.refill(passed_us)
        self.busy_us += passed_us if self._busy else 0

    def granted(self, cost: Sequence[int]) -> None:
        """Count what a call took."""
        before = [bucket.level for bucket in self._buckets]
        for bucket in self._buckets:
            bucket.level -= of(cost, bucket) * bucket.den
        self._count(before)

    def settled(self, cost: Sequence[int], actual: Sequence[int]) -> None:
        """Count what a call took beyond its estimate, or gave back."""
        before = [bucket.level for bucket in self._buckets]
        for bucket in self._buckets:
            taken, used = of(cost, bucket), of(actual, bucket)
            if not bucket.num:
                bucket.give(taken)
            elif used > taken:
                bucket.charge(used - taken)
            elif used >= 0:
                bucket.give(taken - used)
        self._count(before)

    def _count(self, before: Sequence[int]) -> None:
        for i, bucket in enumerate(self._buckets):
            if self._busy and bucket.num:
                self._used[i] += before[i] - bucket.level

    def observe(self, *, waiting: bool) -> None:
        """Take note, after a run, whether anybody waits now."""
        if waiting and not self._busy:
            for i, bucket in enumerate(self._buckets):
                self._had[i] += bucket.level if bucket.num else 0
        self._busy = waiting

    def shares(self) -> dict[str, float | None]:
        """Return the use of each limit by label; None where nobody ever waited."""
        return {
            bucket.label: used / had if had > 0 else None
            for bucket, used, had in zip(self._buckets, self._used, self._had, strict=True)
        }


def _full(limit: Limit, dims: Sequence[str]) -> Bucket:
    rate, capacity = limit.rate, limit.capacity
    return Bucket(limit.label, dims.index(limit.dimension) + 1, rate.numerator, rate.denominator,
                  capacity, limit.ceiling, capacity * rate.denominator)  # fmt: skip
