"""A ledger beside the engine, in fractions, event by event; and the rules of the line in words.

It shares no arithmetic with the engine: it reads the quota as its declarer wrote it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain

from limiter.core.layout import Status
from limiter.core.quota import Limit
from tests.laws.world import Call, World


@dataclass(slots=True)
class Level:
    """Hold what is left of one limit, and every change that a call made."""

    capacity: int
    rate: Fraction
    left: Fraction
    events: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def full(cls, capacity: int, rate: Fraction) -> Level:
        return cls(capacity, rate, Fraction(capacity))

    def refill(self, us: int) -> None:
        self.left = min(Fraction(self.capacity), self.left + self.rate * us)

    def take(self, amount: int, now: int) -> None:
        self.left -= amount
        self.events.append((now, amount))

    def end(self, estimate: int, actual: int, now: int, *, late: bool) -> None:
        """End a call; `actual` −1: the estimate stands. Slots come back, once."""
        if self.rate == 0:
            actual = estimate if late else 0
        if actual < 0 or actual == estimate:
            return
        self.left = min(Fraction(self.capacity), self.left + estimate - actual)
        self.events.append((now, min(0, actual - estimate)))

    def check_rate(self) -> None:
        """Law 2: in any interval of length T at most burst + rate·T; one call is burst enough."""
        allowed = max([self.capacity, *(amount for _, amount in self.events)])
        for i, (begin, _) in enumerate(self.events):
            total = 0
            for at, amount in self.events[i:]:
                total += amount
                assert total <= allowed + self.rate * (at - begin)


class Beside:
    """Follow a world whose engine is the model; check it after every step."""

    def __init__(self, world: World) -> None:
        self.world, self.quota = world, world.quota
        self.dims = world.agreed.dims
        self.levels = [Level.full(limit.capacity, limit.rate) for limit in self.quota.limits]
        self.shares = [self._share_of(p) for p in world.agreed.priorities]
        self.tenants: dict[str, list[Level]] = defaultdict(
            lambda: [Level.full(limit.capacity, limit.rate) for limit in self.quota.tenant_limits]
        )
        self.at = world.now
        self.asked = [0] * len(self.shares)
        self.since: dict[tuple[int, str], int] = {}
        self.seen: dict[str, int] = {}
        self.lent: set[Call] = set()
        self.lapsed: set[Call] = set()
        self.line: list[Call] = []  # in the order of arrival

    def _share_of(self, policy) -> list[Level]:
        if policy.priority.share is None:
            return []
        shares = [limit.share(policy.priority.share) for limit in self.quota.limits]
        return [Level.full(each.capacity, Fraction(each.num, each.den)) for each in shares]

    # --- what happens ---------------------------------------------------------------------

    def step(self, owner: str, what: str, *args, **options) -> None:
        """Let the world do one thing, follow it, and check all that must hold."""
        world = self.world
        taken = len(world.engine.taken)
        self._reap(owner)
        self._refill()
        if what == "ask":
            self._ask(owner, options)
        elif what == "poll":
            world.poll(owner)
        else:
            self._end(what, *args)
        for key, hold in world.engine.taken[taken:]:
            self._grant(world.calls[key], hold.lent)
        for call in self.line:
            if call.waits and (call.owner, call.n) not in world.engine.tickets:
                assert self._is_lost(call), "only tickets of the lost are dropped"
                call.status = Status.GONE
        self.line = [call for call in self.line if call.waits]
        self.check()

    @property
    def waiting(self) -> list[Call]:
        """Return who waits and is alive."""
        return [call for call in self.line if not self._is_lost(call)]

    def _is_lost(self, call: Call) -> bool:
        return self.seen.get(call.owner, 0) + self.world.lease_us <= self.world.now

    def _reap(self, owner: str) -> None:
        now = self.world.now
        self.seen[owner] = now
        for call in self.world.calls.values():
            if call.held and self._is_lost(call):
                unused = call.granted_us > self.seen[call.owner]
                self._back(call, [0 if unused else -1] * len(call.cost), late=False)
                call.status = Status.DONE if unused else Status.LATE
                if not unused:
                    self.lapsed.add(call)

    def _refill(self) -> None:
        for level in chain(self.levels, *self.shares, *self.tenants.values()):
            level.refill(self.world.now - self.at)
        self.at = self.world.now

    def _ask(self, owner: str, options: dict) -> None:
        index = self.world.agreed.priority_index(options["priority"])
        self.asked[index] = self.world.now
        others = bool(self.world.engine.tickets)
        call = self.world.ask(owner, **options)
        if call.waits or (call.held and others):
            group = (call.priority, call.route)
            if not any((c.priority, c.route) == group for c in self.line):
                self.since[group] = self.world.now
            self.line.append(call)
        if call.status == Status.NEVER:
            assert self._never_fits(call)
        assert call.status != Status.WAITING or call.flags & 1

    def _end(self, what: str, call: Call, actual: tuple[int, ...]) -> None:
        if call.held or call in self.lapsed:
            late = call in self.lapsed
            used = [0] * len(call.cost) if what == "cancel" else actual
            self._back(call, used, late=late)
            self.lapsed.discard(call)
            expected = Status.LATE if late else Status.DONE
        else:
            expected = Status.DONE if call.waits and what == "cancel" else Status.GONE
        if call in self.line and what == "cancel":
            self.line.remove(call)
        status = self.world.cancel(call) if what == "cancel" else self.world.settle(call, actual)
        assert status == expected

    def _all_of(self, call: Call) -> list[tuple[Limit, Level]]:
        found = list(zip(self.quota.limits, self.levels, strict=True))
        if call not in self.lent and self.shares[call.priority]:
            found += zip(self.quota.limits, self.shares[call.priority], strict=True)
        if call.tenant:
            found += zip(self.quota.tenant_limits, self.tenants[call.tenant], strict=True)
        return found

    def amount(self, call: Call, limit: Limit) -> int:
        return call.cost[self.dims.index(limit.dimension)]

    def _back(self, call: Call, actual, *, late: bool) -> None:
        for limit, level in self._all_of(call):
            used = actual[self.dims.index(limit.dimension)]
            level.end(self.amount(call, limit), used, self.world.now, late=late)

    # --- the rules ------------------------------------------------------------------------

    def _policy(self, call: Call):
        return self.world.agreed.priorities[call.priority].priority

    def _never_fits(self, call: Call) -> bool:
        limits = [*self.quota.limits, *(self.quota.tenant_limits if call.tenant else ())]
        return any(self.amount(call, limit) > limit.ceiling for limit in limits)

    def entitled(self, call: Call) -> bool:
        """Say whether its share has room for it."""
        shares = zip(self.quota.limits, self.shares[call.priority], strict=False)
        return all(
            self.amount(call, limit) == 0
            or level.left >= min(self.amount(call, limit), level.capacity)
            for limit, level in shares
        )

    def promoted(self, call: Call) -> bool:
        """Say whether its class has waited for long enough to go first."""
        after = self._policy(call).promote_after_s
        since = self.since.get((call.priority, call.route), self.world.now)
        return after is not None and self.world.now - since >= after * 1e6

    def guarded(self, call: Call) -> bool:
        """Say whether the floor of its priority holds."""
        policy = self._policy(call)
        above = [
            i
            for i, each in enumerate(self.world.agreed.priorities)
            if each.priority.level > policy.level
        ]
        lend_us = round(policy.lend_after_s * 1e6)
        return policy.strict or any(
            self.asked[i] + lend_us > self.world.now or any(c.priority == i for c in self.waiting)
            for i in above
        )

    def needs(self, call: Call) -> list[int]:
        """Say how much must be in each limit for the call; a promoted one may draw below the floor."""
        promoted = call in self.line and self.promoted(call)
        part = self._policy(call).floor if self.guarded(call) and not promoted else 0.0
        return [
            min(c + limit.floor(part), limit.capacity) if (c := self.amount(call, limit)) else 0
            for limit in self.quota.limits
        ]

    def own_fits(self, call: Call) -> bool:
        """Say whether its tenant's own limits allow it."""
        levels = self.tenants[call.tenant] if call.tenant else ()
        own = zip(self.quota.tenant_limits, levels, strict=False)
        return all(
            self.amount(call, limit) == 0
            or level.left >= min(self.amount(call, limit), level.capacity)
            for limit, level in own
        )

    def heads(self) -> list[Call] | None:
        """Return the heads of all classes by their turn; None where fair queueing decides."""
        found: dict[tuple[int, str], Call] = {}
        tenants: dict[tuple[int, str], set[str]] = defaultdict(set)
        for call in self.waiting:
            group = (call.priority, call.route)
            found.setdefault(group, call)
            tenants[group].add(call.tenant)
        if any(len(each) > 1 for each in tenants.values()):
            return None
        heads = [call for call in found.values() if self.own_fits(call) and self._may(call)]
        order = list(self.waiting)
        return sorted(heads, key=lambda c: (self.rank(c), -self._policy(c).level, order.index(c)))

    def _may(self, call: Call) -> bool:
        return self.entitled(call) or not self._policy(call).strict

    def rank(self, call: Call) -> int:
        return 0 if self.promoted(call) else 1 if self.entitled(call) else 2

    def next_one(self) -> Call | None:
        """Return who must be granted now, by the rules: the first head that others leave room for."""
        ahead = [0] * len(self.levels)
        for call in self.heads() or ():
            needs = self.needs(call)
            wanted = [i for i, limit in enumerate(self.quota.limits) if self.amount(call, limit)]
            if all(
                self.levels[i].left >= needs[i] + min(ahead[i], self.levels[i].capacity)
                for i in wanted
            ):
                return call
            ahead = [a + n for a, n in zip(ahead, needs, strict=True)]
        return None

    def _grant(self, call: Call, lent: bool) -> None:
        if call in self.line and len(self.waiting) == len(self.line) and self.heads():
            assert self.next_one() is call
        flow = (call.priority, call.route, call.tenant)
        for other in self.waiting[: self.waiting.index(call)] if call in self.line else ():
            assert (other.priority, other.route, other.tenant) != flow, "first come"
        assert self.own_fits(call), "a tenant's own limits"
        for need, level in zip(self.needs(call), self.levels, strict=True):
            assert need == 0 or level.left >= need, "fits, and leaves the floor"
        policy = self._policy(call)
        if lent:
            assert not policy.strict
            assert not self.entitled(call)
            self.lent.add(call)
        else:
            assert self.entitled(call) or (self.promoted(call) and not policy.strict)
        for limit, level in self._all_of(call):
            level.take(self.amount(call, limit), self.world.now)
        if call in self.line:
            self.line.remove(call)
            self.since[call.priority, call.route] = self.world.now

    def check(self) -> None:
        """Levels are exact, and nobody waits who need not."""
        model = self.world.engine
        for level, bucket in zip(self.levels, model.ledger.buckets, strict=True):
            assert level.left == Fraction(bucket.level, bucket.den)
        for levels, standing in zip(self.shares, model.ledger.standings, strict=True):
            for level, bucket in zip(levels, standing.shares or [], strict=True):
                assert level.left == Fraction(bucket.level, bucket.den)
        for tenant, levels in self.tenants.items():
            buckets = model.ledger.tenants._buckets(tenant, self.world.now)
            for level, bucket in zip(levels, buckets, strict=True):
                assert level.left == Fraction(bucket.level, bucket.den)
        assert len(self.line) == len(model.tickets)
        if len(self.waiting) == len(self.line):
            assert self.next_one() is None, "work conserving"

    def check_rates(self) -> None:
        for level in chain(self.levels, *self.tenants.values()):
            level.check_rate()
        for policy, levels in zip(self.world.agreed.priorities, self.shares, strict=True):
            for level in levels if policy.priority.strict else []:
                level.check_rate()
