"""Laws 1, 3 to 6 between tenants: fair shares, limits of their own, nothing left behind.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

import random

import pytest

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.quota import Limit
from tests.engine.lua import Lua
from tests.laws.conftest import Tell
from tests.laws.story import drained

# --- tenants ------------------------------------------------------------------------------------


def test_a_tenant_with_a_long_line_delays_another_by_one_call(tell: Tell) -> None:
    """Law 4: behind 2,000 waiting calls of one tenant, another's call is the next one."""
    story = tell(tpm=60)
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=60)
    first = ann.calls + 1
    for start in range(first, first + 2000, 250):
        ann.send(*(layout.acquire(n, (2,), flags=1, tenant="a") for n in range(start, start + 250)))
    assert drained(story, ann, 2) == [first]
    bob.ask(tenant="b", tokens=2)
    assert (bob.result.status, bob.result.ahead) == (Status.WAITING, 1)
    granted = drained(story, ann, 4)
    assert bob.granted == [1]
    assert len(granted) <= 1


def test_tenants_share_by_weight(tell: Tell) -> None:
    """Law 4: tenants that all wait get tokens by their weights, whatever the size of their calls."""
    rng = random.Random(1)
    story = tell(tpm=6000, tenants={"a": 1, "b": 2, "c": 5})
    ann = story.owner("ann")
    ann.ask(tokens=6000)
    asked: dict[int, tuple[str, int]] = {}
    for _ in range(300):
        for tenant in "abc":
            tokens = rng.randint(1, 80)
            asked[ann.ask(tenant=tenant, tokens=tokens)] = (tenant, tokens)
    used = dict.fromkeys("abc", 0)
    for n in drained(story, ann, 100):
        tenant, tokens = asked[n]
        used[tenant] += tokens
    total = sum(used.values())
    assert total == pytest.approx(10_000, abs=80)
    for tenant, weight in (("a", 1), ("b", 2), ("c", 5)):
        assert used[tenant] == pytest.approx(total * weight / 8, abs=160)


def test_newcomers_are_served_by_arrival(tell: Tell) -> None:
    """Law 4: tenants that have used nothing yet go in the order in which they came."""
    story = tell(tpm=60)
    ann = story.owner("ann")
    ann.ask(tokens=60)
    order = [ann.ask(tenant=tenant, tokens=1) for tenant in ("m", "z", "a", "k", "b")]
    assert drained(story, ann, 5) == order


def test_fairness_counts_the_limit_that_is_short(tell: Tell) -> None:
    """Law 4: shares are of the bottleneck: with tokens short, calls of all sizes count by tokens."""
    story = tell(rpm=10_000, rpd=200_000, tpm=600)
    ann = story.owner("ann")
    ann.ask(tokens=600)
    asked = {}
    for _ in range(60):
        for _ in range(10):
            asked[ann.ask(tenant="small", tokens=1)] = ("small", 1)
        asked[ann.ask(tenant="big", tokens=10)] = ("big", 10)
    used = {"small": 0, "big": 0}
    for n in drained(story, ann, 60):
        used[asked[n][0]] += asked[n][1]
    assert used["small"] == pytest.approx(used["big"], abs=10)


def test_a_tenant_that_comes_back_has_no_credit(tell: Tell) -> None:
    """Law 4: a tenant that asks one call at a time gets no more than one that queues many."""
    story = tell(tpm=60)
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=60)
    for _ in range(200):
        ann.ask(tenant="many", tokens=1)
    bob.ask(tenant="one", tokens=1)
    served = 0
    for _ in range(60):
        story.after(1)
        bob.poll()
        while len(bob.granted) > served:
            served += 1
            bob.ask(tenant="one", tokens=1)
    assert served == pytest.approx(30, abs=1)


def test_cancelled_tickets_cost_a_tenant_nothing(tell: Tell) -> None:
    """Laws 4, 6: who leaves the line has used nothing: the tenant's next call is not put behind."""
    story = tell(tpm=60)
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=60)
    gone = [ann.ask(tenant="a", tokens=5) for _ in range(50)]
    for _ in range(50):
        bob.ask(tenant="b", tokens=5)
    for n in reversed(gone):
        ann.cancel(n)
    again = ann.ask(tenant="a", tokens=5)
    assert drained(story, ann, 10) == [again]


def test_a_tenant_at_its_own_limit_is_skipped(tell: Tell) -> None:
    """Law 1, 4: a tenant's own limit is taken with the quota's, and blocks nobody but the tenant."""
    story = tell(tpm=600, tenant_limits=[Limit("tokens", 60, headroom=0)])
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tenant="a", tokens=60)
    blocked = ann.ask(tenant="a", tokens=10)
    assert ann.result[:2] == (Status.WAITING, 10_000_000)
    assert bob.ask(tenant="b", tokens=60) in bob.granted
    assert bob.ask(tokens=100) in bob.granted  # no tenant, no such limit
    assert drained(story, bob, 9) == []
    assert ann.granted == [1]
    story.after(1)
    bob.poll()
    assert ann.granted == [1, blocked]
    assert story.levels() == {"tokens/minute": 600 - 230 + 100}
    ann.ask(tenant="a", tokens=61)
    assert ann.result.status == Status.NEVER


def test_the_timer_knows_when_a_tenant_may_go_on(tell: Tell) -> None:
    """Law 5: with all heads blocked by their tenants' limits, the reply says when to run next."""
    story = tell(tpm=600, tenant_limits=[Limit("tokens", 60, headroom=0)])
    ann = story.owner("ann")
    ann.ask(tenant="a", tokens=60)
    ann.ask(tenant="a", tokens=3)
    assert (ann.reply.next_us, ann.reply.mine) == (3_000_000, True)
    story.now += 3_000_000 - 1
    ann.poll()
    assert ann.granted == [1]
    story.now += 1
    ann.poll()
    assert ann.granted == [1, 2]


def test_a_tenants_slot_is_passed_on_at_once(tell: Tell) -> None:
    """Law 5: a slot of a tenant's own that comes back goes to its next ticket in the same run."""
    story = tell(tpm=600, tenant_limits=[Limit("concurrency", 1, None)])
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tenant="a", tokens=1)
    bob.ask(tenant="a", tokens=1)
    assert bob.result.status == Status.WAITING
    ann.settle(1, tokens=1)
    assert bob.granted == [1]


def test_a_raised_limit_of_tenants_is_used_at_once(tell: Tell) -> None:
    """Law 5: a raised limit of each tenant's own lets its waiting calls go in the next run."""
    limit = {"tpm": 600, "tenant_limits": [Limit("tokens", 60, 86_400.0, headroom=0)]}
    story = tell(**limit)
    ann = story.owner("ann")
    ann.ask(tenant="a", tokens=60)
    ann.ask(tenant="a", tokens=50)
    story.redefine(**{**limit, "tenant_limits": [Limit("tokens", 200, 86_400.0, headroom=0)]})
    ann.poll()
    assert ann.granted == [1, 2]


def test_a_refund_reaches_the_tenants_own_limit(tell: Tell) -> None:
    """Law 3: settling moves the tenant's own levels by exactly estimate − actual."""
    story = tell(tpm=600, tenant_limits=[Limit("tokens", 60, 86_400.0, headroom=0)])
    ann = story.owner("ann")
    first = ann.ask(tenant="a", tokens=60)
    ann.ask(tenant="a", tokens=41)
    ann.settle(first, tokens=20)
    assert ann.granted == [1]
    ann.ask(tenant="a", flags=0, tokens=1)
    assert ann.result.status == Status.REFUSED  # its own flow waits
    ann.cancel(2)
    ann.ask(tenant="a", tokens=40)
    assert ann.granted == [1, 4]


def test_idle_tenants_vanish(tell: Tell) -> None:
    """Nothing is kept of tenants that are gone: no flow, no tag, no level."""
    story = tell(tpm=600, tenant_limits=[Limit("tokens", 60, headroom=0)])
    ann = story.owner("ann")
    ann.ask(tokens=600)
    names = [f"tenant {i}" for i in range(300)]
    for tenant in names:
        ann.ask(tenant=tenant, tokens=1)
    drained(story, ann, 60)
    assert len(ann.granted) == 301
    story.after(600)
    for n in ann.granted[1:]:
        ann.settle(n, tokens=0)
    for _ in range(200):
        ann.poll()
    if isinstance(story.engine, Lua):
        keys, client = story.engine.keys, story.engine.client
        assert client.exists(keys.flows, keys.order, keys.tenants, keys.tickets, keys.line) == 0
    else:
        assert not story.engine.tickets
        assert not len(story.engine.ledger.tenants)
        assert not any(each.idle or each.flows for each in story.engine.classes)
