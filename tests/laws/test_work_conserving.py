"""Law 5 for fleets: nothing is lost to those who give up. Time is virtual.

A small run of the largest fleet of `benchmarks/fleet.py`, on the model and on each kind of server.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from benchmarks import perfect_line
from limiter import Limit, Quota
from limiter.simulation.engine import opened
from limiter.simulation.record import Ending
from limiter.simulation.replay import Replay, owners
from limiter.simulation.workload import START_US, Call
from tests import servers

PROCESSES = 8
RPM, TPM, BURST_S = 600, 240_000, 12.0


def arriving(count: int, giving_up: float) -> Iterator[tuple[perfect_line.Call, int | None]]:
    """Draw calls that come twice as fast as the limits let them go, with patience for some more."""
    draw, at_s = random.Random(5), 0.0
    for each in perfect_line.workload(count, 5, too_high=4.0):
        at_s += draw.expovariate(8.0)
        call = perfect_line.Call(each.estimate, each.actual, each.service_s, round(at_s, 6))
        if at_s > 2 * BURST_S and draw.random() < giving_up:
            yield call, round(draw.uniform(0.02, 0.4) * 1e6)
        yield call, None


def replayed(n: int, each: perfect_line.Call, patience_us: int | None) -> Call:
    cost, actual = (tuple(map(int, units)) for units in (each.estimate, each.actual))
    at_us, service_us = (round(seconds * 1e6) for seconds in (each.arrives_s, each.service_s))
    return Call(n, START_US + at_us, cost, actual, service_us, patience_us, 0, "")


@pytest.mark.parametrize("kind", ["model", *sorted(servers.binaries())])
def test_who_gives_up_costs_the_others_nothing(urls: dict[str, str], kind: str) -> None:
    """With 10 % giving up, the rest is done within 1.02 x what the perfect line takes without them.

    Each of them waits, so none costs anything, and the perfect line makes the calls that are made.
    Estimates are four times too high: refunds are what most grants wait for.
    """
    drawn = list(arriving(600, giving_up=0.1))
    limits = [Limit("requests", RPM, burst=BURST_S), Limit("tokens", TPM, burst=BURST_S)]
    quota, url = Quota("line", limits=limits), urls.get(kind)
    calls = [replayed(n, *each) for n, each in enumerate(drawn, start=1)]
    with opened(quota, owners(PROCESSES), "lua" if url else "model", url) as engine:
        replay = Replay(engine, calls, PROCESSES)
        replay.run()  # raises if a wake-up is missing, or a ticket or a reservation is left
    gone = [ending == Ending.TIMED_OUT for ending in replay.record.endings]
    assert gone == [patience is not None for _, patience in drawn]
    assert sum(gone) > 40
    stay = [call for call, patience in drawn if patience is None]
    line = perfect_line.perfect_line(perfect_line.fleet(RPM, TPM, BURST_S), stay)
    makespan_s = (replay.record.ended_us - START_US) / 1e6
    assert line.makespan_s * 0.999 <= makespan_s <= line.makespan_s * 1.02
