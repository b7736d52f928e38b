"""Owners and what they hold: `lua/lib/owners.lua` and `holds.lua`, in Python. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from limiter.core.flows import Cost

FORGET_US = 10 * 60 * 1_000_000  # a lost owner's number is kept this long against replays
NEVER_US = 2**52


@dataclass(slots=True)
class Hold:
    """Hold a granted cost. lent: beyond its priority's share, which knows nothing of it."""

    granted_us: int
    priority: int
    lent: bool
    tenant: str
    cost: Cost
    marks: tuple[int, ...] | None = None  # see `lua/lib/drift.lua`


@dataclass(slots=True)
class Owner:
    """Hold what is known of one process."""

    last: int  # the number of its last batch
    seen: int
    lease: int  # 0: it was reaped
    look_us: int = 0

    def is_alive(self, now: int) -> bool:
        """Say whether its lease runs."""
        return self.seen + self.lease > now

    @property
    def has_been_forgotten(self) -> bool:
        """Say whether it was lost, and its number was kept for long enough."""
        return not self.lease

    def look_again(self, now: int) -> bool:
        """Note when to look next; say whether it is lost as of now."""
        if self.is_alive(now):
            self.look_us = self.seen + self.lease
            return False
        self.lease, self.look_us = 0, now + FORGET_US
        return True
