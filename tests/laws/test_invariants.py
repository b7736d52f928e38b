"""What must hold after every step of any sequence, by a ledger and rules of their own.

`LIMITER_EXAMPLES` sets how many sequences are tried.
"""

from __future__ import annotations

import copy
import itertools
import os
from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core.layout import Status
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from tests.engine.test_model import OWNERS, PRIORITIES, burst, priority, some_limits
from tests.laws.beside import Beside
from tests.laws.world import Call, World

EXAMPLES = int(os.environ.get("LIMITER_EXAMPLES", "150"))
LEASE_US = 30_000_000
numbers = itertools.count()

few = settings(
    max_examples=EXAMPLES,
    report_multiple_bugs=False,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# Small limits: so most calls wait, and for each other.
tight = st.lists(
    st.one_of(
        st.builds(Limit, st.sampled_from(["requests", "tokens"]), st.integers(1, 20),
                  st.sampled_from([1.0, 7.5, 60.0]), burst, st.just(0.0)),
        st.builds(Limit, st.just("concurrency"), st.integers(1, 3), st.none()),
    ),
    min_size=1, max_size=3, unique_by=lambda limit: limit.label,
)  # fmt: skip
plain = st.fixed_dictionaries({
    "level": st.sampled_from([0, 5]),
    "promote_after_s": st.sampled_from([None, 1.0, 5.0]),
})  # fmt: skip
policies = st.one_of(priority, plain)
quotas = st.builds(
    lambda limits, own, policies: Quota(
        "q",
        limits=limits,
        tenant_limits=own,
        priorities=[
            Priority(name, **policy) for name, policy in zip(PRIORITIES, policies, strict=True)
        ],
    ),
    st.one_of(some_limits(1, 3), tight, tight),
    st.one_of(st.just([]), tight),
    st.tuples(policies, policies, policies),
)
# No more than 2^50 is charged at once, in units of 1/den, and a day's limit of one with a share of a twelfth
# has 12 x 86,400,000,000 of them to a request. The rules that stand beside the engine know no such bound.
MOST = 1_000
amounts = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 1200)), min_size=4, max_size=4)
pauses = st.one_of(st.just(0), st.integers(0, 3_000_000), st.integers(0, 40_000_000))
tenant = st.sampled_from(["", "t", "t", "u"])
asks = st.fixed_dictionaries({
    "flags": st.sampled_from([0, 1, 1, 1, 1, 5]),
    "patience_us": st.sampled_from([0, 1_000_000, 60_000_000]),
    "priority": st.sampled_from(PRIORITIES),
    "tenant": tenant,
    "route": st.sampled_from(["", "", "", "x"]),
    "weight": st.sampled_from([100, 300]),
    "cost": amounts,
})  # fmt: skip
steps = st.lists(
    st.tuples(
        st.sampled_from(OWNERS), pauses,
        st.one_of(
            asks, asks, asks,
            st.tuples(st.sampled_from(["settle", "settle", "cancel"]), st.integers(0, 30),
                      st.lists(st.one_of(st.just(-1), st.integers(0, MOST)), min_size=4, max_size=4)),
            st.just("poll"),
        ),
    ),
    max_size=40,
)  # fmt: skip


def fitted(cost: list[int], quota: Quota, dims: tuple[str, ...]) -> tuple[int, ...]:
    """Make a cost small enough for every limit, so that it waits and is served."""
    limits = [*quota.limits, *quota.tenant_limits]
    most = {d: min(limit.ceiling for limit in limits if limit.dimension == d) for d in dims}
    return tuple(amount % (most[d] + 1) for amount, d in zip(cost, dims, strict=False))


def play(world: World, told: list[tuple], beside: Beside) -> None:
    dims = world.agreed.dims
    for owner, pause_us, what in told:
        world.now += pause_us
        calls = list(world.calls.values())
        if what == "poll":
            beside.step(owner, "poll")
        elif isinstance(what, dict):
            beside.step(owner, "ask", **{**what, "cost": fitted(what["cost"], world.quota, dims)})
        elif calls:
            kind, which, actual = what
            call = calls[which % len(calls)]
            beside.step(call.owner, kind, call, tuple(actual[: len(dims)]))


@few
@given(quota=quotas, told=steps)
def test_every_step_keeps_the_laws(quota: Quota, told: list[tuple]) -> None:
    """Laws 2 to 5 and 7, for limits, shares, floors and tenants' own limits.

    After each step every level is what the events say, and nobody waits whom the rules let go. Each
    grant is first come first served within its flow, leaves the floor while it holds, is within the
    tenant's limits, and was the next by rank, level and arrival.
    """
    world = World(quota, None, LEASE_US)
    beside = Beside(world)
    play(world, told, beside)
    beside.check_rates()


def snapshot(world: World) -> tuple:
    """Return everything that a refused call must leave as it was."""
    model = world.engine
    lines = [
        (c.priority, c.route, c.lined, c.weights, c.virtual, c.queued, c.idle,
         {t: (f.tag, list(f.tickets), f.blocked_until) for t, f in c.flows.items()})
        for c in model.classes
        if c.lined or c.idle
    ]  # fmt: skip
    waits = [standing.waits for standing in model.ledger.standings]
    return copy.deepcopy((lines, waits, model.ledger.levels(), list(model.tickets), model.holds))


@few
@given(quota=quotas, told=steps, what=asks)
def test_a_refused_call_leaves_nothing(quota: Quota, told: list[tuple], what: dict) -> None:
    """Law 6: a call that may not wait, or not for that long, takes nothing when it is refused."""
    world = World(quota, None, LEASE_US)
    play(world, told, Beside(world))
    world.poll("ann")
    before = snapshot(world)
    cost = fitted(what["cost"], quota, world.agreed.dims)
    call = world.ask("ann", **{**what, "cost": cost, "flags": what["flags"] & 4})
    assert call.status in (Status.GRANTED, Status.REFUSED)
    if not call.held:
        assert snapshot(world) == before


@few
@given(quota=quotas, told=steps)
def test_in_the_end_nothing_is_left(quota: Quota, told: list[tuple]) -> None:
    """When every call has ended and time has passed, only the owners are known."""
    world = World(quota, None, LEASE_US)
    play(world, told, Beside(world))
    for call in world.calls.values():
        world.cancel(call)
    for _ in range(20):
        world.after(100 * 86_400).poll("ann")
    model = world.engine
    assert (model.tickets, model.holds, model._aside._flows) == ({}, {}, set())
    assert len(model.ledger.tenants) == 0
    assert not any(c.flows or c.idle or c.lined or any(c.queued) for c in model.classes)
    assert all(bucket.is_full for bucket in model.ledger._shared())


@settings(few, max_examples=max(8, EXAMPLES // 15))
@given(quota=quotas, told=steps)
def test_in_the_end_nothing_is_left_in_redis(
    any_url: str, name: str, quota: Quota, told: list[tuple]
) -> None:
    """The same of the Lua: all keys are empty or expire."""
    renamed = Quota(f"{name}-{next(numbers)}", limits=quota.limits, priorities=quota.priorities,
                    tenant_limits=quota.tenant_limits)  # fmt: skip
    with World(renamed, any_url, LEASE_US) as world:
        for owner, pause_us, what in told:
            world.now += pause_us
            calls = list(world.calls.values())
            if isinstance(what, dict):
                cost = fitted(what["cost"], quota, world.agreed.dims)
                world.ask(owner, **{**what, "cost": cost})
            elif calls and what != "poll":
                world.settle(calls[what[1] % len(calls)])
        for call in world.calls.values():
            world.cancel(call)
        for _ in range(3):  # a call of a tenant looks at two others
            world.after(7 * 86_400)
            world.cancel(world.ask(tenant="w", flags=0, cost=(0,) * len(world.agreed.dims)))
        client, keys = world.engine.client, world.engine.keys
        assert all(client.pttl(key) != -1 for key in keys.all())
        assert {client.hlen(k) for k in (keys.tickets, keys.holds, keys.flows, keys.tenants)} == {0}
        assert {client.zcard(key) for key in (keys.line, keys.order)} == {0}


@few
@given(quota=quotas, told=steps, often=st.lists(st.integers(1, 9_000_000), min_size=1, max_size=20))
def test_one_timer_is_enough(quota: Quota, told: list[tuple], often: list[int]) -> None:
    """Law 5: who runs a script only when told is granted as early as one who asks all the time."""
    fates = []
    for polls in ([], often):
        world = World(quota)
        for owner, pause_us, what in told:
            let_pass(world, pause_us, polls)
            calls = list(world.calls.values())
            if isinstance(what, dict):
                cost = fitted(what["cost"], quota, world.agreed.dims)
                world.ask(owner, **{**what, "cost": cost})
            elif calls and what != "poll":
                call = calls[what[1] % len(calls)]
                getattr(world, what[0])(call, *([what[2]] if what[0] == "settle" else []))
        let_pass(world, 60_000_000, polls)
        fates.append([(c.n, c.owner, c.status, c.granted_us) for c in world.calls.values()])
    assert fates[0] == fates[1]


def let_pass(world: World, span_us: int, polls: list[int]) -> None:
    """Run a script at each moment that the last reply named, and at some that it did not."""
    end, looks = world.now + span_us, iter(polls)
    extra, again = world.now + next(looks, span_us), 0
    while True:
        due = world.engine._timer
        moments = [extra]
        if due and due[1] >= 0:
            moments.append(max(due[1], world.now))
        at = min(moments)
        if at >= end:
            break
        if at == extra:
            extra += next(looks, span_us)
        again = again + 1 if at == world.now else 0
        assert again < 20, "a timer that is due changes something"
        world.now = at
        world.poll("ann")
    world.now = end


weights = st.sampled_from([100, 100, 200, 37, 1000])


@few
@given(
    line=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 600)), min_size=10, max_size=60),
    weights=st.fixed_dictionaries({"a": weights, "b": weights, "c": weights}),
)
def test_tenants_are_served_by_weight(line: list[tuple[str, int]], weights: dict[str, int]) -> None:
    """Law 4: of two tenants who both wait all the time none is ahead by more than a call of each.

    The bound of start-time fair queueing, for any interval: |W_f/w_f − W_g/w_g| ≤ l_f/w_f + l_g/w_g.
    """
    world = World(Quota("q", tpm=600, headroom=0))
    world.ask(tokens=600)
    calls = [world.ask(tenant=t, weight=weights[t], tokens=amount) for t, amount in line]
    while world.reply.waiting:
        world.now += world.reply.next_us
        world.poll()
    order = [world.calls[key] for key, _ in world.engine.taken[1:]]
    for f, g in itertools.combinations("abc", 2):
        share = {t: {c: charge(c) for c in calls if c.tenant == t} for t in (f, g)}
        if not (share[f] and share[g]):
            continue
        bound = max(share[f].values()) + max(share[g].values())
        apart, low, high = Fraction(0), Fraction(0), Fraction(0)
        left = {t: len(share[t]) for t in (f, g)}
        for call in order:
            if call.tenant in left:
                apart += share[call.tenant][call] * (1 if call.tenant == f else -1)
                left[call.tenant] -= 1
                low, high = min(low, apart), max(high, apart)
                if not all(left.values()):
                    break
        assert high - low <= bound


def charge(call: Call) -> Fraction:
    return -(-Fraction(call.cost[0] * 100_000 * 100) // call.weight)


@few
@given(
    high=st.integers(10, 600),
    low=st.integers(1, 600),
    floor=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    share=st.sampled_from([None, 0.1, 0.5]),
    promote_s=st.integers(1, 60),
)
def test_nobody_starves(
    high: int, low: int, floor: float, share: float | None, promote_s: int
) -> None:
    """Law 4: a priority that is promoted gets a call each such span, once there is room for it."""
    policies = [
        Priority("high", level=9),
        Priority("low", level=-9, floor=floor, share=share, promote_after_s=promote_s),
    ]
    world = World(Quota("q", tpm=600, headroom=0, priorities=policies))
    world.ask(priority="high", tokens=600)
    waiting = [world.ask(priority="low", tokens=low) for _ in range(3)]
    room_us = 61_000_000  # the bucket is full after a minute: then anything fits
    above = world.ask(priority="high", tokens=high)
    for call in waiting:
        begin = world.now
        while not call.held:
            if above.held:
                above = world.ask(priority="high", tokens=high)
            world.now += world.reply.next_us
            world.poll()
            assert world.now - begin <= promote_s * 1e6 + room_us


@few
@given(
    limit=st.tuples(st.integers(1, 1000), st.sampled_from([1.0, 60.0, 7.5]), burst),
    line=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 3_000_000)), max_size=40),
)
def test_a_wait_is_told_at_most(
    limit: tuple[int, float, str | float], line: list[tuple[int, int]]
) -> None:
    """A call of a line by itself waits no longer than it was told, behind no more than it was told."""
    amount, per, size = limit
    world = World(Quota("q", limits=[Limit("tokens", amount, per, size, headroom=0)]))
    for tokens, pause_us in line:
        let_pass(world, pause_us, [])
        world.ask(tokens=tokens % (amount + 1))
    for _ in range(1000):
        if not world.poll().waiting:
            break
        world.now += world.reply.next_us
    calls = list(world.calls.values())
    for i, call in enumerate(calls):
        assert call.held
        # A smooth burst loses what is left of a microsecond with each grant.
        assert call.granted_us - call.asked_us <= call.wait_us + call.ahead
        before = [c for c in calls[:i] if c.granted_us > call.asked_us]
        assert len(before) <= call.ahead or call.granted_us == call.asked_us
