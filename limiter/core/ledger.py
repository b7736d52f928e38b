"""All levels of one unit: its limits', its priorities' shares', its tenants' own; in Python.

Pure. What `lua/lib/holds.lua`, `policy.lua` and `outlook.lua` do with the buckets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from limiter.core import buckets as arithmetic
from limiter.core.buckets import Bucket, Buckets, of
from limiter.core.definition import Definition
from limiter.core.flows import Class, Cost, Ticket
from limiter.core.owners import Hold
from limiter.core.standing import (
    FOREVER,
    PROMOTED,
    Standing,
    add_part,
    guarded_until,
    needs,
    room_at,
)
from limiter.core.tenants import Tenants

CHARGE_US_MAX = 2**40
SLOT_US = 1_000_000  # what a slot counts where slots are the bottleneck


@dataclass(slots=True)
class Candidate:
    """Hold the head of a class, what it may do now, and when that will be more."""

    head: Ticket
    standing: Standing
    rank: int
    better_us: int

    @property
    def turn(self) -> tuple[int, int, int]:
        """Sort by rank, precedence, arrival."""
        return self.rank, -self.standing.level, self.head.seq

    @property
    def policy(self) -> Standing:
        """Return its priority's; a promoted call may draw below the floor."""
        return replace(self.standing, floors=None) if self.rank == PROMOTED else self.standing


class Ledger:
    """Hold the buckets; the time is given."""

    def __init__(self, definition: Definition, now: int) -> None:
        self.definition = definition
        self.now = now
        written = json.loads(definition.text)
        self.buckets, self.standings = _limits(written), _standings(written)
        self.tenants = Tenants(written["own"])
        self.bottleneck = 0  # the limit that the head waits, or waited, for longest

    def redefine(self, definition: Definition) -> None:
        """Take a new definition; what was used of a limit stays used (`lua/declare.lua`)."""
        written, before = json.loads(definition.text), json.loads(self.definition.text)
        fresh, standings = _limits(written), _standings(written)
        _carry(fresh, self.buckets)
        for new, was in zip(standings, self.standings, strict=False):
            new.asked_us, new.waits = was.asked_us, was.waits
            _carry(new.shares or [], was.shares or [])
        if written["own"] != before["own"]:
            self.tenants = Tenants(written["own"])
        self.buckets, self.standings, self.definition = fresh, standings, definition
        self.bottleneck = 0

    def refill(self, elapsed_us: int) -> None:
        """Let time pass; tenants' buckets catch up when they are looked at."""
        for bucket in self._shared():
            bucket.refill(elapsed_us)

    def _shared(self) -> Iterator[Bucket]:
        yield from self.buckets
        for standing in self.standings:
            yield from standing.shares or ()

    def levels(self) -> tuple[int, ...]:
        """Return the level of each limit in whole units."""
        return tuple(bucket.units for bucket in self.buckets)

    def exceeds(self, tenant: str, cost: Cost) -> bool:
        """Say whether the cost can never be granted."""
        return arithmetic.exceeds(self.buckets, cost) or self.tenants.never_fits(tenant, cost)

    def room_at(
        self, standing: Standing, cost: Cost, ahead: Sequence[int] | None = None
    ) -> tuple[int, int]:
        """Return when the limits have room for a call, and which one it waits for longest."""
        return room_at(standing, self.standings, self.buckets, cost, self.now, ahead)

    def needs(self, standing: Standing, cost: Cost) -> list[int]:
        """Return what a head that does not fit keeps from those behind it, by limit."""
        return needs(standing, self.standings, self.buckets, cost, self.now)

    def fits_alone(self, standing: Standing, tenant: str, cost: Cost) -> bool | None:
        """Say, with nobody in the line, whether a call borrows beyond its share; None: no room."""
        borrows = standing.entitled_at(cost, self.now) != self.now
        if (borrows and standing.strict) or self.room_at(standing, cost)[0] != self.now:
            return None
        return borrows if self.tenants.fit_at(tenant, cost, self.now) == self.now else None

    def take(self, hold: Hold) -> None:
        """Take a cost from everything that it counts for."""
        arithmetic.take_from(self.buckets, hold.cost)
        if not hold.lent:
            arithmetic.take_from(self.standings[hold.priority].shares or [], hold.cost)
        self.tenants.take(hold.tenant, hold.cost, self.now)

    def marks(self) -> tuple[int, ...] | None:
        """Return the levels less all corrections; None while no answer was reported."""
        if self.buckets[0].shift is None:
            return None
        return tuple(b.level - (b.shift or 0) for b in self.buckets)

    def true_up(self, hold: Hold, actual: Sequence[int], *, late: bool = False) -> None:
        """Make the levels know what a reservation really used."""
        arithmetic.true_up(self.buckets, hold.cost, actual, late=late)
        if not hold.lent:
            shares = self.standings[hold.priority].shares or []
            arithmetic.true_up(shares, hold.cost, actual, late=late)
        self.tenants.true_up(hold.tenant, hold.cost, actual, self.now, late=late)

    def charge_us(self, ticket: Ticket) -> int:
        """Return what a call takes of the bottleneck limit, as its time at the rate, by weight."""
        at = self.bottleneck if self.bottleneck < len(self.buckets) else 0
        bucket = self.buckets[at]
        c = min(of(ticket.cost, bucket), bucket.ceiling)
        us = -(-c * bucket.den // bucket.num) if bucket.num else c * SLOT_US
        return -(-max(1, min(us, CHARGE_US_MAX)) * 100 // ticket.weight)

    def outlook(
        self, ticket: Ticket, k: int, weights: int, others: list[Class], held_us: int
    ) -> tuple[int, int]:
        """Return how long a ticket waits at most by brake and rate, and how many go first.

        `k` tickets of its flow stand before it, and `weights` is what the flows of its class have
        together. They move in step, so that (k + 1) calls of one are those of all by weight.
        """
        group, standing = ticket.group, self.standings[ticket.group.priority]
        steps = (k + 1) * max(weights, ticket.weight)
        mine = min(group.lined, -(-steps // ticket.weight) - 1)
        ahead, queued, own = mine, list[int](), list[int]()
        if group.lined:
            add_part(queued, group.queued, mine, group.lined)
            add_part(own, group.queued, k, group.lined)
        wait_us, line = held_us, list(queued)
        if standing.shares and standing.strict:
            strict_us = arithmetic.wait_in(standing.shares, line, ticket.cost, line, held_us)
            wait_us = max(wait_us, strict_us)
        for other in others:
            if self.standings[other.priority].level >= standing.level:
                ahead += other.lined
                add_part(queued, other.queued, 1, 1)
        wait_us = max(wait_us, self._wait_for_room(standing, queued, ticket.cost, line, held_us))
        own_us = self.tenants.wait_in(ticket.tenant, own, ticket.cost, self.now, held_us)
        return max(wait_us, own_us), ahead

    def wait_behind(self, standing: Standing, classes: list[Class]) -> int:
        """Return how long the smallest call waits behind those of this priority and above it."""
        if not standing.waits:
            return 0
        queued: list[int] = []
        for each in classes:
            if self.standings[each.priority].level >= standing.level:
                add_part(queued, each.queued, 1, 1)
        least = [min(1, amount) for amount in queued]
        return self._wait_for_room(standing, queued, least, queued, 0)

    def _wait_for_room(
        self, standing: Standing, queued: Sequence[int], cost: Sequence[int], line: Sequence[int],
        held_us: int,
    ) -> int:  # fmt: skip
        """Return the wait in the limits, with the floor for as long as it is known to hold."""
        opened = arithmetic.wait_in(self.buckets, queued, cost, line, held_us)
        until_us = guarded_until(standing, self.standings)
        if until_us <= self.now:
            return opened
        guarded = arithmetic.wait_in(self.buckets, queued, cost, line, held_us, standing.floors)
        if until_us >= FOREVER:
            return guarded
        return min(guarded, max(opened, until_us - self.now))


def _limits(written: dict[str, Any]) -> Buckets:
    return [Bucket.full(limit) for limit in written["limits"]]


def _standings(written: dict[str, Any]) -> list[Standing]:
    return [Standing.read(each, written["limits"]) for each in written["priorities"]]


def _carry(fresh: Buckets, earlier: Buckets) -> None:
    before = {bucket.label: bucket for bucket in earlier}
    for bucket in fresh:
        if was := before.get(bucket.label):
            bucket.carry(was)
