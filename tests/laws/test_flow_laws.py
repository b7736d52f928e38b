"""Deadlines, places, groups, crashes and redefinitions where many flows wait.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

from limiter.core.layout import Status
from limiter.core.priority import Priority
from limiter.core.quota import Limit
from tests.laws.conftest import Tell
from tests.laws.story import HIGH, LOW, drained

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
