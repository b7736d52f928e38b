"""Laws 1 to 10, told to the model and to the Lua on every kind of server. Time is an argument."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.quota import Limit, Quota
from tests.laws.conftest import Tell
from tests.laws.story import Story

LEASE_US = 30_000_000

# --- 1 atomic -----------------------------------------------------------------------------------


def test_a_call_takes_from_every_limit_or_from_none(tell: Tell) -> None:
    """Law 1: one script run takes the cost from every limit of the quota or from none."""
    story = tell(rpm=10, tpm=100, concurrency=5, limits=[Limit("images", 3, headroom=0)])
    ann = story.owner("ann")
    full = story.levels()
    ann.ask(flags=0, tokens=40, images=2)
    once = {"requests/minute": 9, "tokens/minute": 60, "concurrency": 4, "images/minute": 1}
    assert story.levels() == once
    for cost in ({"tokens": 61}, {"images": 2}, {"requests": 10}, {"concurrency": 5}):
        ann.ask(flags=0, **cost)
        assert ann.result.status == Status.REFUSED
        assert story.levels() == once
    ann.cancel(1)
    assert story.levels() == full


# --- 2 rate -------------------------------------------------------------------------------------

burst = st.one_of(st.just("full"), st.just("smooth"), st.integers(1, 30).map(float))
steps = st.lists(
    st.tuples(
        st.integers(0, 9_000_000),  # pause
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["ask", "ask", "ask", "settle", "cancel"]),
        st.integers(0, 130),
    ),
    min_size=5, max_size=60,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(burst=burst, steps=steps)
def test_no_interval_grants_more_than_burst_and_rate(
    burst: float | str, steps: list[tuple[int, str, str, int]]
) -> None:
    """Law 2: over any interval T, granted − given back ≤ burst + rate·T.

    For a burst below the largest call, that call itself is the burst.
    """
    story = Story(Quota("law-2", tpm=100, burst=burst, headroom=0), None)
    limit = story.quota.limits[0]
    taken: list[tuple[int, int]] = []
    held: dict[str, dict[int, int]] = {"ann": {}, "bob": {}}
    asked: dict[tuple[str, int], int] = {}
    for pause_us, who, what, amount in steps:
        story.now += pause_us
        owner, before = story.owner(who), {n: set(o.granted) for n, o in story.owners.items()}
        if what == "ask":
            asked[who, owner.calls + 1] = min(amount, limit.ceiling)
            owner.ask(tokens=min(amount, limit.ceiling))
        elif held[who]:
            n, cost = held[who].popitem()
            actual = 0 if what == "cancel" else amount
            owner.cancel(n) if what == "cancel" else owner.settle(n, tokens=amount)
            taken.append((story.now, min(0, actual - cost)))
        for name, each in story.owners.items():
            for n in set(each.granted) - before.get(name, set()):
                held[name][n] = asked[name, n]
                taken.append((story.now, asked[name, n]))
    allowed = max(limit.capacity, max((amount for _, amount in taken), default=0))
    for i, (begin, _) in enumerate(taken):
        total = 0
        for at, amount in taken[i:]:
            total += amount
            assert total <= allowed + limit.rate * (at - begin)


# --- 3 conservation -----------------------------------------------------------------------------


def test_settling_gives_back_or_charges_the_difference_once(tell: Tell) -> None:
    """Law 3: settling moves the level by exactly estimate − actual; a repetition changes nothing."""
    story = tell(tpd=10_000)
    ann = story.owner("ann")
    less, more = ann.ask(tokens=1000), ann.ask(tokens=1000)
    assert ann.settle(less, tokens=300) == Status.DONE
    assert story.levels() == {"tokens/day": 8700}
    assert ann.settle(more, tokens=1500) == Status.DONE
    assert story.levels() == {"tokens/day": 8200}
    for again in (less, more):
        assert ann.settle(again, tokens=0) == Status.GONE
        assert ann.cancel(again) == Status.GONE
    assert story.levels() == {"tokens/day": 8200}


def test_overuse_becomes_debt_and_is_paid_by_waiting(tell: Tell) -> None:
    """Law 3: what was used beyond the level is a debt; grants wait until the rate has paid it."""
    story = tell(tpm=600)
    ann = story.owner("ann")
    ann.settle(ann.ask(tokens=600), tokens=900)
    assert story.levels() == {"tokens/minute": -300}
    ann.ask(tokens=100)
    assert ann.result == (Status.WAITING, 40_000_000, 0, (-300,))
    story.after(39.999)
    ann.poll()
    assert ann.granted == [1]
    story.after(0.001)
    ann.poll()
    assert ann.granted == [1, 2]


def test_what_is_not_named_keeps_its_estimate_and_slots_come_back(tell: Tell) -> None:
    """Law 3: a settle changes only the dimensions it names; concurrency always comes back."""
    story = tell(rpd=100, tpd=1000, concurrency=2)
    ann = story.owner("ann")
    ann.settle(ann.ask(tokens=50))
    assert story.levels() == {"requests/day": 99, "tokens/day": 950, "concurrency": 2}


# --- 4 order ------------------------------------------------------------------------------------


def test_a_small_call_never_overtakes_a_big_one(tell: Tell) -> None:
    """Law 4: first come, first served, over all processes, even where a small call would fit."""
    story = tell(tpm=600)
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=550)
    big, small, other = ann.ask(tokens=500), bob.ask(tokens=1), ann.ask(tokens=2)
    assert (bob.result.status, bob.result.levels) == (Status.WAITING, (50,))
    story.after(44)
    bob.poll()
    assert (ann.granted, bob.granted) == ([1], [])
    story.after(1)
    bob.poll()
    assert (ann.granted, bob.granted) == ([1, big], [])
    story.after(0.3)
    ann.poll()
    assert (ann.granted, bob.granted) == ([1, big, other], [small])


def test_grants_follow_the_order_of_arrival(tell: Tell) -> None:
    """Law 4: a line of random calls by three processes is served in the order of its making."""
    rng = random.Random(4)
    story = tell(rpm=6000, tpm=6000)
    owners = [story.owner(name) for name in ("ann", "bob", "cyd")]
    owners[0].ask(tokens=6000)
    line = []
    for _ in range(40):
        owner = rng.choice(owners)
        line.append((owner, owner.ask(tokens=rng.randint(1, 900))))
    while story.after(0.5):
        waiting = [(o, n) for o, n in line if n not in o.granted]
        rng.choice(owners).poll()
        served = [(o, n) for o, n in waiting if n in o.granted]
        assert served == waiting[: len(served)]
        if not waiting:
            return


# --- 5 work conserving --------------------------------------------------------------------------


@pytest.mark.parametrize("help_comes_by", ["refill", "refund", "cancel", "raise", "slot"])
def test_the_head_is_granted_by_whoever_runs_next(tell: Tell, help_comes_by: str) -> None:
    """Law 5: the moment the head fits, any process's next run grants it and its owner is told."""
    story = tell(tpm=600, concurrency=2)
    ann, bob = story.owner("ann"), story.owner("bob")
    first, second = bob.ask(tokens=590), bob.ask(tokens=10)
    ann.ask(tokens=100, concurrency=0 if help_comes_by != "slot" else 1)
    assert (ann.result.status, ann.granted) == (Status.WAITING, [])
    if help_comes_by == "refill":
        story.after(10)
        bob.poll()
    elif help_comes_by == "refund":
        bob.settle(first, tokens=490)
    elif help_comes_by == "cancel":
        bob.cancel(first)
    elif help_comes_by == "raise":
        story.redefine(tpm=700, concurrency=2)
        bob.poll()
    else:
        story.after(30)
        bob.poll()
        assert ann.granted == []
        bob.settle(second)
    assert ann.granted == [1]


def test_the_reply_says_when_the_head_fits(tell: Tell) -> None:
    """Law 5: one timer is enough: its owner is told the exact moment at which the head fits."""
    story = tell(rpm=7, tpm=601)
    ann = story.owner("ann")
    ann.ask(tokens=601)
    ann.ask(tokens=77)
    assert ann.reply.mine
    wait_us = ann.reply.next_us
    story.now += wait_us - 1
    ann.poll()
    assert (ann.granted, ann.reply.next_us) == ([1], 1)
    story.now += 1
    ann.poll()
    assert ann.granted == [1, 2]


# --- 6 give up cleanly --------------------------------------------------------------------------


def test_a_cancelled_ticket_leaves_nothing_behind(tell: Tell) -> None:
    """Law 6: who leaves the line is not granted later, and whoever stood behind moves up."""
    story = tell(tpm=600)
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=600)
    big, small = ann.ask(tokens=600), bob.ask(tokens=10)
    story.after(1)
    assert ann.cancel(big) == Status.DONE
    assert bob.granted == [small]
    assert (ann.reply.waiting, ann.reply.held) == (0, 2)
    story.after(120)
    assert (ann.status_of(big), ann.granted) == (Status.GONE, [1])
    assert story.levels() == {"tokens/minute": 600}


def test_a_grant_that_raced_with_the_end_is_returned(tell: Tell) -> None:
    """Law 6: a cancel that comes after the grant gives the whole cost back."""
    story = tell(tpd=1000)
    ann, bob = story.owner("ann"), story.owner("bob")
    first = bob.ask(tokens=1000)
    late = ann.ask(tokens=400)
    bob.cancel(first)
    assert ann.granted == [late]
    assert ann.cancel(late) == Status.DONE
    assert story.levels() == {"tokens/day": 1000}


# --- 7 crash ------------------------------------------------------------------------------------


def test_a_lost_process_gives_its_slots_back_after_its_lease(tell: Tell) -> None:
    """Law 7: concurrency slots of a process that fell silent go to the others, once."""
    story = tell(concurrency=1, tpd=1000)
    story.lease_us = LEASE_US
    ann, bob = story.owner("ann"), story.owner("bob")
    ann.ask(tokens=100)
    waiting = bob.ask(tokens=100)
    story.now += LEASE_US - 1
    bob.poll()
    assert bob.granted == []
    story.now += 1
    bob.poll()
    assert bob.granted == [waiting]
    # Its usage stands: it may have been made. A late settle is exact, and gives no second slot.
    assert ann.settle(1, tokens=30) == Status.LATE
    assert ann.settle(1, tokens=30) == Status.GONE
    assert story.levels() == {"concurrency": 0, "tokens/day": 870}


def test_nobody_is_stuck_behind_a_lost_process(tell: Tell) -> None:
    """Law 7: the tickets of a lost process are passed over when they come to the head."""
    story = tell(tpm=600)
    story.lease_us = LEASE_US
    ann, bob = story.owner("ann"), story.owner("bob")
    bob.ask(tokens=600)
    for _ in range(3):
        ann.ask(tokens=600)
    waiting = bob.ask(tokens=5)
    for _ in range(6):
        story.after(10)
        bob.poll()
    assert bob.granted == [1, waiting]
    assert (bob.reply.waiting, bob.reply.held) == (0, 2)


def test_a_grant_that_was_never_picked_up_comes_back(tell: Tell) -> None:
    """Law 7: what was granted after the owner's last sign of life was never used: all goes back."""
    story = tell(tpd=1000)
    story.lease_us = LEASE_US
    ann, bob = story.owner("ann"), story.owner("bob")
    first = bob.ask(tokens=1000)
    ann.ask(tokens=600)
    story.after(1)
    bob.cancel(first)
    assert ann.granted == [1]
    story.now += LEASE_US
    bob.poll()
    assert story.levels() == {"tokens/day": 1000}
    assert ann.status_of(1) == Status.GONE


# --- 8 idempotent -------------------------------------------------------------------------------


def test_a_replayed_batch_changes_nothing(tell: Tell) -> None:
    """Law 8: a batch runs at most once, in whatever order its copies arrive."""
    story = tell(tpd=1000, concurrency=3)
    ann = story.owner("ann")
    held = ann.ask(tokens=100)
    ann.send(
        layout.acquire(7, story.agreed.cost({"tokens": 50}), flags=1), layout.settle(held, (10, 1))
    )
    before = story.levels()
    for number in (1, 2):
        assert (
            ann.send(layout.acquire(7, (50, 1), flags=1), layout.cancel(held), number=number) == []
        )
        assert ann.reply.outcome == layout.Outcome.FENCED
    assert story.levels() == before == {"tokens/day": 940, "concurrency": 2}


def test_an_operation_asked_again_is_done_once(tell: Tell) -> None:
    """Law 8: when the answer was lost, the same call under a new batch finds what it left."""
    story = tell(tpm=600)
    ann = story.owner("ann")
    again = layout.MAY_WAIT | layout.ASKED_BEFORE
    ann.ask(tokens=400)
    assert ann.send(layout.acquire(1, (400,), flags=again))[0].status == Status.GRANTED
    ann.ask(tokens=400)
    assert ann.send(layout.acquire(2, (400,), flags=again))[0].status == Status.WAITING
    assert (story.levels(), ann.reply.waiting) == ({"tokens/minute": 200}, 1)
    # It never ran: then it runs now.
    assert ann.send(layout.acquire(3, (1,), flags=again))[0].status == Status.WAITING
    for _ in range(2):
        ann.settle(1, tokens=300)
    assert story.levels() == {"tokens/minute": 300}


# --- 9 never fits -------------------------------------------------------------------------------


def test_a_cost_above_the_limit_fails_at_once(tell: Tell) -> None:
    """Law 9: what can never be granted is refused at once, waits for nothing and takes nothing."""
    story = tell(rpm=10, tpm=600)
    ann = story.owner("ann")
    ann.ask(tokens=601)
    assert ann.result == (Status.NEVER, 0, 0, (10, 600))
    assert (story.levels(), ann.reply.waiting) == ({"requests/minute": 10, "tokens/minute": 600}, 0)
    ann.ask(tokens=600)
    assert ann.result.status == Status.GRANTED


def test_a_waiting_call_learns_that_it_never_fits(tell: Tell) -> None:
    """Law 9: a limit that is lowered below a waiting call's cost ends its waiting at once."""
    story = tell(tpm=600)
    ann = story.owner("ann")
    ann.ask(tokens=600)
    hopeless, next_one = ann.ask(tokens=500), ann.ask(tokens=1)
    story.redefine(tpm=400)
    ann.poll()
    assert (hopeless, Status.NEVER) in [(g.n, g.status) for g in ann.reply.grants]
    story.after(60)
    ann.poll()
    assert ann.granted == [1, next_one]


# --- 10 one clock -------------------------------------------------------------------------------


def test_a_clock_that_steps_back_stands_still(tell: Tell) -> None:
    """Law 10: a store whose clock jumps back grants nothing twice and loses nothing."""
    story = tell(tpm=600)
    ann = story.owner("ann")
    ann.ask(tokens=600)
    story.after(-3600)
    ann.ask(tokens=10)
    assert ann.result == (Status.WAITING, 1_000_000, 0, (0,))
    story.after(3600 + 1)
    ann.poll()
    assert ann.granted == [1, 2]
    assert story.levels() == {"tokens/minute": 0}
