"""Laws 4 and 5 between priorities: precedence, floors, shares, bounds, promotion.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

import pytest

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.priority import Priority
from tests.laws.conftest import Tell
from tests.laws.story import HIGH, LOW, drained

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


def test_a_promoted_call_may_draw_below_its_floor(tell: Tell) -> None:
    """Nobody starves: a promoted call waits for its cost, and keeps nobody waiting for its floor."""
    low = Priority("low", floor=0.5, strict=True, promote_after_s=10)
    story = tell(tpm=60, priorities=[HIGH, low])
    ann, bob = story.owner("ann"), story.owner("bob")
    bob.ask(priority="high", tokens=60)
    for _ in range(60):
        bob.ask(priority="high", tokens=1)
    for _ in range(5):
        ann.ask(priority="low", tokens=1)
    assert [len(drained(story, ann, 10)) for _ in range(3)] == [1, 1, 1]
    assert len(bob.granted) == 1 + 27


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
