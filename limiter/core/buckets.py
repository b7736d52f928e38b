"""The arithmetic of levels in exact integers: what `lua/lib/levels.lua` does, in Python.

Pure. A level is kept in units of 1/den and grows by num each microsecond. The functions work on a
list of buckets: those of the limits, of a priority's share, of a tenant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEBT_MAX = 2**52  # a debt beyond this is not counted
CHARGE_MAX = 2**50  # no more than this is charged at once, in 1/den units
QUEUED_MAX = 2**51  # nor is more foreseen
PRINT_MAX = 99_999_999_999_999
NOT_BEFORE_EVENT = -1


@dataclass(slots=True)
class Bucket:
    """Hold the level of one limit, and the numbers it moves by."""

    label: str
    dim: int  # 1-based, as in Lua
    num: int
    den: int
    capacity: int
    ceiling: int
    level: int
    shift: int | None = None  # the sum of all corrections; None: no answer was reported yet

    @classmethod
    def full(cls, limit: Mapping[str, Any]) -> Bucket:
        """Make the bucket of a limit as a definition writes it, full."""
        return cls(limit["label"], limit["dim"], limit["num"], limit["den"], limit["capacity"],
                   limit["ceiling"], limit["capacity"] * limit["den"])  # fmt: skip

    @property
    def units(self) -> int:
        """Return the level in whole units, rounded down."""
        return max(-PRINT_MAX, min(PRINT_MAX, self.level // self.den))

    @property
    def is_full(self) -> bool:
        """Say whether it says no more than a new one."""
        return self.level >= self.capacity * self.den

    def refill(self, elapsed_us: int) -> None:
        """Add what `elapsed_us` brings, up to the capacity."""
        if self.num:
            self.level = min(self.capacity * self.den, self.level + elapsed_us * self.num)

    def give(self, amount: int) -> None:
        """Put back, up to the capacity."""
        self.level = min(self.capacity * self.den, self.level + amount * self.den)

    def charge(self, amount: int) -> None:
        """Take what was used beyond the estimate; the level may become a debt."""
        scaled = min(amount, CHARGE_MAX // self.den) * self.den
        self.level = max(-DEBT_MAX, self.level - scaled)

    def correct(self, amount: int) -> None:
        """Move the level, up to the capacity, and remember the amount (`lua/lib/drift.lua`)."""
        assert self.shift is not None
        self.level = max(-DEBT_MAX, min(self.capacity * self.den, self.level + amount))
        self.shift += amount

    def carry(self, was: Bucket, num: int) -> None:
        """Take over what was used of an earlier bucket; what is not sure stays used.

        `num` is that of its definition: it may have been slowed down.
        """
        if was.num < num:
            self.num = max(1, math.floor(float(self.num) * was.num / num))
        used = was.capacity - was.units
        if not self.num and self.capacity < self.ceiling:  # adaptive: so many slots were found out
            self.capacity = min(was.capacity, self.ceiling)
        self.level = max(-DEBT_MAX, (self.capacity - used) * self.den)


Buckets = list[Bucket]


def of(cost: Sequence[int], bucket: Bucket, default: int = 0) -> int:
    """Return the amount of a bucket's dimension in an array of costs, which may be shorter."""
    return cost[bucket.dim - 1] if bucket.dim <= len(cost) else default


def fit_at(
    buckets: Buckets,
    cost: Sequence[int],
    now: int,
    floors: Sequence[int] | None = None,
    ahead: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Return when the cost fits if nothing happens but time, and which bucket it waits for longest.

    `now`: it fits; −1: an event comes first. `floors` stay in the buckets, what is `ahead` is spoken
    for (both in units, by bucket). A full bucket is always enough.
    """
    longest, last = 0, 0
    for i, b in enumerate(buckets):
        c = of(cost, b)
        if c <= 0:
            continue
        need = min(c + (floors[i] if floors else 0), b.capacity)
        if ahead:
            need += min(ahead[i], b.capacity)
        short = need * b.den - b.level
        if short > 0:
            if b.num == 0 or need > b.capacity:
                return NOT_BEFORE_EVENT, i
            if (in_us := -(-short // b.num)) > longest:
                longest, last = in_us, i
    return now + longest, last


def needs(buckets: Buckets, cost: Sequence[int], floors: Sequence[int] | None) -> list[int]:
    """Return how much must be in each bucket for the cost to fit, in units."""
    costs = [of(cost, b) for b in buckets]
    return [
        min(c + (floors[i] if floors else 0), b.capacity) if c > 0 else 0
        for i, (c, b) in enumerate(zip(costs, buckets, strict=True))
    ]


def exceeds(buckets: Buckets, cost: Sequence[int]) -> bool:
    """Say whether some bucket can never grant the cost."""
    return any(of(cost, b) > b.ceiling for b in buckets)


def wait_in(
    buckets: Buckets, queued: Sequence[int], cost: Sequence[int], line: Sequence[int],
    held_us: int = 0, floors: Sequence[int] | None = None,
) -> int:  # fmt: skip
    """Return how long the cost waits at most when `queued` goes first; slots are not foreseen.

    What the same `line` waits for it waits for as well. While the brake holds, `held_us` from now, a
    bucket that is full gets no fuller. `floors` stay in the buckets.
    """
    longest = 0
    for i, b in enumerate(buckets):
        c = of(cost, b)
        if b.num > 0 and (c > 0 or of(line, b) > 0):
            before = min(of(queued, b), QUEUED_MAX // b.den) * b.den
            need = min(c + (floors[i] if floors else 0), b.capacity)
            least = b.capacity * b.den - min(DEBT_MAX, b.num * held_us)
            short = before + need * b.den - min(b.level, least)
            longest = max(longest, -(-short // b.num))
    return min(longest, PRINT_MAX)


def take_from(buckets: Buckets, cost: Sequence[int]) -> None:
    """Take the cost, fitting or not."""
    for b in buckets:
        b.level -= of(cost, b) * b.den


def true_up(
    buckets: Buckets, cost: Sequence[int], actual: Sequence[int], *, late: bool = False
) -> None:
    """Replace the estimate by the actual cost; −1 or silence: the estimate stands.

    Slots come back whole, unless their owner was lost: then they have come back already.
    """
    for b in buckets:
        estimated, used = of(cost, b), of(actual, b, -1)
        if b.num == 0:
            if not late:
                b.give(estimated)
        elif 0 <= used < estimated:
            b.give(estimated - used)
        elif used > estimated:
            b.charge(used - estimated)
