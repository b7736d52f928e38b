"""What providers answered, and what it does to the levels: `lua/lib/drift.lua`, `pace.lua`, `report.lua`.

Pure. Products that may leave the range of exact doubles are calculated as Lua calculates them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from limiter.core.buckets import DEBT_MAX, PRINT_MAX, Bucket, of
from limiter.core.gates import BUDGET_MOST, Gates, RouteRecord
from limiter.core.layout import (
    ADAPTIVE,
    AT_END,
    AT_START,
    EXPLAINS,
    MAY_RAISE,
    TOLD,
    UNCOUNTED,
    Report,
    Row,
)
from limiter.core.ledger import Ledger
from limiter.core.owners import Hold
from limiter.core.standing import FOREVER
from limiter.providers.verdict import Outcome

WINDOW_US = 3_000_000
STALE_MAX_US = 60_000_000
RAMP_US = 900_000_000
REGROW_US = 120_000_000
CREDIT_US = 1_000_000
CREDIT_MAX_US = 60_000_000
ROUND = 20
FLOW_US = 60_000_000
FLOW_LEAST_US = 10_000_000
DRAINED_US = 300_000_000


@dataclass(slots=True)
class LimitRecord:
    """Hold what was told of one limit."""

    at: int
    flow_at: int
    seen: int = 0
    seen_at: int = -1
    drift: int = 0
    guard: int = 0
    start: int = -1
    base: int = 0
    least: int = FOREVER
    stale: int = 0
    paced: int = 0
    base_num: int = 0
    flow: int = 0
    flow_was: int = 0

    # --- drift ----------------------------------------------------------------------------

    def correct(
        self, bucket: Bucket, row: Row, mark: int | None, age_us: int, cost: int, now: int
    ) -> None:
        """Take what an answer tells; `mark` is None where the reservation, of so much, has none.

        The provider may have read its level `age_us` ago.
        """
        drift = self._drift(bucket, row, mark, age_us)
        self.seen, self.seen_at, self.drift = row.used, now, drift
        if drift < -row.slack:
            assert bucket.shift is not None
            by_mark = mark is not None and not row.flags & AT_END
            before = (mark or 0) + bucket.shift + cost * bucket.den if by_mark else bucket.level
            self._take_back(bucket, drift, before)
            drift = 0
        if not row.flags & MAY_RAISE or (mark is None and not row.flags & AT_END):
            return
        assert bucket.shift is not None
        if self.start < 0:
            self.start, self.base, self.least = now, bucket.shift, FOREVER
        self.least = min(self.least, drift)
        self.stale = max(self.stale, min(STALE_MAX_US, age_us))
        if now - self.start >= WINDOW_US + self.stale:
            self._end_window(bucket, row.slack, now)

    def _drift(self, bucket: Bucket, row: Row, mark: int | None, age_us: int) -> int:
        assert bucket.shift is not None
        full, used = bucket.capacity * bucket.den, row.used + self.guard
        by_level = full - bucket.level - used
        if row.flags & AT_END:
            return by_level
        if mark is None:
            return by_level + min(DEBT_MAX, bucket.num * age_us)
        by_mark = full - mark - bucket.shift - used
        if row.flags & AT_START:
            return by_mark
        if float(by_mark) * by_level <= 0:
            return 0
        return by_mark if abs(by_mark) < abs(by_level) else by_level

    def lower(self, bucket: Bucket, level: int) -> None:
        """Move a level to this or below, for a reason of our own: it is not used by others."""
        assert bucket.shift is not None
        before = bucket.shift
        bucket.correct(min(0, level - bucket.level))
        self.base += bucket.shift - before

    def drain(self, bucket: Bucket, row: Row, cost: int, wait_us: int) -> None:
        """Let there be just room for the refused call at the end of the brake."""
        full_us = row.num * max(DRAINED_US, 2 * wait_us)
        if bucket.num and cost and bucket.capacity * bucket.den <= full_us:
            kept = 0 if row.flags & UNCOUNTED else cost
            self.lower(bucket, kept * bucket.den - min(DEBT_MAX, bucket.num * wait_us))

    def _take_back(self, bucket: Bucket, drift: int, before: int) -> None:
        guard = min(self.guard, before - bucket.capacity * bucket.den + self.guard)
        self.base -= max(0, min(guard, -drift))
        bucket.correct(drift)

    def _end_window(self, bucket: Bucket, slack: int, now: int) -> None:
        assert bucket.shift is not None
        if self.least > slack:
            bucket.correct(self.least)
        others = max(0, self.base - bucket.shift)
        most = math.floor(bucket.capacity * bucket.den / 4)
        guard = min(math.floor(others / (now - self.start) * (WINDOW_US + self.stale)), most)
        guard = max(guard, self.guard * 3 // 4)
        bucket.correct(self.guard - guard)
        self.guard = guard
        self.start, self.base, self.least, self.stale = now, bucket.shift, FOREVER, 0

    # --- pace -----------------------------------------------------------------------------

    def count_flow(self, amount: int, now: int) -> None:
        """Note what a call took."""
        if now - self.flow_at >= FLOW_US:
            self.flow_was = math.floor(float(self.flow * FLOW_US) / (now - self.flow_at))
            self.flow, self.flow_at = 0, now
        self.flow += amount

    def begin_ramp(self, bucket: Bucket, row: Row, now: int) -> None:
        """Slow down to two thirds of what was used of late."""
        span = max(FLOW_LEAST_US, now - self.flow_at)
        flow = max(self.flow_was, math.floor(float(self.flow * FLOW_US) / span))
        used = math.floor(flow * 2 / 3 * bucket.den / FLOW_US if flow else bucket.num * 2 / 3)
        self.lower(bucket, 0)
        if bucket.num > row.least:
            bucket.num = min(bucket.num, max(1, used, row.least))
            self.base_num, self.paced = bucket.num, 0

    def cut(self, bucket: Bucket, row: Row) -> None:
        """Use less: half the rate, or eight tenths of the slots."""
        if row.num > 0:
            bucket.num = max(1, row.num // 100, bucket.num // 2)
            self.base_num = 0
            self.lower(bucket, 0)
            return
        busy = bucket.capacity - bucket.level // bucket.den
        slots = max(1, math.floor(min(bucket.capacity, busy) * 8 / 10))
        bucket.level -= (bucket.capacity - slots) * bucket.den
        bucket.capacity, self.paced, self.base_num = slots, 0, 1

    def grow(
        self, bucket: Bucket, row: Row, elapsed: int, amount: int, *, waiting: bool, first: bool
    ) -> None:
        """Take note that a call was served: more may be asked for, if calls wait for it.

        `first`: this is the limit that the head of the line waits for, if any does.
        """
        slots = row.num == 0
        if (slots and row.flags < ADAPTIVE) or (not slots and bucket.num >= row.num):
            return
        if not (waiting and (first or not slots)) and bucket.level >= bucket.den:
            return
        if slots:
            self._grow_slots(bucket)
        else:
            self._grow_rate(bucket, row, elapsed, amount)

    def _grow_slots(self, bucket: Bucket) -> None:
        self.paced += 1
        served = max(ROUND, bucket.capacity) if self.base_num else 0
        if bucket.capacity >= bucket.ceiling or self.paced < served:
            return
        bucket.capacity, self.paced = bucket.capacity + 1, 0
        bucket.level += bucket.den

    def _grow_rate(self, bucket: Bucket, row: Row, elapsed: int, amount: int) -> None:
        took_us = min(CREDIT_MAX_US, amount * bucket.den // bucket.num)
        self.paced += min(elapsed, max(CREDIT_US, took_us))
        if self.base_num:
            part = 1 + min(self.paced, RAMP_US) / (2 * RAMP_US)
            bucket.num = math.floor(self.base_num * part)
            if self.paced >= RAMP_US:
                self.base_num, self.paced = bucket.num, 0
        else:
            step = math.floor(float(row.num * self.paced) / REGROW_US)
            if step > 0:
                bucket.num, self.paced = bucket.num + step, 0
        bucket.num = min(bucket.num, row.num)


@dataclass(slots=True)
class Feedback:
    """Hold what was told of the routes and the limits of a unit."""

    gates: Gates
    made: int
    routes: dict[str, RouteRecord] = field(default_factory=dict)
    limits: dict[int, LimitRecord] = field(default_factory=dict)

    def _route(self, route: str, now: int) -> RouteRecord:
        record = self.routes.setdefault(route, RouteRecord(now))
        record.grow(now)
        return record

    def _limit(self, i: int, now: int) -> LimitRecord:
        return self.limits.setdefault(i, LimitRecord(now, now))

    def redefined(self, now: int) -> None:
        """Forget what was told of limits that are made anew."""
        self.made, self.limits = max(now, self.made) + 1, {}

    def may_repeat(self, route: str, now: int) -> bool:
        """Say whether a call may be repeated; if so it is counted."""
        record = self._route(route, now)
        if record.budget < 5:
            return False
        record.budget -= 5
        return True

    def report(self, entry: Report, hold: Hold | None, ledger: Ledger, *, waiting: bool) -> None:
        """Take what the provider answered; `hold` is the call's, where it is still held."""
        now, outcome, wait_us = ledger.now, entry.outcome, entry.wait_us
        record = self._route(entry.route, now)
        fresh = hold is None or hold.granted_us >= record.cut_at
        for bucket in ledger.buckets:
            bucket.shift = bucket.shift or 0
        explained = any(row.flags & EXPLAINS for row in entry.rows)
        for row in entry.rows:
            bucket, limit = ledger.buckets[row.limit - 1], self._limit(row.limit, now)
            amount = of(hold.cost, bucket) if hold else 0
            self._take(row, hold, amount, bucket, limit, now)
            if outcome == Outcome.SERVED:
                limit.count_flow(amount, now)
                first = bucket is ledger.buckets[ledger.bottleneck]
                limit.grow(bucket, row, now - limit.at, amount, waiting=waiting, first=first)
            elif outcome == Outcome.SLOW_DOWN and fresh and row.least >= 0:
                limit.begin_ramp(bucket, row, now)
            elif outcome == Outcome.REFUSED:
                if wait_us >= 0 and not explained:
                    limit.drain(bucket, row, amount, wait_us)
                if row.flags >= ADAPTIVE and fresh:
                    limit.cut(bucket, row)
            limit.at = now
        if fresh and outcome in (Outcome.SLOW_DOWN, Outcome.REFUSED):
            record.cut_at = now
        self._pass(entry, record, now)

    def _take(
        self, row: Row, hold: Hold | None, cost: int, bucket: Bucket, limit: LimitRecord, now: int
    ) -> None:
        if not row.flags & TOLD:
            return
        mark = None
        if hold and hold.marks and hold.granted_us >= self.made:
            mark = hold.marks[row.limit - 1]
        if row.flags & UNCOUNTED:
            row = row._replace(used=row.used + cost * bucket.den)
        age_us = now - hold.granted_us if hold and not row.flags & AT_END else 0
        limit.correct(bucket, row, mark, age_us, cost, now)

    def _pass(self, entry: Report, record: RouteRecord, now: int) -> None:
        outcome, route = entry.outcome, entry.route
        if outcome in (Outcome.FAILED, Outcome.DENIED):
            if record.count_failure(now, denied=outcome == Outcome.DENIED):
                self.gates.open(route, record, now)
        else:
            self.gates.close(route, record)
            if outcome == Outcome.SERVED:
                record.budget = min(BUDGET_MOST, record.budget + 1)
        # A failure among successes is that of one call, or of one of many servers.
        is_for_all = outcome != Outcome.SERVED and (outcome != Outcome.FAILED or record.fails > 1)
        if entry.wait_us >= 0 and is_for_all:
            self.gates.hold_back(route, now + entry.wait_us)

    def tell(self, route: str, ledger: Ledger) -> tuple[int, ...]:
        """Say what is known of the provider, as `lua/lib/tell.lua` does."""
        now = ledger.now
        record = self.routes.get(route) or RouteRecord(now)
        record.grow(now)
        row = [
            self.gates.brake_ends(route, now) - now, self.gates.shut_for(route, now),
            record.fails, record.denied, record.budget,
        ]  # fmt: skip
        for i, bucket in enumerate(ledger.buckets, 1):
            limit, den = self.limits.get(i) or LimitRecord(now, now), bucket.den
            row += [
                now - limit.seen_at if limit.seen_at >= 0 else -1,
                _units(bucket.capacity * den - limit.seen, den), _units(limit.drift, den),
                _units(limit.guard, den),
                min(PRINT_MAX, bucket.num), min(PRINT_MAX, bucket.capacity),
            ]  # fmt: skip
        return tuple(row)


def _units(scaled: int, den: int) -> int:
    return max(-PRINT_MAX, min(PRINT_MAX, scaled // den))
