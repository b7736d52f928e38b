"""The arithmetic of levels in exact integers: what `lua/lib/levels.lua` does, in Python.

Pure. A level is kept in units of 1/den and grows by num each microsecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limiter.core.quota import Limit

DEBT_MAX = 2**52  # a debt beyond this is not counted
CHARGE_MAX = 2**50  # no more than this is charged at once, in 1/den units
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

    @classmethod
    def full(cls, limit: Limit, dim: int) -> Bucket:
        """Make the bucket of a limit, full."""
        rate, capacity = limit.rate, limit.capacity
        return cls(limit.label, dim, rate.numerator, rate.denominator, capacity, limit.ceiling,
                   capacity * rate.denominator)  # fmt: skip

    @property
    def units(self) -> int:
        """Return the level in whole units, rounded down."""
        return max(-PRINT_MAX, min(PRINT_MAX, self.level // self.den))

    def refill(self, elapsed_us: int) -> None:
        """Add what `elapsed_us` brings, up to the capacity."""
        if self.num:
            self.level = min(self.capacity * self.den, self.level + elapsed_us * self.num)

    def needs(self, cost: int) -> int:
        """Return the level that a grant of `cost` asks for; a full bucket is always enough."""
        return min(cost, self.capacity) * self.den

    def give(self, amount: int) -> None:
        """Put back, up to the capacity."""
        self.level = min(self.capacity * self.den, self.level + amount * self.den)

    def charge(self, amount: int) -> None:
        """Take what was used beyond the estimate; the level may become a debt."""
        scaled = min(amount, CHARGE_MAX // self.den) * self.den
        self.level = max(-DEBT_MAX, self.level - scaled)


def of(cost: Sequence[int], bucket: Bucket, default: int = 0) -> int:
    """Return the amount of a bucket's dimension in an array of costs, which may be shorter."""
    return cost[bucket.dim - 1] if bucket.dim <= len(cost) else default


def fits(buckets: list[Bucket], cost: Sequence[int]) -> bool:
    """Say whether every bucket has what the cost asks for."""
    return all(b.level >= b.needs(c) for b in buckets if (c := of(cost, b)) > 0)


def never_fits(buckets: list[Bucket], cost: Sequence[int]) -> bool:
    """Say whether some bucket can never grant the cost."""
    return any(of(cost, b) > b.ceiling for b in buckets)


def fit_at(buckets: list[Bucket], cost: Sequence[int], now: int) -> int:
    """Return when the cost fits if nothing happens but time; −1 if only an event can help."""
    longest = 0
    for b in buckets:
        c = of(cost, b)
        short = b.needs(c) - b.level
        if c > 0 and short > 0:
            if b.num == 0:
                return NOT_BEFORE_EVENT
            longest = max(longest, -(-short // b.num))
    return now + longest


def wait_for(buckets: list[Bucket], queued: Sequence[int], cost: Sequence[int]) -> int:
    """Return how long a ticket at the end of the line waits at most, by what is known now."""
    longest = 0
    for b in buckets:
        c = of(cost, b)
        if b.num > 0 and c > 0:
            short = of(queued, b) * b.den + b.needs(c) - b.level
            longest = max(longest, -(-short // b.num))
    return min(longest, PRINT_MAX)


def true_up(
    buckets: list[Bucket], cost: Sequence[int], actual: Sequence[int], *, late: bool = False
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
