"""The laws of a replay: exact waits, the same on both engines, nothing lost, no wake-up missing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import perfect_line
from limiter.core.layout import Message, Outcome, Reply, Status
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from limiter.errors import ScriptError
from limiter.simulation import engine
from limiter.simulation.record import Ending
from limiter.simulation.replay import Replay, owners
from limiter.simulation.summary import waits
from limiter.simulation.workload import START_US, Call
from tests.simulation.traces import call, model, replayed, waits_s

ONE_PER_S = Quota("q", limits=[Limit("tokens", 60, headroom=0)])


def test_waits_by_hand() -> None:
    """60 tokens at once, then one per second: who comes later waits for the refill, in order."""
    calls = [call(1, 0, [60]), call(2, 1, [30]), call(3, 2, [10]), call(4, 45, [5])]
    assert waits_s(replayed(model(ONE_PER_S), calls)) == [0, 29, 38, 0]


def test_a_refund_wakes_the_line_of_another_process() -> None:
    """What a call did not use is granted to those that wait when it ends, in other processes, too."""
    calls = [call(1, 0, [60], [10], service_s=5), call(2, 1, [30]), call(3, 2, [10])]
    assert waits_s(replayed(model(ONE_PER_S), calls, processes=3)) == [0, 4, 3]


def test_overuse_delays_those_behind() -> None:
    """What a call used beyond its estimate is debt, and is waited for."""
    calls = [call(1, 0, [60], [80], service_s=5), call(2, 1, [10])]
    assert waits_s(replayed(model(ONE_PER_S), calls)) == [0, 29]


def test_slots_are_held_as_long_as_a_call_is_served() -> None:
    """A slot comes back when its call ends; its use is the time it was held while somebody waited."""
    quota = Quota("q", concurrency=2)
    calls = [call(n, n / 10, [1], [-1], service_s=3) for n in range(1, 6)]
    replay = replayed(model(quota), calls)
    assert waits_s(replay) == [0, 0, 2.8, 2.8, 5.6]
    assert replay.record.ended_us == START_US + 9_100_000
    assert replay.usage.shares() == {"concurrency": 1.0}
    assert replay.usage.busy_us == 5_800_000


def test_who_gives_up_leaves_nothing_behind() -> None:
    """A call that waits longer than its timeout gives up; the next one is served as if it had not been."""
    calls = [call(1, 0, [60]), call(2, 1, [50], timeout_s=10), call(3, 2, [20]),
             call(4, 3, [5], timeout_s=22.000001)]  # fmt: skip
    replay = replayed(model(ONE_PER_S), calls)
    assert waits_s(replay) == [0, 10, 18, 22]
    assert list(replay.record.endings) == [Ending.GRANTED, Ending.TIMED_OUT, Ending.GRANTED,
                                           Ending.GRANTED]  # fmt: skip


def test_what_never_fits_is_refused_at_once() -> None:
    """A cost above the limit itself does not hold up the others."""
    replay = replayed(model(ONE_PER_S), [call(1, 0, [61]), call(2, 1, [60])])
    assert list(replay.record.endings) == [Ending.REFUSED, Ending.GRANTED]
    assert waits_s(replay) == [0, 0]


def test_many_at_one_moment_are_served_in_order() -> None:
    """More than a batch at one moment leave in several, and are all granted when they fit."""
    quota = Quota("q", limits=[Limit("tokens", 6_000, headroom=0)])
    calls = [call(n, 0, [10]) for n in range(1, 1_001)]
    replay = replayed(model(quota), calls, processes=1)
    assert waits_s(replay) == [max(0.0, (n - 600) / 10) for n in range(1, 1_001)]


def test_a_higher_priority_goes_first() -> None:
    """Who is of a higher priority overtakes all that wait, and none of its own."""
    own = [Priority("high", level=1), Priority("low", level=-1)]
    quota = Quota("q", limits=[Limit("tokens", 60, headroom=0)], priorities=own)
    high, low = (model(quota).definition.priority_index(each) for each in ("high", "low"))
    wanted = [(0, 60, high), (1, 10, low), (2, 10, low), (3, 10, high), (4, 10, high)]
    calls = [replace(call(n, at_s, [cost]), index=index)
             for n, (at_s, cost, index) in enumerate(wanted, 1)]  # fmt: skip
    assert waits_s(replayed(model(quota), calls)) == [0, 29, 38, 7, 16]


def test_a_grant_comes_before_the_deadline_of_that_moment() -> None:
    """A call whose deadline falls on the moment at which enough comes back is granted, not lost."""
    quota = Quota("q", limits=[Limit("tokens", 300, 3_600.0, headroom=0)])
    calls = [call(n, 0, [1], [0], service_s=5) for n in range(1, 301)]
    last = call(301, 1, [200], timeout_s=4)
    replay = replayed(model(quota), [*calls, last], processes=1)
    assert (replay.record.endings[300], replay.record.waited_us[300]) == (Ending.GRANTED, 4_000_000)


# --- both engines -------------------------------------------------------------------------

amounts = st.integers(0, 120)
limits = st.lists(
    st.one_of(
        st.builds(Limit, st.sampled_from(["requests", "tokens"]), st.integers(5, 100),
                  st.sampled_from([1.0, 7.5, 60.0]),
                  st.one_of(st.sampled_from(["full", "smooth"]), st.integers(1, 90).map(float))),
        st.builds(Limit, st.just("concurrency"), st.integers(1, 3), st.none()),
    ),
    min_size=1, max_size=3, unique_by=lambda limit: limit.label,
)  # fmt: skip
row = st.tuples(
    st.one_of(st.just(0), st.integers(0, 3_000_000)),  # microseconds since the one before
    st.lists(amounts, min_size=3, max_size=3),
    st.lists(st.one_of(st.just(-1), amounts), min_size=3, max_size=3),
    st.one_of(st.just(0), st.integers(0, 5_000_000)),
    st.one_of(st.none(), st.integers(1, 20_000_000)),
    st.integers(0, 2),
    st.sampled_from(["", "ann", "bob"]),
)
part = st.sampled_from([0.1, 0.5, 0.9])
policy = st.fixed_dictionaries({}, optional={
    "level": st.integers(-1, 1), "floor": part, "share": part, "strict": st.booleans(),
    "max_waiting": st.integers(0, 3), "promote_after_s": st.integers(1, 20).map(float),
    "lend_after_s": st.integers(0, 20).map(float),
})  # fmt: skip


def calls_of(quota: Quota, rows: Sequence[tuple]) -> list[Call]:
    dims, at, calls = len(model(quota).definition.dims), START_US, []
    for n, (gap, cost, actual, service, timeout, priority, tenant) in enumerate(rows, 1):
        at += gap
        calls.append(Call(n, at, tuple(cost[:dims]), tuple(actual[:dims]), service, timeout,
                          priority, tenant, priority, 100 * (1 + 2 * (tenant == "ann"))))  # fmt: skip
    return calls


@settings(max_examples=120, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(limits=limits, rows=st.lists(row, max_size=30), processes=st.integers(1, 4),
       policies=st.lists(policy, min_size=2, max_size=2), own=st.booleans())  # fmt: skip
def test_both_engines_give_the_same(
    any_url: str,
    limits: list[Limit],
    rows: list[tuple],
    processes: int,
    policies: list[dict],
    own: bool,
) -> None:
    """Any trace gives the same waits, endings and use on the Lua and on the model; all ends full."""
    priorities = [Priority(name, **each) for name, each in zip("ab", policies, strict=True)]
    quota = Quota("q", limits=limits, priorities=priorities,
                  tenant_limits=[Limit("tokens", 50)] if own else [])  # fmt: skip
    calls = calls_of(quota, rows)
    expected = replayed(model(quota), calls, processes)
    with engine.opened(quota, owners(processes), "lua", any_url) as lua:
        actual = replayed(lua, calls, processes)
        end, _ = lua.run(actual.record.ended_us, "observer", 0, 0, lua.definition.version, [])
        later = actual.record.ended_us + 10**12
        reply, _ = lua.run(later, "observer", 0, 0, lua.definition.version, [])
    assert {each.priority for each in calls} <= set(range(len(lua.definition.priorities)))
    assert end.levels == actual.usage.levels
    for name in ("arrived_us", "waited_us", "endings", "priorities", "ended_us", "runs"):
        assert getattr(actual.record, name) == getattr(expected.record, name)
    assert actual.usage.shares() == expected.usage.shares()
    assert reply.levels == tuple(limit.capacity for limit in limits)
    assert (reply.held, reply.waiting) == (0, 0)


# --- how good it is -----------------------------------------------------------------------


def drawn(count: int, too_high: float) -> list[perfect_line.Call]:
    """Draw calls at one and a half times the rate of `ONE_LINE`."""
    rng, at_s, calls = random.Random(7), 0.0, []
    for each in perfect_line.workload(count, 3, too_high=too_high):
        at_s += round(rng.expovariate(15.0), 6)
        calls.append(perfect_line.Call(each.estimate, each.actual, each.service_s, round(at_s, 6)))
    return calls


ONE_LINE = Quota(
    "q", limits=[Limit("requests", 600, headroom=0), Limit("tokens", 600_000, headroom=0)]
)


@pytest.mark.parametrize("too_high", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("processes", [1, 4])
def test_the_line_is_perfect(too_high: float, processes: int) -> None:
    """One priority is granted when the perfect line grants it, to the microseconds of rounding."""
    wanted = drawn(1_500, too_high)
    buckets = [perfect_line.Bucket(600, 10.0), perfect_line.Bucket(600_000, 10_000.0)]
    line = perfect_line.perfect_line(buckets, wanted)
    calls = [
        call(n, each.arrives_s, each.estimate, each.actual, service_s=each.service_s)
        for n, each in enumerate(wanted, 1)
    ]
    replay = replayed(model(ONE_LINE), calls, processes)
    granted = [(a + w - START_US) / 1e6
               for a, w in zip(replay.record.arrived_us, replay.record.waited_us, strict=True)]  # fmt: skip
    assert granted == pytest.approx(line.granted_s, abs=5e-6)
    assert (replay.record.ended_us - START_US) / 1e6 == pytest.approx(line.makespan_s, abs=5e-6)


def test_an_overloaded_limit_is_used_to_the_full() -> None:
    """From the first grant to the last, an overloaded limit grants its burst and all of its rate."""
    calls = [call(n, each.arrives_s, each.estimate[1:], service_s=each.service_s)
             for n, each in enumerate(drawn(3_000, 1.0), 1)]  # fmt: skip
    quota = Quota("q", limits=[Limit("tokens", 600_000, headroom=0)])
    replay = replayed(model(quota), calls, processes=4)
    granted_us = [
        a + w for a, w in zip(replay.record.arrived_us, replay.record.waited_us, strict=True)
    ]
    span_s = (max(granted_us) - min(granted_us)) / 1e6
    after_burst = sum(each.cost[0] for each in calls) - 600_000
    assert 0.999 <= after_burst / (10_000 * span_s) <= 1.0
    assert 0.999 <= replay.usage.shares()["tokens/minute"] <= 1.0


def test_use_counts_what_was_wasted() -> None:
    """What a limit could not grant while another held the line up is not used of it."""
    quota = Quota("q", limits=[Limit("requests", 60, headroom=0), Limit("tokens", 60, headroom=0)])
    calls = [call(1, 0, [1, 60]), call(2, 0, [1, 30])]
    replay = replayed(model(quota), calls, processes=1)
    # For 30 s one call waits: of 59 + 30 requests (full at 60), 1 is granted; of 30 tokens, 30.
    assert replay.usage.shares() == {"requests/minute": 1 / 89, "tokens/minute": 1.0}
    assert waits(replay.record.outcomes()).longest_line == 1


# --- what a replay proves -----------------------------------------------------------------


class Faulty:
    """Run the model, and spoil its replies."""

    def __init__(self, spoil: Callable[[Reply], Reply]) -> None:
        self.engine = model(ONE_PER_S)
        self.definition = self.engine.definition
        self.spoil = spoil

    def run(self, *batch: Any) -> tuple[Reply, dict[str, Message]]:
        reply, _ = self.engine.run(*batch)
        return self.spoil(reply), {}


def with_results(reply: Reply, status: Status) -> Reply:
    return replace(reply, results=[each._replace(status=status) for each in reply.results])


@pytest.mark.parametrize(
    ("spoil", "processes", "says"),
    [
        (lambda reply: reply, 3, "2 calls wait, nothing is under way and no timer is set"),
        (
            lambda reply: replace(reply, next_us=0, mine=True, grants=[]),
            1,
            "is due and is not granted",
        ),
        (lambda reply: with_results(reply, Status.DONE), 1, "ended as"),
        (lambda reply: replace(reply, grants=reply.grants * 2), 1, "granted, but it does not wait"),
        (lambda reply: replace(reply, outcome=Outcome.STALE), 1, "was STALE"),
        (lambda reply: with_results(reply, Status.GONE) if reply.grants else reply, 1, "ended as"),
        (
            lambda reply: replace(reply, held=1, waiting=0),
            1,
            "1 reservations and 0 tickets are left",
        ),
    ],
)
def test_a_fault_of_the_engine_is_found_out(
    spoil: Callable[[Reply], Reply], processes: int, says: str
) -> None:
    """Without polls, lost wake-ups and timers show; so do wrong results and what is left behind."""
    calls = [call(1, 0, [60], [10], service_s=5), call(2, 1, [30]), call(3, 2, [10])]
    with pytest.raises(ScriptError, match=says):
        Replay(Faulty(spoil), calls, processes).run()
