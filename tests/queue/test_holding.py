"""How much a worker holds: never more than it can make, never what would only wait with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limiter.queue.holding import Holding

LEVELS = st.integers(-3, 3)
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "grant", "end"]), st.integers(0, 20), LEVELS), max_size=80
)


@given(st.integers(1, 12), STEPS)
def test_a_worker_holds_no_more_calls_than_it_can_make(concurrency, steps):
    """What it wants, and gives back, keeps it at its concurrency, whatever is offered."""
    holding, now, serial = Holding(concurrency), 0.0, 0
    for what, which, level in steps:
        now += 0.1
        if what == "take" and (want := holding.want()) is not None:
            room = want.levels.get(level, want.each)
            if want.above is None or level > want.above:
                for _ in range(min(room, want.most)):
                    serial += 1
                    holding.took(serial, level)
                for each in holding.surplus():
                    holding.ended(each)
        held = list(holding.waiting)
        if what == "grant" and held:
            holding.granted(held[which % len(held)], now)
        if what == "end" and holding._sending:
            holding.ended(sorted(holding._sending)[which % len(holding._sending)])
        assert len(holding) <= concurrency


@given(st.integers(1, 12), st.lists(LEVELS, min_size=1, max_size=30))
def test_a_full_worker_takes_only_what_is_more_urgent(concurrency, levels):
    """… than the least urgent call that waits; and that one goes back for it."""
    holding: Holding[int] = Holding(concurrency)
    for call, level in enumerate(levels[:concurrency]):
        holding.took(call, level)
    if len(holding) < concurrency:
        return
    want = holding.want()
    assert want is not None
    assert want.above == min(levels[:concurrency])
    holding.took(1000, want.above + 1)
    (back,) = holding.surplus()
    assert holding._waiting[back] == want.above


def test_a_full_worker_whose_calls_are_all_under_way_takes_nothing():
    """There is nothing to give back for it."""
    holding: Holding[int] = Holding(2)
    for call in (1, 2):
        holding.took(call, 0)
        holding.granted(call, 0.0)
    assert holding.want() is None
    assert holding.surplus() == []
    holding.ended(1)
    assert holding.want() is not None


def test_few_calls_wait_where_the_limit_lets_few_go():
    """The window follows the rate of grants: 2 at least, and what a second grants at most."""
    holding: Holding[int] = Holding(1000)
    assert holding.window == 2
    for call in range(200):
        holding.took(call, 0)
        holding.granted(call, call / 100)  # a hundred a second, for two seconds
    assert 30 <= holding.window <= 100
    assert holding.want().each == holding.window
