"""The reference model: what the scripts do, in plain Python, for one unit.

Pure: time is an argument. The tests hold it against the Lua, step by step; `memory://` is this
model behind a lock. Where the two differ, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from limiter.core.buckets import NOT_BEFORE_EVENT
from limiter.core.definition import Definition
from limiter.core.feedback import Feedback
from limiter.core.flows import Class, Cost, Id, Ticket, forget
from limiter.core.gates import Gates
from limiter.core.layout import (
    ASKED_BEFORE,
    MAY_WAIT,
    PUNCTUAL,
    REPEATED,
    Acquire,
    Entry,
    Message,
    Op,
    Outcome,
    Reply,
    Report,
    Result,
    Settle,
    Status,
)
from limiter.core.ledger import Candidate, Ledger
from limiter.core.mail import Mail, Timer, due_in, soonest
from limiter.core.owners import NEVER_US, Hold, Owners
from limiter.core.standing import BARRED, BORROWING, add_part

GRANTS = 250
HEADS = 2000
FORGET = 100
BLOCKS = 100
RECHECK_US = 5_000_000


class Model:
    """Hold one unit's state; `run` is one run of `lua/run.lua`."""

    def __init__(self, definition: Definition, now: int) -> None:
        self.ledger = Ledger(definition, now)
        self.classes: list[Class] = []
        self.tickets: dict[Id, Ticket] = {}
        self.holds: dict[Id, Hold] = {}
        self.lapsed: dict[Id, Hold] = {}
        self.owners = Owners()
        self.gates = Gates()
        self.feedback = Feedback(self.gates, now)
        self._seq = 0
        self._timer: Timer | None = None
        self._recheck: tuple[int, Id] | None = None
        self._blocks = 0  # flows that stepped aside in this run
        self._blocked: set[tuple[int, int, int, str]] = set()
        self._mail = Mail("")

    @property
    def definition(self) -> Definition:
        """Return the definition that batches must name."""
        return self.ledger.definition

    @property
    def now(self) -> int:
        """Return the time of the last run."""
        return self.ledger.now

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
        if version != self.definition.version:
            return Reply(Outcome.STALE), {}
        before, now = self.now, max(now, self.now)
        self._mail, self._blocks = Mail(owner), 0
        if lease_us and not self.owners.enrol(owner, now, number, lease_us):
            return Reply(Outcome.FENCED), {}
        self.ledger.now = now
        # The sweep gives back before the refill, as in the script: both clamp at the capacity.
        for name, seen in self.owners.sweep(now):
            self._reap(name, seen)
        self.ledger.refill(now - before)
        timer = self._timer
        results = [self._apply(entry) for entry in entries]
        self._pump()
        self.ledger.tenants.tidy(now)
        self.gates.tidy(now)
        return self._reply(results), self._mail.messages(self._timer, timer, now)

    def redefine(self, definition: Definition, now: int) -> None:
        """Take a new definition; what was used of a limit until now stays used."""
        tenants, before = self.ledger.tenants, self.now
        self.ledger.now = max(now, before)
        self.ledger.refill(self.now - before)
        self.ledger.redefine(definition)
        self.feedback.redefined(self.now)
        if self.ledger.tenants is not tenants:
            self._recheck = self._recheck and (0, self._recheck[1])  # look at every blocked flow
            for each in self.classes:
                each.head = None

    def _is_alive(self, name: str) -> bool:
        return name == self._mail.owner or self.owners.is_alive(name, self.now)

    def _reap(self, name: str, seen: int) -> None:
        for key in [key for key in self.holds if key[0] == name]:
            hold = self.holds.pop(key)
            unused = hold.granted_us > seen
            self._end_hold(hold, (0,) * len(hold.cost) if unused else ())
            if not unused:
                self.lapsed[key] = hold

    # --- entries --------------------------------------------------------------------------

    def _apply(self, entry: Entry) -> Result:
        key = (self._mail.owner, entry[1])
        match entry:
            case Acquire():
                return Result(*self._acquire(key, entry), levels=self.ledger.levels())
            case Settle():
                return Result(self._finish(key, entry.actual))
            case Report():
                waiting, hold = bool(self.tickets), self.holds.get(key)
                self.feedback.report(entry, hold, self.ledger, waiting=waiting)
                return Result(Status.DONE)
        return self._ask(key, entry)

    def _ask(self, key: Id, entry: tuple[int, int] | tuple[int, int, str]) -> Result:
        found: Sequence[int] = ()
        match entry:
            case (Op.CANCEL, _):
                return Result(self._cancel(key))
            case (Op.RENEW, _):
                return Result(self._renew(key))
            case (Op.LOOK, _):
                return Result(*self._look(key))
            case (Op.TELL, _, str(route)):
                found = self.feedback.tell(route, self.ledger)
            case _:
                found = self._survey()
        return Result(Status.DONE, levels=tuple(found))

    def _survey(self) -> list[int]:
        found = []
        for each in self.ledger.standings:
            found += [each.waits, self.ledger.wait_behind(each, self.classes)]
        return found

    def _acquire(self, key: Id, entry: Acquire) -> tuple[Status, int, int]:
        standing = self.ledger.standings[entry.priority]
        standing.asked_us = self.now
        if entry.flags & ASKED_BEFORE and (known := self._renew(key)) != Status.GONE:
            return known, 0, 0
        if self.ledger.exceeds(entry.tenant, entry.cost):
            return Status.NEVER, 0, 0
        if (turned_away := self._turned_away(key, entry)) is not None:
            return turned_away
        free = self.gates.brake_ends(entry.route, self.now) == self.now
        if not self.tickets and free:
            borrows = self.ledger.fits_alone(standing, entry.tenant, entry.cost)
            if borrows is not None:
                hold = Hold(self.now, entry.priority, borrows, entry.tenant, entry.cost)
                self._take(key, hold)
                return Status.GRANTED, 0, 0
        group = self._class_of(entry.priority, entry.route)
        ticket = Ticket(key, 0, group, entry.tenant, entry.weight, entry.cost)
        wait_us, ahead = self._outlook(ticket, None)
        refusal = Status.FULL if 0 <= standing.most <= standing.waits else None
        late = entry.flags & PUNCTUAL and wait_us > entry.patience_us
        if late or not entry.flags & MAY_WAIT:
            refusal = Status.REFUSED
        status = self._stand(ticket, refusal)
        return (status, 0, 0) if status == Status.GRANTED else (status, wait_us, ahead)

    def _turned_away(self, key: Id, entry: Acquire) -> tuple[Status, int, int] | None:
        """Say what refuses a call other than the levels."""
        if entry.flags & REPEATED and not self.feedback.may_repeat(entry.route, self.now):
            return Status.SPENT, 0, 0
        shut = self.gates.shut_until(entry.route, key, self.now)
        return None if shut is None else (Status.OPEN, shut[0] - self.now, int(shut[1]))

    def _stand(self, ticket: Ticket, refusal: Status | None) -> Status:
        group, others = ticket.group, bool(self.tickets)
        if refusal and (not others or ticket.tenant in group.flows):
            return refusal
        self._enqueue(ticket)
        if others and (group.head is None or group.lined == 1):
            self._mail.expect(ticket.id)
            self._pump()
            if answer := self._mail.expected():
                return answer
        if refusal:
            self._remove(ticket, 0)
        return refusal or Status.WAITING

    def _finish(self, key: Id, actual: Cost | None) -> Status:
        self.gates.release_probe(key)
        hold = self.holds.pop(key, None)
        late = hold is None
        hold = hold or self.lapsed.pop(key, None)
        if hold is None:
            return Status.GONE
        self._end_hold(hold, (0,) * len(hold.cost) if actual is None else actual, late=late)
        return Status.LATE if late else Status.DONE

    def _cancel(self, key: Id) -> Status:
        ticket = self.tickets.get(key)
        if ticket is None:
            return self._finish(key, None)
        self.gates.release_probe(key)
        self._remove(ticket, 0)
        return Status.DONE

    def _renew(self, key: Id) -> Status:
        if key in self.holds:
            return Status.GRANTED
        return Status.WAITING if key in self.tickets else Status.GONE

    def _look(self, key: Id) -> tuple[Status, int, int]:
        status = self._renew(key)
        if status != Status.WAITING:
            return status, 0, 0
        return status, *self._outlook(self.tickets[key], self.tickets[key].seq)

    # --- levels ---------------------------------------------------------------------------

    def _take(self, key: Id, hold: Hold) -> None:
        self.ledger.take(hold)
        hold.marks = self.ledger.marks()
        self.holds[key] = hold
        self._forget_heads(hold.tenant)

    def _end_hold(self, hold: Hold, actual: Sequence[int], *, late: bool = False) -> None:
        self.ledger.true_up(hold, actual, late=late)
        self._forget_heads(hold.tenant)
        if self._recheck and self.ledger.tenants.is_limited(hold.tenant):
            self._unblock_tenant(hold.tenant)

    def _forget_heads(self, tenant: str) -> None:
        """Look for heads anew that were found to fit by levels that have changed."""
        for each in self.classes if self.ledger.tenants.is_limited(tenant) else ():
            if each.head and each.head.tenant == tenant:
                each.head = None

    def _outlook(self, ticket: Ticket, seq: int | None) -> tuple[int, int]:
        """Return how long a ticket waits at most, and how many go first; seq None: a new one."""
        group = ticket.group
        flow = group.flows.get(ticket.tenant)
        k = 0 if flow is None else sum(seq is None or n < seq for n in flow.tickets)
        weights = group.weights if group.lined else 0
        weights += ticket.weight if seq is None and k == 0 else 0
        others = [each for each in self.classes if each is not group]
        wait_us, ahead = self.ledger.outlook(ticket, k, weights, others)
        return max(wait_us, self.gates.brake_ends(group.route, self.now) - self.now), ahead

    # --- line and pump --------------------------------------------------------------------

    def _class_of(self, priority: int, route: str) -> Class:
        for each in self.classes:
            if (each.priority, each.route) == (priority, route):
                return each
        self.classes.append(Class(len(self.classes), priority, route, self.now))
        return self.classes[-1]

    def _enqueue(self, ticket: Ticket) -> None:
        self._seq += 1
        ticket.seq = self._seq
        self.tickets[ticket.id] = ticket
        ticket.group.join(ticket, self.now)
        self.ledger.standings[ticket.group.priority].waits += 1

    def _remove(self, ticket: Ticket, moved_us: int) -> None:
        group = ticket.group
        del self.tickets[ticket.id]
        self.ledger.standings[group.priority].waits -= 1
        flow = group.flows[ticket.tenant]
        was_blocked = flow.blocked_until is not None and flow.first is ticket
        if was_blocked:
            self._blocked.discard((flow.blocked_until, group.number, flow.tag, ticket.tenant))
        group.leave(ticket, moved_us)
        if was_blocked and flow.tickets:
            group.unblock(ticket.tenant)

    def _find_head(self, group: Class) -> None:
        while self._blocks < BLOCKS and (found := group.first()):
            tenant, flow = found
            at = self.ledger.tenants.fit_at(tenant, flow.first.cost, self.now)
            if at == self.now:
                group.head, group.head_tag = flow.first, flow.tag
                return
            self._blocks += 1
            until = self.now + RECHECK_US
            flow.blocked_until = until = until if at == NOT_BEFORE_EVENT else min(until, at)
            self._blocked.add((until, group.number, flow.tag, tenant))
            if not self._recheck or until < self._recheck[0]:
                self._recheck = (until, flow.first.id)

    def _unblock_tenant(self, tenant: str) -> None:
        for each in [each for each in self._blocked if each[3] == tenant]:
            self._blocked.discard(each)
            self.classes[each[1]].unblock(tenant)

    def _unblock_due(self) -> None:
        if not self._recheck or self._recheck[0] > self.now:
            return
        until = NEVER_US if self._recheck[0] == 0 else self.now  # all, when limits have changed
        for each in sorted(each for each in self._blocked if each[0] <= until)[:FORGET]:
            self._blocked.discard(each)
            self.classes[each[1]].unblock(each[3])
        self._recheck = None
        if self._blocked:
            until, number, _, tenant = min(self._blocked)
            self._recheck = (until, self.classes[number].flows[tenant].first.id)

    def _candidates(self) -> list[Candidate]:
        found = []
        for group in self.classes:
            if group.lined and not group.head:
                self._find_head(group)
            if group.lined and group.head:
                standing = self.ledger.standings[group.priority]
                rank = standing.rank(group.head.cost, group.since, self.now)
                found.append(Candidate(group.head, standing, *rank))
        return sorted(found, key=lambda each: each.turn)

    def _leave(self, candidate: Candidate, status: Status) -> None:
        ticket, group = candidate.head, candidate.head.group
        served = status == Status.GRANTED and self._is_alive(ticket.id[0])
        charge = 0
        if served:
            charge = self.ledger.charge_us(ticket)
            group.virtual, group.since = group.head_tag, self.now
        self._remove(ticket, charge)
        if served:
            lent = candidate.rank == BORROWING
            self._take(ticket.id, Hold(self.now, group.priority, lent, ticket.tenant, ticket.cost))
            forget([group], 3, group.virtual)
        if served or status in (Status.NEVER, Status.OPEN):
            self._mail.tell(ticket.id, status, self.ledger.levels())

    def _refusal_for(self, candidate: Candidate) -> Status | None:
        head = candidate.head
        if self.ledger.exceeds(head.tenant, head.cost):
            return Status.NEVER
        shut = self.gates.shut_until(head.group.route, head.id, self.now)
        return None if shut is None else Status.OPEN

    def _step(self) -> bool:
        """Grant one head, or note when the next one will fit."""
        found = self._candidates()
        ahead: list[int] | None = None
        times: list[tuple[int, Id]] = []
        for each in found:
            cost, at = each.head.cost, each.better_us
            if refusal := self._refusal_for(each):
                self._leave(each, refusal)
                return True
            if each.rank != BARRED:
                at, last = self.ledger.room_at(each.policy, cost, ahead)
                if at != NOT_BEFORE_EVENT:
                    at = max(at, self.gates.brake_ends(each.head.group.route, self.now))
                if at == self.now:
                    self._leave(each, Status.GRANTED)
                    return True
                if ahead is None:
                    self.ledger.bottleneck, ahead = last, []
                add_part(ahead, self.ledger.needs(each.policy, cost), 1, 1)
                if len(found) > 1:
                    times.append((each.better_us, each.head.id))
            times.append((at, each.head.id))
        if self._recheck:
            at = self._recheck[0] if self._blocks < BLOCKS else self.now
            times.append((at, self._recheck[1]))
        self._timer = soonest(times)
        return False

    def _pump(self) -> None:
        self._unblock_due()
        for _ in range(min(GRANTS, -(-HEADS // max(1, len(self.classes))))):
            if not self.tickets:
                self._timer = None
                forget(self.classes, FORGET)
                if not any(each.idle for each in self.classes):
                    self.classes.clear()
                return
            if not self._step():
                return
        first = self._candidates()[:1]
        self._timer = (first[0].head.id, self.now) if first else None

    def _reply(self, results: list[Result]) -> Reply:
        return Reply(
            outcome=Outcome.DONE,
            next_us=due_in(self._timer, self.now),
            mine=self._timer is not None and self._timer[0][0] == self._mail.owner,
            waiting=len(self.tickets),
            held=len(self.holds),
            levels=self.ledger.levels(),
            results=results,
            grants=self._mail.own,
        )
