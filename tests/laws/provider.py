"""A provider that grants by exact buckets, in fractions, and tells of them as OpenAI does.

It shares no arithmetic with the engine. Whoever else uses it takes from the same buckets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from limiter.providers.verdict import MINUTE_US, Outcome, Seen, Verdict, When


@dataclass(slots=True)
class Exact:
    """One bucket of `amount` a minute."""

    dimension: str
    amount: int
    left: Fraction
    at: int

    def refill(self, now: int) -> None:
        gained = Fraction((now - self.at) * self.amount, MINUTE_US)
        self.left, self.at = min(Fraction(self.amount), self.left + gained), now

    def seen(self) -> Seen:
        """Tell the level: whole units that are left, the time to full cut down to the millisecond."""
        full_us = int((self.amount - self.left) * MINUTE_US / self.amount) // 1000 * 1000
        return Seen(
            self.dimension, self.amount, MINUTE_US, math.floor(self.left), full_us, 1000, True
        )

    def refusal(self, cost: int) -> Verdict:
        """Refuse with "Limit L, Used U, Requested R", and the wait cut down to the millisecond."""
        used = self.amount - math.floor(self.left)
        wait_us = (used + cost - self.amount) * MINUTE_US // self.amount // 1000 * 1000
        by = Seen(self.dimension, self.amount, MINUTE_US, self.amount - used,
                  used * MINUTE_US // self.amount, -(-MINUTE_US // self.amount), True)  # fmt: skip
        return Verdict(Outcome.REFUSED, 429, again=True, wait_us=wait_us + 1000, refused_by=by,
                       when="start")  # fmt: skip


class Provider:
    """Hold the buckets, and count who was served."""

    def __init__(self, now: int, **amounts: int) -> None:
        self.buckets = {d: Exact(d, n, Fraction(n), now) for d, n in amounts.items()}
        self.served = self.refused = 0
        self.taken: dict[str, int] = dict.fromkeys(amounts, 0)

    def __getitem__(self, dimension: str) -> Exact:
        return self.buckets[dimension]

    def admit(self, now: int, cost: Mapping[str, int]) -> Verdict | None:
        """Take a cost from all buckets or from none; return the refusal."""
        for bucket in self.buckets.values():
            bucket.refill(now)
        for bucket in self.buckets.values():
            if cost[bucket.dimension] > bucket.left:
                self.refused += 1
                return bucket.refusal(cost[bucket.dimension])
        self.served += 1
        for bucket in self.buckets.values():
            bucket.left -= cost[bucket.dimension]
            self.taken[bucket.dimension] += cost[bucket.dimension]
        return None

    def answer(self, now: int, when: When) -> Verdict:
        """Tell the levels as they are."""
        for bucket in self.buckets.values():
            bucket.refill(now)
        seen = tuple(bucket.seen() for bucket in self.buckets.values())
        return Verdict(Outcome.SERVED, seen=seen, when=when)
