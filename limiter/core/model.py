"""The reference model: what the scripts do, in plain Python, for one quota.

Pure: time is an argument. The tests hold it against the Lua, step by step; `memory://` is this
model behind a lock. Where the two differ, one of them is wrong.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from limiter.core import buckets as arithmetic
from limiter.core.buckets import DEBT_MAX, NOT_BEFORE_EVENT, Bucket, of
from limiter.core.definition import Definition
from limiter.core.layout import (
    ASKED_BEFORE,
    MAY_WAIT,
    Entry,
    Grant,
    Message,
    Op,
    Outcome,
    Reply,
    Result,
    Status,
)

FORGET_US = 10 * 60 * 1_000_000
NEVER_US = 2**52
SWEEP = 100
GRANTS = 1000
EARLIER_US = 1000

Cost = tuple[int, ...]
Id = tuple[str, int]


@dataclass(slots=True)
class _Ticket:
    seq: int
    flow: str
    cost: Cost


@dataclass(slots=True)
class _Hold:
    granted_us: int
    cost: Cost


@dataclass(slots=True)
class _Owner:
    last: int
    seen: int
    lease: int  # 0: it was reaped
    look_us: int = 0


@dataclass(slots=True)
class _Head:
    id: Id
    cost: Cost
    fit_us: int = NOT_BEFORE_EVENT


class Model:
    """Hold one quota's state; `run` is one run of `lua/run.lua`."""

    def __init__(self, definition: Definition, now: int) -> None:
        self.definition = definition
        self.now = now
        self.buckets = _full(definition)
        self.tickets: dict[Id, _Ticket] = {}
        self.holds: dict[Id, _Hold] = {}
        self.lapsed: dict[Id, _Hold] = {}
        self.owners: dict[str, _Owner] = {}
        self._order: list[tuple[str, int, Id]] = []
        self._seq = 0
        self._lapse = 0
        self._head: _Head | None = None
        self._queued: list[int] = []
        self._mail: dict[str, list[Grant]] = {}
        self._owner = ""

    def run(
        self,
        now: int,
        owner: str,
        number: int,
        lease_us: int,
        version: str,
        entries: Sequence[Entry],
    ) -> tuple[Reply, dict[str, Message]]:
        """Apply a batch; return its reply, and the wake-ups by owner."""
        now = max(now, self.now)
        if version != self.definition.version:
            return Reply(Outcome.STALE), {}
        elapsed, self._owner, self._mail = now - self.now, owner, {}
        self.now = now
        if lease_us and not self._enrol(number, lease_us):
            self.now -= elapsed
            return Reply(Outcome.FENCED), {}
        # The sweep gives back before the refill, as in the script: both clamp at the capacity.
        if now >= self._lapse:
            self._sweep()
        for bucket in self.buckets:
            bucket.refill(elapsed)
        before = (self._head.id, self._head.fit_us) if self._head else (None, NOT_BEFORE_EVENT)
        results = [self._apply(entry) for entry in entries]
        self._pump()
        return self._reply(results), self._messages(*before)

    def redefine(self, definition: Definition) -> None:
        """Take a new definition; what was used of a limit stays used (`lua/declare.lua`)."""
        before = {bucket.label: bucket for bucket in self.buckets}
        fresh = _full(definition)
        for bucket in fresh:
            was = before.get(bucket.label)
            if was:
                used = was.capacity - was.units
                bucket.level = max(-DEBT_MAX, (bucket.capacity - used) * bucket.den)
        self.buckets, self.definition = fresh, definition

    # --- owners ---------------------------------------------------------------------------

    def _enrol(self, number: int, lease_us: int) -> bool:
        known = self.owners.get(self._owner)
        if known and number <= known.last:
            return False
        if known and known.lease:
            known.last, known.seen, known.lease = number, self.now, lease_us
            return True
        self.owners[self._owner] = _Owner(number, self.now, lease_us, self.now + lease_us)
        self._lapse = min(self._lapse, self.now + lease_us)
        return True

    def _is_alive(self, name: str) -> bool:
        if name == self._owner:
            return True
        known = self.owners.get(name)
        return known is not None and known.seen + known.lease > self.now

    def _sweep(self) -> None:
        due = sorted((o.look_us, name) for name, o in self.owners.items() if o.look_us <= self.now)
        for _, name in due[:SWEEP]:
            known = self.owners[name]
            if not known.lease:
                del self.owners[name]
            elif known.seen + known.lease > self.now:
                known.look_us = known.seen + known.lease
            else:
                self._reap(name, known.seen)
                known.lease, known.look_us = 0, self.now + FORGET_US
        self._lapse = min((o.look_us for o in self.owners.values()), default=NEVER_US)

    def _reap(self, name: str, seen: int) -> None:
        for key in sorted(key for key in self.holds if key[0] == name):
            hold = self.holds.pop(key)
            if hold.granted_us > seen:
                arithmetic.true_up(self.buckets, hold.cost, (0,) * len(hold.cost))
            else:
                arithmetic.true_up(self.buckets, hold.cost, ())
                self.lapsed[key] = hold

    # --- entries --------------------------------------------------------------------------

    def _apply(self, entry: Entry) -> Result:
        op, n = int(entry[0]), int(entry[1])
        key = (self._owner, n)
        wait_us = 0
        match op:
            case Op.ACQUIRE:
                cost = tuple(int(amount) for amount in entry[4:])
                status, wait_us = self._acquire(key, int(entry[2]), str(entry[3]), cost)
            case Op.SETTLE:
                status = self._finish(key, tuple(int(amount) for amount in entry[2:]))
            case Op.CANCEL:
                status = self._cancel(key)
            case _:
                status = self._renew(key)
        return Result(status, wait_us, self._levels() if op == Op.ACQUIRE else ())

    def _acquire(self, key: Id, flags: int, flow: str, cost: Cost) -> tuple[Status, int]:
        if flags & ASKED_BEFORE and (known := self._renew(key)) != Status.GONE:
            return known, 0
        if arithmetic.never_fits(self.buckets, cost):
            return Status.NEVER, 0
        if not self.tickets and arithmetic.fits(self.buckets, cost):
            self._take(key, cost)
            return Status.GRANTED, 0
        wait_us = arithmetic.wait_for(self.buckets, self._queued, cost)
        if not flags & MAY_WAIT:
            return Status.REFUSED, wait_us
        self._seq += 1
        self.tickets[key] = _Ticket(self._seq, flow, cost)
        heapq.heappush(self._order, (flow, self._seq, key))
        self._add_queued(cost, 1)
        return Status.WAITING, wait_us

    def _finish(self, key: Id, actual: Cost | None) -> Status:
        hold = self.holds.pop(key, None)
        late = hold is None
        hold = hold or self.lapsed.pop(key, None)
        if hold is None:
            return Status.GONE
        used = (0,) * len(hold.cost) if actual is None else actual
        arithmetic.true_up(self.buckets, hold.cost, used, late=late)
        return Status.LATE if late else Status.DONE

    def _cancel(self, key: Id) -> Status:
        if key not in self.tickets:
            return self._finish(key, None)
        self._remove_ticket(key)
        return Status.DONE

    def _renew(self, key: Id) -> Status:
        if key in self.holds:
            return Status.GRANTED
        return Status.WAITING if key in self.tickets else Status.GONE

    # --- line and pump --------------------------------------------------------------------

    def _take(self, key: Id, cost: Cost) -> None:
        for bucket in self.buckets:
            bucket.level -= of(cost, bucket) * bucket.den
        self.holds[key] = _Hold(self.now, cost)

    def _add_queued(self, cost: Cost, sign: int) -> None:
        self._queued.extend([0] * (len(cost) - len(self._queued)))
        for i, amount in enumerate(cost):
            self._queued[i] += sign * amount

    def _remove_ticket(self, key: Id) -> None:
        self._add_queued(self.tickets.pop(key).cost, -1)
        if self._head and self._head.id == key:
            self._head = None

    def _find_head(self) -> None:
        while self._order:
            key = self._order[0][2]
            ticket = self.tickets.get(key)
            if ticket and ticket.seq == self._order[0][1]:
                self._head = _Head(key, ticket.cost)
                return
            heapq.heappop(self._order)

    def _pump(self) -> None:
        for _ in range(GRANTS):
            if self.tickets and not self._head:
                self._find_head()
            head = self._head
            if not head:
                return
            hopeless = arithmetic.never_fits(self.buckets, head.cost)
            if not hopeless and not arithmetic.fits(self.buckets, head.cost):
                head.fit_us = arithmetic.fit_at(self.buckets, head.cost, self.now)
                return
            self._remove_ticket(head.id)
            if hopeless:
                self._tell(head.id, Status.NEVER)
            elif self._is_alive(head.id[0]):
                self._take(head.id, head.cost)
                self._tell(head.id, Status.GRANTED)
        if self.tickets and not self._head:
            self._find_head()
        if self._head:
            self._head.fit_us = self.now

    def _tell(self, key: Id, status: Status) -> None:
        self._mail.setdefault(key[0], []).append(Grant(key[1], status, self._levels()))

    # --- what the others hear -------------------------------------------------------------

    def _levels(self) -> tuple[int, ...]:
        return tuple(bucket.units for bucket in self.buckets)

    def _reply(self, results: list[Result]) -> Reply:
        head = self._head
        next_us = max(0, head.fit_us - self.now) if head and head.fit_us >= 0 else -1
        return Reply(
            outcome=Outcome.DONE,
            next_us=next_us,
            mine=head is not None and head.id[0] == self._owner,
            waiting=len(self.tickets),
            held=len(self.holds),
            levels=self._levels(),
            results=results,
            grants=self._mail.get(self._owner, []),
        )

    def _messages(self, id_before: Id | None, fit_before: int) -> dict[str, Message]:
        head = self._head
        if head:
            fit = head.fit_us
            earlier = fit >= 0 and (fit_before < 0 or fit < fit_before - EARLIER_US)
            if head.id != id_before or earlier:
                self._mail.setdefault(head.id[0], [])
        messages = {}
        for name, grants in self._mail.items():
            mine = head is not None and head.id[0] == name and head.fit_us >= 0
            next_us = max(0, head.fit_us - self.now) if head and mine else -1
            messages[name] = Message(next_us, grants)
        messages.pop(self._owner, None)
        return messages


def _full(definition: Definition) -> list[Bucket]:
    return [
        Bucket.full(limit, definition.dims.index(limit.dimension) + 1)
        for limit in definition.limits
    ]
