"""Owners and what they hold: `lua/lib/owners.lua` and `holds.lua`, in Python. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from limiter.core.flows import Cost

SWEEP = 100  # owners looked at per run
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


class Owners:
    """Hold all owners of a unit."""

    def __init__(self) -> None:
        self._all: dict[str, Owner] = {}
        self._lapse = 0  # when the first one is to be looked at

    def enrol(self, name: str, now: int, number: int, lease_us: int) -> bool:
        """Accept a batch unless one with its number or a higher one has run already."""
        known = self._all.get(name)
        if known and number <= known.last:
            return False
        if known and known.lease:
            known.last, known.seen, known.lease = number, now, lease_us
            return True
        self._all[name] = Owner(number, now, lease_us, now + lease_us)
        self._lapse = min(self._lapse, now + lease_us)
        return True

    def last_of(self, name: str) -> int:
        """Return the number of an owner's last batch; 0: it is not known."""
        known = self._all.get(name)
        return known.last if known else 0

    def is_alive(self, name: str, now: int) -> bool:
        """Say whether an owner's lease runs."""
        known = self._all.get(name)
        return known is not None and known.is_alive(now)

    def sweep(self, now: int) -> list[tuple[str, int]]:
        """Look at those whose time has come; return who is lost, and when each was seen last."""
        if now < self._lapse:
            return []
        lost = []
        due = sorted((o.look_us, name) for name, o in self._all.items() if o.look_us <= now)
        for _, name in due[:SWEEP]:
            known = self._all[name]
            if known.has_been_forgotten:
                del self._all[name]
            elif known.look_again(now):
                lost.append((name, known.seen))
        self._lapse = min((o.look_us for o in self._all.values()), default=NEVER_US)
        return lost
