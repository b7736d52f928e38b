"""Law 4 for many flows, and 5 to 7 among them: priorities, tenants, groups. Time is an argument.

Told to the model and to the Lua on every kind of server.
"""

from __future__ import annotations

import random

import pytest

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.priority import Priority
from limiter.core.quota import Limit
from tests.engine.lua import Lua
from tests.laws.conftest import Tell
from tests.laws.story import Owner, Story

HIGH, LOW = Priority("high", level=10), Priority("low")


def drained(story: Story, owner: Owner, seconds: float, *, step: float = 1.0) -> list[int]:
    """Let time pass in steps; return what was granted to the owner, in order."""
    before = len(owner.granted)
    for _ in range(round(seconds / step)):
        story.after(step)
        owner.poll()
    return owner.granted[before:]


# --- priorities ---------------------------------------------------------------------------------


def test_a_higher_priority_goes_first(tell: Tell) -> None:
    """Law 4: across flows the higher priority goes first, though it came last and is big."""
    story = tell(tpm=60, priorities=[HIGH, LOW])
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=60)
    first, second = ann.ask(priority="low", tokens=10), ann.ask(priority="low", tokens=10)
    urgent = bob.ask(priority="high", tokens=30)
    assert bob.result[:3] == (Status.WAITING, 30_000_000, 0)
    assert ann.waits() == {"low": 2, "high": 1}
    assert ann.send(layout.survey())[0].levels[2:] == (1, 31_000_000, 2, 51_000_000)
    story.after(29)
    ann.poll()
    assert (ann.granted, bob.granted) == ([1], [])
    story.after(1)
    ann.poll()
    assert (ann.granted, bob.granted) == ([1], [urgent])
    assert drained(story, ann, 20) == [first, second]


def test_priorities_of_one_level_go_by_arrival(tell: Tell) -> None:
    """Law 4: between two priorities of one level the head that came first goes first."""
    story = tell(tpm=60, priorities=[Priority("low"), Priority("also")])
    ann = story.owner("ann")
    ann.ask(tokens=60)
    order = [ann.ask(priority=name, tokens=1) for name in ("also", "low", "default", "also")]
    assert drained(story, ann, 4) == order


def test_a_call_of_high_priority_passes_those_who_wait(tell: Tell) -> None:
    """Law 4: while low ones wait for more, a high one that fits is granted in its first run."""
    story = tell(tpm=60, priorities=[HIGH, LOW])
    ann = story.owner("ann")
    ann.ask(tokens=30)
    ann.ask(priority="low", tokens=50)
    assert ann.ask(priority="high", tokens=30) in ann.granted
    # One that may not wait is asked the same way, and leaves nothing behind when it is refused.
    ann.ask(flags=0, priority="high", tokens=30)
    assert ann.result.status == Status.REFUSED
    assert ann.waits() == {"low": 1}


def test_a_floor_keeps_headroom_for_those_above(tell: Tell) -> None:
    """A floor: low calls leave 20 % of the bucket to those above, who find it at once."""
    story = tell(tpm=100, priorities=[HIGH, Priority("low", floor=0.2, strict=True)])
    ann = story.owner("ann")
    ann.ask(priority="low", tokens=75)
    blocked = ann.ask(priority="low", tokens=10)
    assert ann.result.status == Status.WAITING
    assert ann.ask(priority="high", tokens=20) in ann.granted
    # Refilled from 5 to 30 within 15 s, of which 20 stay.
    assert drained(story, ann, 14) == []
    assert drained(story, ann, 1) == [blocked]


def test_a_floor_does_not_make_a_call_impossible(tell: Tell) -> None:
    """A call that is larger than what the floor leaves is granted from a full bucket."""
    story = tell(tpm=100, priorities=[HIGH, Priority("low", floor=0.5, strict=True)])
    ann = story.owner("ann")
    ann.ask(priority="high", tokens=10)
    big = ann.ask(priority="low", tokens=90)
    assert drained(story, ann, 5, step=0.5) == []
    assert drained(story, ann, 1, step=0.5) == [big]


def test_an_idle_floor_is_lent(tell: Tell) -> None:
    """A floor that nobody above has asked for of late is lent, at the very moment it is allowed."""
    story = tell(tpm=60, priorities=[HIGH, Priority("low", floor=0.5, lend_after_s=10)])
    ann = story.owner("ann")
    ann.ask(priority="low", tokens=60)
    assert ann.granted == [1]  # nobody above has ever come
    story.after(60)
    ann.ask(priority="high", tokens=30)
    guarded = ann.ask(priority="low", tokens=20)  # keeping the floor it would fit after 20 s
    assert ann.result.status == Status.WAITING
    assert ann.reply.next_us == 10_000_000
    assert drained(story, ann, 9) == []
    assert drained(story, ann, 1) == [guarded]


def test_a_floor_holds_while_somebody_above_waits(tell: Tell) -> None:
    """A floor is not lent while a call from above waits, however long."""
    story = tell(
        tpd=60, concurrency=1, priorities=[HIGH, Priority("low", floor=0.5, lend_after_s=1)]
    )
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(priority="high", tokens=10)
    bob.ask(priority="high", tokens=0)  # waits for the slot
    ann.ask(priority="low", tokens=25, concurrency=0)
    story.after(30)
    ann.poll()
    assert ann.waits() == {"high": 1, "low": 1}
    ann.settle(1)  # it leaves the line, and it came long ago
    assert bob.granted == [1]
    assert ann.granted == [1, 2]


def test_a_strict_share_is_a_bucket_of_its_own(tell: Tell) -> None:
    """A strict share: half the burst at once and half the rate after it, whoever else is there."""
    story = tell(tpm=60, priorities=[Priority("low", share=0.5, strict=True)])
    ann = story.owner("ann")
    for _ in range(60):
        ann.ask(priority="low", tokens=1)
    assert len(ann.granted) == 30
    assert len(drained(story, ann, 20)) == 10
    # Those who are not bound by it pass by.
    assert ann.ask(tokens=30) in ann.granted


def test_a_share_is_lent_while_nobody_else_waits(tell: Tell) -> None:
    """A share that is not strict: alone, a priority has the whole rate."""
    story = tell(tpm=60, priorities=[Priority("low", share=0.5)])
    ann = story.owner("ann")
    for _ in range(100):
        ann.ask(priority="low", tokens=1)
    assert len(ann.granted) == 60
    assert len(drained(story, ann, 20)) == 20


def test_beyond_its_share_a_priority_goes_last(tell: Tell) -> None:
    """A share: with others in the line, even the highest priority gets no more than its part."""
    story = tell(tpm=60, priorities=[Priority("high", level=10, share=0.6), LOW])
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=60)
    for _ in range(200):
        ann.ask(priority="high", tokens=1)
        bob.ask(priority="low", tokens=1)
    drained(story, ann, 160)
    # The share's own burst of 36, and six of ten.
    high, low = len(ann.granted) - 1, len(bob.granted)
    assert high + low == 160
    assert high == pytest.approx(36 + 0.6 * 160, abs=1)


def test_what_was_lent_is_no_debt_of_the_share(tell: Tell) -> None:
    """What was lent is not paid back: the share is there as soon as somebody else comes."""
    story = tell(tpm=60, priorities=[Priority("high", level=10, share=0.5), LOW])
    ann, bob = story.owner("ann"), story.owner("bob")
    for _ in range(3):
        ann.settle(ann.ask(priority="high", tokens=20), tokens=20)
    for _ in range(60):
        ann.ask(priority="high", tokens=1)
    drained(story, ann, 30)
    for _ in range(30):
        bob.ask(priority="low", tokens=1)
    drained(story, ann, 20)
    assert len(bob.granted) == pytest.approx(10, abs=1)


def test_max_waiting_bounds_the_line(tell: Tell) -> None:
    """A priority's line takes so many tickets; one more is told so at once, and how long it is."""
    story = tell(tpm=60, priorities=[Priority("low", max_waiting=2)])
    ann = story.owner("ann")
    ann.ask(tokens=60)
    kept = [ann.ask(priority="low", tokens=10) for _ in range(2)]
    ann.ask(priority="low", tokens=10)
    assert ann.result[:3] == (Status.FULL, 30_000_000, 2)
    assert (ann.waits(), ann.reply.held) == ({"low": 2}, 1)
    assert drained(story, ann, 20) == kept
    ann.ask(priority="low", tokens=1)
    assert ann.result.status == Status.WAITING


def test_no_waiting_at_all_still_grants(tell: Tell) -> None:
    """max_waiting=0: nobody stands in the line, and what fits is granted, even past others."""
    story = tell(tpm=60, priorities=[Priority("now", level=10, max_waiting=0)])
    ann = story.owner("ann")
    ann.ask(tokens=50)
    ann.ask(tokens=30)
    assert ann.ask(priority="now", tokens=10) in ann.granted
    ann.ask(priority="now", tokens=1)
    assert ann.result.status == Status.FULL


# --- nobody starves -----------------------------------------------------------------------------


def test_a_priority_that_waited_long_goes_first_once(tell: Tell) -> None:
    """Law 4, nobody starves: after promote_after_s one call goes first, then it begins anew."""
    story = tell(tpm=60, priorities=[HIGH, Priority("low", promote_after_s=10)])
    ann, bob = story.owner("ann"), story.owner("bob")
    bob.ask(priority="high", tokens=60)
    for _ in range(60):
        bob.ask(priority="high", tokens=1)
    for _ in range(60):
        ann.ask(priority="low", tokens=1)
    assert [len(drained(story, ann, 10)) for _ in range(4)] == [1, 1, 1, 1]
    assert len(bob.granted) == 1 + 36


def test_a_big_call_is_not_starved_by_small_ones(tell: Tell) -> None:
    """Law 4: within a flow, and against calls of lower priority, a big call is served in its turn."""
    story = tell(tpm=60, priorities=[HIGH, LOW])
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=60)
    big = ann.ask(priority="high", tokens=60)
    for _ in range(59):
        story.after(1)
        bob.ask(priority="low", tokens=1)
        ann.ask(priority="high", tokens=1)
    assert (bob.granted, ann.granted) == ([], [1])
    story.after(1)
    ann.poll()
    assert ann.granted == [1, big]


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


# --- deadlines ----------------------------------------------------------------------------------


def test_a_wait_that_is_known_to_be_too_long_is_refused(tell: Tell) -> None:
    """A punctual call is refused at once, with its expected wait, and leaves nothing behind."""
    story = tell(tpm=60)
    ann = story.owner("ann")
    ann.ask(tokens=60)
    ann.ask(tokens=20)
    ann.ask(patience_s=29.9, tokens=10)
    assert ann.result[:3] == (Status.REFUSED, 30_000_000, 1)
    assert (ann.reply.waiting, ann.reply.held) == (1, 1)
    patient = ann.ask(patience_s=30, tokens=10)
    assert ann.result.status == Status.WAITING
    assert drained(story, ann, 30)[-1] == patient


def test_a_floor_is_foreseen(tell: Tell) -> None:
    """The expected wait counts the floor of the priority for as long as it is known to hold."""
    story = tell(tpm=60, priorities=[HIGH, Priority("low", floor=0.5, lend_after_s=15)])
    ann = story.owner("ann")
    ann.ask(priority="high", tokens=30)
    ann.ask(priority="low", patience_s=5, tokens=10)
    assert ann.result[:2] == (Status.REFUSED, 10_000_000)
    ann.ask(priority="low", tokens=20)
    assert ann.result[:2] == (Status.WAITING, 15_000_000)


def test_a_ticket_knows_its_place_and_its_wait(tell: Tell) -> None:
    """Position and wait are those of the fair order: of higher ones all, of other tenants a part."""
    story = tell(tpm=60, priorities=[HIGH, LOW])
    ann = story.owner("ann")
    ann.ask(tokens=60)
    for _ in range(10):
        ann.ask(priority="low", tenant="a", tokens=2)
    third = ann.calls - 7
    for _ in range(4):
        ann.ask(priority="high", tokens=5)
    assert ann.look(third) == (Status.WAITING, 26_000_000, 6, ())
    ann.ask(priority="low", tenant="b", tokens=2)
    assert ann.result[:3] == (Status.WAITING, 24_000_000, 5)
    drained(story, ann, 20)
    assert ann.look(ann.calls).ahead <= 1
    assert ann.look(1) == (Status.GRANTED, 0, 0, ())
    assert ann.look(999) == (Status.GONE, 0, 0, ())


# --- groups -------------------------------------------------------------------------------------


def test_a_call_on_several_quotas_takes_from_all_or_none(tell: Tell) -> None:
    """Law 1: one call on two quotas of a group takes its cost from both, or from none."""
    story = tell(group={"org": {"tpm": 100, "rpm": 10}, "small": {"tpm": 60}})
    ann, both = story.owner("ann"), ("org", "small")
    full = story.levels()
    ann.ask(quotas=both, tokens=50)
    left = {"org: requests/minute": 9, "org: tokens/minute": 50, "small: tokens/minute": 10}
    assert story.levels() == left
    ann.ask(quotas=both, flags=0, tokens=20)
    assert (ann.result.status, story.levels()) == (Status.REFUSED, left)
    ann.ask(quotas=("org",), flags=0, tokens=20)
    assert ann.result.status == Status.GRANTED
    ann.cancel(1)
    ann.cancel(3)
    assert story.levels() == full


def test_a_head_blocks_only_what_it_needs(tell: Tell) -> None:
    """Law 5: a call that waits for one quota of a group does not hold up those for another."""
    story = tell(group={"one": {"tpm": 60}, "org": {"tpm": 100}, "two": {"tpm": 60}})
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(quotas=("one",), tokens=60)
    waiting = ann.ask(quotas=("one", "org"), tokens=60)
    assert bob.ask(quotas=("two", "org"), tokens=40) in bob.granted
    # But what it needs of the quota that both use is kept for it.
    bob.ask(quotas=("two", "org"), tokens=20)
    assert bob.result.status == Status.WAITING
    story.after(60)
    bob.poll()
    assert ann.granted == [1, waiting]
    assert bob.granted == [1, 2]


# --- crash, redefinition --------------------------------------------------------------------------


def test_tickets_of_the_lost_are_passed_over_in_every_flow(tell: Tell) -> None:
    """Law 7: nobody stands behind the tickets of a process that is gone, in whatever flow."""
    story = tell(tpm=60, priorities=[HIGH, LOW], tenant_limits=[Limit("tokens", 30, headroom=0)])
    story.lease_us = 30_000_000
    ann, bob = story.owner("ann"), story.owner("bob")
    bob.ask(tokens=60)
    for priority in ("high", "low"):
        for tenant in ("a", "b"):
            ann.ask(priority=priority, tenant=tenant, tokens=20)
    waiting = bob.ask(priority="low", tenant="a", tokens=20)
    for _ in range(6):
        story.after(10)
        bob.poll()
    assert bob.granted == [1, waiting]
    assert (bob.reply.waiting, bob.waits()) == (0, {})


def test_a_retired_priority_is_served_to_the_end(tell: Tell) -> None:
    """A priority that is not declared any more keeps its tickets, their order and their policy."""
    story = tell(tpm=60, priorities=[HIGH, LOW])
    ann = story.owner("ann")
    ann.ask(tokens=60)
    low, high = ann.ask(priority="low", tokens=5), ann.ask(priority="high", tokens=5)
    story.redefine(tpm=60, priorities=[LOW])
    assert drained(story, ann, 10) == [high, low]


def test_a_raised_limit_reaches_every_flow(tell: Tell) -> None:
    """Law 5: a raised limit is granted from at once; a lowered one that makes a call impossible ends it."""
    story = tell(tpm=60, priorities=[HIGH, LOW])
    ann = story.owner("ann")
    ann.ask(tokens=60)
    high, low = ann.ask(priority="high", tokens=50), ann.ask(priority="low", tokens=50)
    story.redefine(tpm=170, priorities=[HIGH, LOW])
    ann.poll()
    assert ann.granted == [1, high, low]
    hopeless = ann.ask(priority="low", tokens=100)
    story.redefine(tpm=90, priorities=[HIGH, LOW])
    ann.poll()
    assert (hopeless, Status.NEVER) in [(g.n, g.status) for g in ann.reply.grants]
