"""What a priority may do now, and what is known of a wait: `lua/lib/room.lua`, `rank.lua`, `outlook.lua`.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limiter.core import buckets as arithmetic
from limiter.core.buckets import NOT_BEFORE_EVENT, Bucket, Buckets, fit_at

FOREVER = 2**52
PROMOTED, ENTITLED, BORROWING, BARRED = range(4)


@dataclass(slots=True)
class Standing:
    """Hold a priority's policy, when a call of it was last asked for, and how many wait."""

    level: int
    strict: bool
    most: int
    promote_us: int
    lend_us: int
    floors: Sequence[int] | None
    shares: Buckets | None
    asked_us: int = -FOREVER
    waits: int = 0

    @classmethod
    def read(cls, priority: Mapping[str, Any], limits: Sequence[Mapping[str, Any]]) -> Standing:
        """Read it as a definition writes it; its share is unused."""
        shares = priority["shares"] or []
        buckets = [
            Bucket(limit["label"], limit["dim"], share["num"], share["den"], share["capacity"],
                   share["capacity"], share["capacity"] * share["den"])
            for share, limit in zip(shares, limits, strict=False)
        ]  # fmt: skip
        return cls(
            level=priority["level"], strict=bool(priority["strict"]), most=priority["max_waiting"],
            promote_us=priority["promote_us"], lend_us=priority["lend_us"],
            floors=priority["floors"] or None, shares=buckets or None,
        )  # fmt: skip

    def entitled_at(self, cost: Sequence[int], now: int) -> int:
        """Return when its share allows a call; `now` where it has none."""
        return fit_at(self.shares, cost, now)[0] if self.shares else now

    def rank(self, cost: Sequence[int], since: int, now: int) -> tuple[int, int]:
        """Return the rank of one call, and when it will be better (−1: only by an event)."""
        promote = since + self.promote_us if self.promote_us else NOT_BEFORE_EVENT
        entitled = self.entitled_at(cost, now)
        if entitled != now and self.strict:
            return BARRED, entitled
        if promote != NOT_BEFORE_EVENT and promote <= now:
            return PROMOTED, NOT_BEFORE_EVENT
        if entitled == now:
            return ENTITLED, promote
        if promote != NOT_BEFORE_EVENT and (entitled == NOT_BEFORE_EVENT or promote < entitled):
            return BORROWING, promote
        return BORROWING, entitled


def guarded_until(standing: Standing, others: Sequence[Standing]) -> int:
    """Return until when the floor holds: while somebody above waits, and for a time after."""
    if standing.floors is None:
        return 0
    if standing.strict:
        return FOREVER
    above = [other for other in others if other.level > standing.level]
    if any(other.waits for other in above):
        return FOREVER
    return max((other.asked_us + standing.lend_us for other in above), default=0)


def room_at(
    standing: Standing, others: Sequence[Standing], buckets: Buckets, cost: Sequence[int], now: int,
    ahead: Sequence[int] | None = None,
) -> tuple[int, int]:  # fmt: skip
    """Return when the limits have room for a call, and which one it waits for longest."""
    until_us = guarded_until(standing, others)
    if until_us <= now:
        return fit_at(buckets, cost, now, None, ahead)
    guarded, last = fit_at(buckets, cost, now, standing.floors, ahead)
    if guarded == now or until_us >= FOREVER:
        return guarded, last
    opened = fit_at(buckets, cost, now, None, ahead)[0]
    if opened == NOT_BEFORE_EVENT:
        return opened, last
    lent = max(opened, until_us)
    return (lent if guarded == NOT_BEFORE_EVENT else min(guarded, lent)), last


def needs(
    standing: Standing, others: Sequence[Standing], buckets: Buckets, cost: Sequence[int], now: int
) -> list[int]:
    """Return what a head that does not fit needs, by limit: its floors as well while they hold."""
    guarded = guarded_until(standing, others) > now
    return arithmetic.needs(buckets, cost, standing.floors if guarded else None)


def add_part(total: list[int], queued: Sequence[int], part: int, whole: int) -> None:
    """Add a part of what is queued; calculated in doubles, as Lua does."""
    total.extend([0] * (len(queued) - len(total)))
    for i, amount in enumerate(queued):
        share = amount if part == whole else math.floor(float(amount) * part / whole)
        total[i] += share
