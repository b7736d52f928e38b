"""What has happened in a run so far, and the figures that follow from it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from limiter.prompts.savings import Savings

if TYPE_CHECKING:
    from limiter.core.quota import Limit
    from limiter.status import QuotaStatus

_RATE_WINDOW_S = 30.0


@dataclass(slots=True)
class Spending:
    """Hold what one quota was charged by this run, and between which grants.

    Attributes:
        status: the quota before the run.
        used: amounts by dimension.
        first_at, last_at: of grants, in seconds of the monotonic clock.
    """

    status: QuotaStatus
    used: dict[str, int] = field(default_factory=dict)
    first_at: float = 0.0
    last_at: float = 0.0

    def add(self, amounts: Mapping[str, int], at: float) -> None:
        """Count one attempt."""
        self.first_at = min(self.first_at or at, at)
        self.last_at = max(self.last_at, at)
        for name, amount in amounts.items():
            self.used[name] = self.used.get(name, 0) + amount

    def limits(self) -> Iterable[tuple[Limit, float, float]]:
        """Yield each limit that refills, with what was used beyond its first level, and its rate.

        The rate is in units per second. A level below zero at the start counts as used, too.
        """
        for each in self.status.limits.values():
            rate = float(each.limit.rate) * 1e6
            if rate:
                yield each.limit, self.used.get(each.limit.dimension, 0) - each.level, rate

    @property
    def ideal_s(self) -> float:
        """Return the seconds that no order of calls could have been faster than."""
        return max((0.0, *(beyond / rate for _, beyond, rate in self.limits())))

    def share_after_burst(self, limit: Limit) -> float | None:
        """Return used / refilled from the first grant to the last; None: the burst was enough."""
        span_s = self.last_at - self.first_at
        found = [(beyond, rate) for each, beyond, rate in self.limits() if each == limit]
        if not found or found[0][0] <= 0 or span_s <= 0:
            return None
        return found[0][0] / (found[0][1] * span_s)


@dataclass(slots=True)
class Tally:
    """Count lines and attempts.

    Attributes:
        total: lines of the input, those that are blank left out.
        skipped: lines whose result was there before.
        bad: lines that are malformed or have an id again.
        refused: answers with status 429.
        cached: answers that came from the cache.
        prompts: what was saved by making them shorter.
    """

    total: int = 0
    skipped: int = 0
    ok: int = 0
    failed: int = 0
    bad: int = 0
    refused: int = 0
    retries: int = 0
    cached: int = 0
    prompts: Savings = field(default_factory=Savings)
    spending: dict[str, Spending] = field(default_factory=dict)
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def done(self) -> int:
        """Return the lines that need no more work in this run."""
        return self.skipped + self.answered + self.bad

    @property
    def answered(self) -> int:
        """Return the lines that this run has come to an end with by calling."""
        return self.ok + self.failed

    @property
    def left(self) -> int:
        """Return the lines that still need work."""
        return max(0, self.total - self.done)

    def per_second(self, now: float) -> float:
        """Return the lines per second of the last half minute; call it now and then."""
        self._recent.append((now, self.answered))
        while now - self._recent[0][0] > _RATE_WINDOW_S:
            self._recent.popleft()
        then, answered = self._recent[0]
        return (self.answered - answered) / (now - then) if now > then else 0.0

    @property
    def ideal_s(self) -> float:
        """Return the seconds that the slowest quota needs for what was used of it."""
        return max((0.0, *(each.ideal_s for each in self.spending.values())))
