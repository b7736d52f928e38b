"""The order of those who wait: what `lua/lib/flows.lua`, `line.lua` and `heads.lua` do, in Python.

Pure. A flow is a tenant's tickets within a class, first come first served. Between the flows of a
class: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996). Each flow has a start tag; the
lowest goes next and moves on by its charge by its weight; virtual time is the tag last served.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

TAG_MAX = 9_000_000_000_000_000

Cost = tuple[int, ...]
Id = tuple[str, int]


@dataclass(slots=True)
class Ticket:
    """Hold a call that waits."""

    id: Id
    seq: int
    group: Class
    tenant: str
    weight: int  # in hundredths
    cost: Cost


@dataclass(slots=True)
class Flow:
    """Hold a tenant's tickets in a class, by their order of arrival."""

    tag: int
    tickets: dict[int, Ticket] = field(default_factory=dict)
    blocked_until: int | None = None

    @property
    def first(self) -> Ticket:
        """Return the ticket at its head."""
        return next(iter(self.tickets.values()))


class Class:
    """Hold one priority's tickets for one set of quotas."""

    def __init__(self, number: int, priority: int, route: str, now: int) -> None:
        self.number, self.priority, self.route = number, priority, route
        self.lined = 0
        self.weights = 0
        self.virtual = 0
        self.since = now  # when it was last granted something, or began to wait
        self.queued: list[int] = []
        self.head: Ticket | None = None
        self.head_tag = 0
        self.flows: dict[str, Flow] = {}
        self.idle: dict[str, int] = {}  # finish tags that virtual time has not passed
        self._order: list[tuple[int, int, str]] = []
        self._past: list[tuple[int, str]] = []

    def count(self, cost: Cost, sign: int) -> None:
        """Note that a ticket came (1) or left (-1)."""
        self.queued.extend([0] * (len(cost) - len(self.queued)))
        for i, amount in enumerate(cost):
            self.queued[i] += sign * amount
        self.lined += sign

    def join(self, ticket: Ticket, now: int) -> None:
        """Put a ticket at the end of its flow; the first one makes the flow wait."""
        if self.lined == 0:
            self.since, self.weights = now, 0
        flow = self.flows.get(ticket.tenant)
        if flow is None:
            tag = max(self.virtual, self.idle.pop(ticket.tenant, 0))
            flow = self.flows[ticket.tenant] = Flow(tag)
            self.weights += ticket.weight
            if self.head and tag < self.head_tag:
                self.head = None
        flow.tickets[ticket.seq] = ticket
        if len(flow.tickets) == 1:
            self.place(ticket.tenant)
        self.count(ticket.cost, 1)

    def leave(self, ticket: Ticket, moved_us: int) -> None:
        """Take a ticket out; its flow moves on by what it is charged (0: it was not served)."""
        self.count(ticket.cost, -1)
        if self.head is ticket:
            self.head = None
        flow = self.flows[ticket.tenant]
        del flow.tickets[ticket.seq]
        flow.tag = min(TAG_MAX, flow.tag + moved_us)
        if flow.tickets:
            self.place(ticket.tenant)
            return
        self.weights = max(0, self.weights - ticket.weight)
        del self.flows[ticket.tenant]
        if flow.tag > self.virtual:
            self.idle[ticket.tenant] = flow.tag
            heapq.heappush(self._past, (flow.tag, ticket.tenant))

    def place(self, tenant: str) -> None:
        """Note a flow's place between the others; an older place of it is passed over later."""
        flow = self.flows[tenant]
        if flow.blocked_until is None:
            heapq.heappush(self._order, (flow.tag, flow.first.seq, tenant))

    def unblock(self, tenant: str) -> None:
        """Let a flow back in that its tenant's own limits had blocked."""
        flow = self.flows[tenant]
        flow.tag, flow.blocked_until = max(self.virtual, flow.tag), None
        self.place(tenant)
        self.head = None

    def first(self) -> tuple[str, Flow] | None:
        """Return the flow that goes next, with its tenant."""
        while self._order:
            tag, seq, tenant = self._order[0]
            flow = self.flows.get(tenant)
            if flow and flow.blocked_until is None and (flow.tag, flow.first.seq) == (tag, seq):
                return tenant, flow
            heapq.heappop(self._order)
        return None

    def past(self, until: int | None) -> Iterator[str]:
        """Forget idle flows, the lowest tags first, up to a tag; name each one."""
        while self._past and (until is None or self._past[0][0] <= until):
            tag, tenant = heapq.heappop(self._past)
            if self.idle.get(tenant) == tag:
                del self.idle[tenant]
                yield tenant


def forget(classes: Iterable[Class], most: int, until: int | None = None) -> None:
    """Forget at most so many idle flows, class by class."""
    for each in classes:
        for _ in each.past(until):
            most -= 1
            if most == 0:
                return
