"""The circuit: where calls fail one after the other, whoever makes them, none is sent but one to try.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.quota import Limit
from limiter.providers.verdict import Outcome, Verdict
from tests.laws.conftest import Tell
from tests.laws.story import DENIED, FAILED, REFUSED, SERVED, SLOW_DOWN, Owner, Story

REJECTED = Verdict(Outcome.REJECTED, 400)
PROBE_S = 60


def opened(story: Story) -> Owner:
    """Deny calls until the circuit is open."""
    owner = story.owner("opener")
    for _ in range(5):
        owner.call(DENIED)
    assert owner.known().shut_us == 10_000_000
    return owner


def is_let_through(owner: Owner, **cost: int) -> bool:
    owner.ask(flags=0, **cost)
    assert owner.result.status in (Status.GRANTED, Status.OPEN)
    return owner.result.status == Status.GRANTED


# --- it opens -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from([FAILED] * 6 + [DENIED, DENIED, SERVED, REFUSED, SLOW_DOWN, REJECTED]),
            st.sampled_from([0.0, 0.5, 2.0]),
        ),
        max_size=40,
    )
)
def test_it_opens_when_calls_fail_in_a_row(tell: Tell, answers: list[tuple]) -> None:
    """After five denials, or ten failures over ten seconds, with no other answer in between: not before."""
    story = tell(rpm=6000)
    ann = story.owner("ann")
    n = ann.ask()
    row: list[tuple[Verdict, int]] = []
    for verdict, pause_s in answers:
        story.after(pause_s)
        ann.report(n, verdict)
        row = [*row, (verdict, story.now)] if verdict in (FAILED, DENIED) else []
        denied = sum(each is DENIED for each, _ in row)
        lasting = len(row) >= 10 and story.now - row[0][1] >= 10_000_000
        known = ann.known()
        assert (known.fails, known.denied) == (len(row), denied)
        assert known.shut_us == (10_000_000 if lasting or denied >= 5 else 0)
        if known.shut_us:
            return


@pytest.mark.parametrize(
    ("pauses_s", "opens_at"),
    [([0] * 30, None), ([1] * 30, 11), ([2] * 30, 10), ([30] * 30, 10), ([0] * 20 + [9.9, 0.1], 22)],
)  # fmt: skip
def test_it_takes_ten_failures_and_ten_seconds(
    tell: Tell, pauses_s: list[float], opens_at: int | None
) -> None:
    """Many failures at once may be one hiccup; a few in a long time are not all of them."""
    story = tell(rpm=6000)
    ann = story.owner("ann")
    n = ann.ask()
    for verdict in (FAILED, SERVED):
        ann.report(n, verdict)
        story.after(60)
    for i, pause_s in enumerate(pauses_s, 1):
        ann.report(n, FAILED)
        if i == opens_at:
            assert ann.known().shut_us == 10_000_000
            return
        assert ann.known().shut_us == 0
        story.after(pauses_s[i] if i < len(pauses_s) else pause_s)
    assert opens_at is None


def test_who_asks_is_refused_at_once(tell: Tell) -> None:
    """Calls that may wait and calls that may not: each hears for how long, and none is in the line."""
    story = tell(rpm=600)
    opened(story)
    ann = story.after(4).owner("ann")
    for flags in (0, layout.MAY_WAIT):
        ann.ask(flags)
        assert ann.result[:2] == (Status.OPEN, 6_000_000)
    assert (ann.reply.waiting, ann.reply.held) == (0, 0)
    assert story.levels() == {"requests/minute": 600}


@pytest.mark.parametrize("waiting", [3, 600])
def test_who_waits_is_told(tell: Tell, waiting: int) -> None:
    """All tickets of the route leave the line as it opens, in as many runs as it takes."""
    story = tell(rpm=60, tenants={"t": 2})
    ann, bob = story.owner("ann"), story.owner("bob")
    n = ann.ask(requests=60)
    for start in range(0, waiting, 300):
        numbers = range(start + 1, min(waiting, start + 300) + 1)
        bob.send(*(layout.acquire(i, (1,), flags=1, tenant="tu"[i % 2]) for i in numbers))
    ann.send(*(ann.reported(n, DENIED) for _ in range(5)))
    while bob.reply.waiting:
        assert ann.reply.next_us == 0 or waiting < 250
        bob.poll()
    refused = [grant for grant in bob.heard if grant.status == Status.OPEN]
    assert {grant.n for grant in refused} == set(range(1, waiting + 1))
    assert not bob.granted


def test_calls_under_way_do_not_prolong_it(tell: Tell) -> None:
    """What fails while it is open was sent before: the time to the next try stays."""
    story = tell(rpm=600)
    ann = story.owner("ann")
    calls = [ann.ask(flags=0) for _ in range(20)]
    for n in calls[:5]:
        ann.report(n, DENIED)
    for n in calls[5:]:
        story.after(0.1)
        ann.report(n, DENIED)
    assert ann.known().shut_us == 10_000_000 - 1_500_000


# --- one call tries -------------------------------------------------------------------------------


def test_one_call_tries_at_a_time(tell: Tell) -> None:
    """When the time is over one call is let through, the others hear when to ask again."""
    story = tell(rpm=600)
    opened(story)
    ann, bob = story.after(10).owner("ann"), story.owner("bob")
    assert is_let_through(ann)
    assert not is_let_through(bob)
    assert bob.result.wait_us <= PROBE_S * 1_000_000
    assert not is_let_through(ann)
    ann.report(1, SERVED)
    assert is_let_through(bob)
    assert is_let_through(ann)
    assert ann.known().shut_us == ann.known().fails == 0


def test_a_try_that_fails_doubles_the_time(tell: Tell) -> None:
    """10, 20, 40, … seconds, five minutes at most; after a success it begins anew."""
    story = tell(rpm=600)
    owner = opened(story)
    for seconds in (10, 20, 40, 80, 160, 300, 300):
        story.after(seconds - 0.001)
        assert not is_let_through(owner)
        story.after(0.001)
        n = owner.ask(flags=0)
        owner.send(owner.reported(n, FAILED), layout.settle(n, (1,)))
        assert not is_let_through(owner)
    story.after(300)
    owner.call(REFUSED)  # the provider is there
    opened(story)


def test_a_try_that_comes_to_nothing_makes_room(tell: Tell) -> None:
    """Cancelled, refused for want of room, given up in the line: the next call tries at once."""
    story = tell(rpm=600, tpm=60)
    opened(story)
    story.owner("opener").send(layout.settle(99, ()))
    story.after(10)
    ann, bob = story.owner("ann"), story.owner("bob")
    cancelled = ann.ask(flags=0, tokens=10)
    ann.cancel(cancelled)
    ann.ask(flags=0, tokens=60)
    held = ann.ask(flags=0, tokens=1)
    assert ann.result.status == Status.OPEN
    ann.cancel(held)
    ann.settle(cancelled + 1)
    ann.ask(flags=0, tokens=40)
    assert ann.result.status == Status.REFUSED
    ann.ask(patience_s=1, tokens=40)
    assert ann.result.status == Status.REFUSED
    waiting = ann.ask(tokens=40)
    assert ann.result.status == Status.WAITING
    assert not is_let_through(bob, tokens=0)
    ann.cancel(waiting)
    assert is_let_through(bob, tokens=0)


def test_a_try_of_which_nothing_is_heard_makes_room(tell: Tell) -> None:
    """After a minute, or when its process is lost, another call tries."""
    story = tell(rpm=600)
    opened(story)
    ann, bob = story.after(10).owner("ann"), story.owner("bob")
    assert is_let_through(ann)
    story.after(PROBE_S - 0.001)
    assert not is_let_through(bob)
    story.after(0.001)
    assert is_let_through(bob)
    assert not is_let_through(ann)


def test_a_lost_process_does_not_keep_the_try(tell: Tell) -> None:
    """Law 7: a process that dies while it tries leaves it to the others when its lease is over."""
    story = tell(rpm=600)
    story.lease_us = 20_000_000
    opened(story)
    ann, bob = story.after(10).owner("ann"), story.owner("bob")
    assert is_let_through(ann)
    for _ in range(2):
        bob.poll()
        assert not is_let_through(bob)
        story.after(10)
    bob.poll()
    assert is_let_through(bob)


# --- routes ---------------------------------------------------------------------------------------


def test_other_routes_stay_open(tell: Tell) -> None:
    """In a group it is for calls that take from all quotas of those that failed; a success is as well."""
    story = tell(group={"a": {"rpm": 600}, "b": {"rpm": 600}, "org": {"rpm": 900}})
    ann = story.owner("ann")
    calls = [ann.ask(flags=0, quotas=("a", "org")) for _ in range(5)]
    for n in calls:
        ann.report(n, DENIED, ("a", "org"))
    for quotas, free in ((("a",), True), (("org",), True), (("b", "org"), True),
                         (("a", "org"), False), (("a", "b", "org"), False)):  # fmt: skip
        n = ann.ask(flags=0, quotas=quotas)
        assert (ann.result.status == Status.GRANTED) is free, quotas
        if free:
            ann.report(n, SERVED, quotas)
    assert ann.known(("a", "org")).shut_us == 10_000_000


def test_a_call_that_one_circuit_stops_does_not_try_another(tell: Tell) -> None:
    """A call of two routes that one of them refuses leaves the try of the other to the next one."""
    story = tell(group={"a": {"rpm": 600}, "b": {"rpm": 600}})
    ann = story.owner("ann")
    for quotas, pause in ((("a",), 5), (("b",), 5)):
        calls = [ann.ask(flags=0, quotas=quotas) for _ in range(5)]
        for n in calls:
            ann.report(n, DENIED, quotas)
        story.after(pause)
    ann.ask(flags=0, quotas=("a", "b"))
    assert ann.result[:2] == (Status.OPEN, 5_000_000)
    ann.ask(flags=0, quotas=("a",))
    assert ann.result.status == Status.GRANTED


# --- the budget of repeats ------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["repeat", "repeat", "repeat", "succeed", "fail"]),
            st.integers(1, 12),
            st.sampled_from([0.0, 0.0, 0.1, 3.0, 500.0, -5.0]),
        ),
        max_size=40,
    )
)
def test_repeats_are_a_fifth(tell: Tell, steps: list[tuple]) -> None:
    """From any moment on: at most a fifth of the successes, one a second, and what was saved up."""
    story = tell(rpm=100_000, limits=[Limit("images", 10)])
    ann = story.owner("ann")
    ann.poll()
    start = latest = story.now
    repeats = successes = 0
    for what, times, pause_s in steps:
        story.after(pause_s)
        latest = max(latest, story.now)
        for _ in range(times):
            if what == "repeat":
                left = ann.known().budget // 5
                ann.ask(layout.REPEATED)
                assert ann.result.status == (Status.GRANTED if left else Status.SPENT)
                repeats += left > 0
            else:
                ann.call(SERVED if what == "succeed" else REJECTED)
                successes += what == "succeed"
        seconds = (latest - start) / 1e6
        assert repeats <= 10 + successes / 5 + seconds
        assert 0 <= ann.known().budget <= 500


def test_a_fleet_that_does_nothing_saves_up_no_more_than_a_hundred(tell: Tell) -> None:
    """However long nobody repeats: 100 repeats are left, and then one a second."""
    story = tell(rpm=100_000)
    ann = story.owner("ann")
    ann.call(SERVED)
    story.after(3600)
    for left in (*range(100, 0, -1), 0):
        assert ann.known().budget // 5 == left
        ann.ask(layout.REPEATED)
    assert ann.result.status == Status.SPENT
    story.after(1)
    ann.ask(layout.REPEATED)
    assert ann.result.status == Status.GRANTED
