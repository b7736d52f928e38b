"""Limits that the provider tells: learned where nobody declared any, followed where it is less.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core import layout, ops
from limiter.core.definition import Definition
from limiter.core.layout import Status
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from limiter.providers.verdict import MINUTE_US, Seen
from tests.laws.conftest import Tell
from tests.laws.provider import Provider
from tests.laws.store import Store
from tests.laws.story import HIGH, REFUSED, SERVED, SLOW_DOWN, Story


def told(amount: int, used: int, dimension: str = "tokens") -> Seen:
    return Seen(dimension, amount, MINUTE_US, amount - used, used * MINUTE_US // amount, 1000, True)


def amounts(agreed: Definition) -> dict[str, int]:
    return {limit.label: limit.amount for limit in agreed.limits}


# --- a quota without numbers ----------------------------------------------------------------------


def test_one_call_goes_ahead_until_limits_are_told(tell: Tell) -> None:
    """Nobody knows any limit: the first call is alone, and what its answer tells holds for the next."""
    story = tell()
    store, ann, bob = Store(story), story.owner("ann"), story.owner("bob")
    first = ann.ask(tokens=100)
    waiting = [bob.ask(tokens=300) for _ in range(20)]
    assert (ann.granted, bob.granted) == ([first], [])
    seen = (told(1000, 100), told(60, 1, "requests"))
    store.learn(*seen)
    assert amounts(story.agreed) == {"tokens/minute": 1000, "requests/minute": 60}
    ann.report(first, replace(SERVED, seen=seen, when="start"))
    ann.settle(first, tokens=100)
    for _ in waiting:
        bob.poll()
    story.after(60)
    bob.ask(flags=0, tokens=1000)
    bob.ask(flags=0, tokens=1)
    assert bob.result.status == Status.REFUSED


def test_where_nothing_is_told_slots_are_found_out(tell: Tell) -> None:
    """A provider that tells no limits is called as often at a time as it does not refuse."""
    story = tell()
    ann = story.owner("ann")
    for _ in range(30):
        ann.ask()
    for n in range(1, 8):
        ann.send(ann.reported(n, SERVED), layout.settle(n, ()))
        assert ann.reply.held == n + 1
    ann.report(8, REFUSED)
    ann.cancel(8)
    assert story.owner("ann").known().limits["concurrency"].slots == 6


# --- a quota with numbers -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("told"), st.sampled_from([10, 400, 999, 1000, 2000, 10**9])),
            st.tuples(st.just("declared"), st.sampled_from([300, 1000, 1500])),
            st.tuples(st.just("call"), st.integers(1, 50)),
        ),
        max_size=25,
    )
)
def test_a_declared_quota_follows_what_is_less(tell: Tell, steps: list[tuple]) -> None:
    """In force is always the lesser of what was declared and told last; what was used stays used."""
    story = tell(tpm=1000, rpm=600)
    store, ann, name = Store(story), story.owner("ann"), story.quota.name
    declared, last, used = 1000, 10**9, 0
    for kind, amount in steps:
        if kind == "told":
            last = amount
            store.learn(told(amount, 0))
        elif kind == "declared":
            declared = amount
            quota = Quota(name, tpm=amount, rpm=600, headroom=0)
            store.run(ops.define_gen(name, [quota], follow=False))
        else:
            ann.ask(flags=0, tokens=amount)
            used += amount * (ann.result.status == Status.GRANTED)
        last = last if last < declared else 10**9  # more than was declared is nothing to remember
        assert amounts(story.agreed) == {
            "tokens/minute": min(declared, last),
            "requests/minute": 600,
        }
        assert story.agreed.as_declared(name).limits[1].amount == declared
        assert story.levels()["tokens/minute"] == min(declared, last) - used


def test_a_program_that_starts_keeps_what_was_told(tell: Tell) -> None:
    """Its own numbers are those of before: it changes nothing, and asks for nothing to be replaced."""
    story = tell(tpm=1000)
    store = Store(story)
    store.learn(told(400, 0))
    declared, version = store.declared, story.agreed.version
    store.run(ops.define_gen(story.quota.name, [story.quota], follow=False))
    assert (store.declared, story.agreed.version) == (declared, version)
    assert amounts(story.agreed) == {"tokens/minute": 400}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    learners=st.lists(st.sampled_from([300, 400, 700]), min_size=1, max_size=6),
    learns=st.booleans(),
    turns=st.randoms(use_true_random=False),
)
def test_learners_agree(tell: Tell, learners: list[int], learns: bool, turns: Random) -> None:
    """Processes that learn at the same time, in any order of their steps: all end, with one definition."""
    story = tell() if learns else tell(tpm=1000)
    store, name = Store(story), story.quota.name
    running = [[ops.learn_gen(name, name, (told(n, 10),)), None, True] for n in learners]
    results = []
    for _ in range(1000):
        if not running:
            break
        each = turns.choice(running)
        steps, wanted, is_new = each
        try:
            each[1:] = next(steps) if is_new else steps.send(store.answer(wanted)), False
        except StopIteration as stop:
            results.append(stop.value)
            running.remove(each)
    assert not running
    assert store.read()[1] == results[-1].text
    assert story.agreed.limits[0].amount in learners
    if len(set(learners)) == 1:
        assert {each.version for each in results} == {story.agreed.version}
        assert store.declared <= len(learners)


# --- a new definition -----------------------------------------------------------------------------


def test_new_priorities_leave_what_the_provider_told(tell: Tell) -> None:
    """Where no limit changes, pace, slots, marks and guards go on, and so does the brake."""
    limits = [Limit("tokens", 6000, headroom=0), Limit("concurrency", 50, None, adaptive=True)]
    story = tell(limits=limits)
    ann, provider = story.owner("ann"), Provider(story.now, tokens=6000)
    for _ in range(3):
        ann.call(SERVED, tokens=10)
        assert provider.admit(story.now, {"tokens": 10}) is None
    n = ann.ask(flags=0, tokens=100)
    assert provider.admit(story.now, {"tokens": 600}) is None
    answer = provider.answer(story.now, "start")
    before = ann.known()
    story.redefine(limits=limits, priorities=[HIGH, Priority("new", share=0.5)])
    assert ann.known() == before
    assert before.limits["concurrency"].slots > 1
    for _ in range(12):
        ann.ask(flags=0, tokens=50)
    assert provider.admit(story.now, {"tokens": 50}) is None
    left = story.levels()["tokens/minute"]
    ann.report(n, answer)  # by its mark: 500 were used by others, whatever was asked for since
    assert story.levels()["tokens/minute"] == pytest.approx(left - 500, abs=10)


def test_a_slower_pace_outlives_other_limits(tell: Tell) -> None:
    """Where limits change, the part of the rate that may be used stays, and slots as far as there are."""
    adaptive = [Limit("tokens", 6000, adaptive=True), Limit("concurrency", 50, None, adaptive=True)]
    story = tell(limits=adaptive)
    ann = story.owner("ann")
    for _ in range(5):
        ann.call(SERVED, tokens=0)
    ann.call(REFUSED, tokens=1)
    for amount, ceiling in ((6001, 50), (12_000, 50), (600, 1)):
        limits = [replace(adaptive[0], amount=amount), replace(adaptive[1], amount=ceiling)]
        story.redefine(limits=limits)
        known, full = ann.known().limits, story.agreed.limits[0].scaled[0]
        assert known["tokens/minute"].num / full == pytest.approx(0.5, abs=0.01)
        assert known["concurrency"].slots == 1


def test_marks_of_before_say_nothing_of_other_limits(tell: Tell) -> None:
    """An answer to a call that was granted under other limits lowers the level at most to what is left."""
    story = tell(tpm=6000)
    ann, provider = story.owner("ann"), Provider(story.now, tokens=6000)
    ann.call(SERVED, tokens=0)
    calls = [ann.ask(flags=0, tokens=1000) for _ in range(3)]
    assert provider.admit(story.now, {"tokens": 3000}) is None
    answer = provider.answer(story.now, "start")
    story.redefine(tpm=5000)
    for n in calls:
        ann.report(n, replace(answer, seen=(told(5000, 3000),)))
    assert story.levels() == {"tokens/minute": 2000}


def test_slow_down_outlives_other_priorities(tell: Tell) -> None:
    """A ramp is not ended by a program that declares something else."""
    story: Story = tell(tpm=9_000_000)
    ann = story.owner("ann")
    ann.call(SLOW_DOWN, tokens=1)
    slow = ann.known().limits["tokens/minute"].num
    story.redefine(tpm=9_000_000, priorities=[HIGH])
    assert ann.known().limits["tokens/minute"].num == slow
