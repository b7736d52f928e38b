"""Reports: each counts once, whatever gets lost; nothing is stored where nobody reports; what is expires.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core import definition, layout, told
from limiter.core.line import Line
from limiter.core.model import Model
from limiter.core.ops import report
from limiter.core.quota import Limit, Quota
from limiter.errors import StoreTimeout
from limiter.providers.verdict import MINUTE_US, Seen
from tests.laws.conftest import Tell
from tests.laws.story import (
    DENIED,
    FAILED,
    HIGH,
    REFUSED,
    SERVED,
    SLOW_DOWN,
    START_US,
    Known,
    Owner,
)
from tests.laws.world import Call, World

# --- a report counts once -------------------------------------------------------------------------


def everything(owner: Owner) -> tuple:
    return owner.known(), owner.story.levels()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from([SERVED, REFUSED, SLOW_DOWN, FAILED, DENIED]),
            st.sampled_from([None, 500_000]),
            st.lists(st.sampled_from(["ran", "did not run"]), max_size=3),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_a_report_that_is_sent_again_counts_once(tell: Tell, answers: list[tuple]) -> None:
    """Law 8: replies are lost, of batches that ran and of some that did not; the end is the same."""
    limits = {"limits": [Limit("tokens", 6_000_000), Limit("concurrency", 9, None, adaptive=True)]}
    ends = []
    for is_lossy in (False, True):
        story = tell(**limits)
        ann = story.owner("ann")
        for verdict, wait_us, losses, settles in answers:
            story.after(1)
            n = ann.ask(flags=0, tokens=100)
            answer, first = replace(verdict, wait_us=wait_us), ann.number + 1
            for loss in losses if is_lossy else ():
                entries = [ann.reported(n, answer, first=first if first <= ann.number else 0)]
                if settles:
                    entries.append(layout.settle(n, story.agreed.actual({})))
                ann.number += loss == "did not run"
                if loss == "ran":
                    ann.send(*entries)
            ann.send(ann.reported(n, answer, first=first if first <= ann.number else 0))
            ann.settle(n)
        ends.append(everything(ann))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("ran", [True, False])
def test_a_client_says_that_it_reported_before(ran: bool) -> None:
    """Law 8: a lost reply makes a client send its report again, and it counts once all the same."""
    agreed = definition.read("q", "1", definition.write(Quota("q", rpm=600)))
    line, model = Line(agreed, "ann", 30_000_000, 10_000_000), Model(agreed, START_US)

    def run(now_us: int) -> layout.Reply:
        batch = line.depart(now_us)
        assert batch is not None
        return model.run(now_us, "ann", batch.number, 30_000_000, "1", batch.entries)[0]

    for i in range(4):
        now_us = START_US + 5_000_000 * i
        line.post(report(1, DENIED, ()))
        for _ in range(2):
            if ran:
                run(now_us)
            else:
                line.depart(now_us)
            line.lost(StoreTimeout("no answer"), now_us, retry=True)
            now_us += 1_000_000
        line.arrive(run(now_us), now_us)
        assert model.feedback.routes[""].denied == i + 1


# --- what is not used costs nothing ---------------------------------------------------------------


def some_calls(world: World, rng: Random, steps: int) -> None:
    for _ in range(steps):
        world.now += rng.choice([0, 1_000, 700_000, 5_000_000])
        held = [call for call in world.calls.values() if call.held]
        if held and rng.random() < 0.4:
            world.settle(rng.choice(held), tokens=rng.randint(0, 300))
        else:
            world.ask(rng.choice(["ann", "bob"]), priority=rng.randint(0, 1), tokens=rng.randint(1, 500),
                      tenant=rng.choice(["", "t"]))  # fmt: skip


def test_where_nobody_reports_nothing_is_stored_for_it(any_url: str, name: str) -> None:
    """The hot path: no marks at reservations, no corrections at limits, no key of answers."""
    quota = Quota(
        name, tpm=6000, concurrency=9, priorities=[HIGH], tenant_limits=[Limit("tokens", 99)]
    )
    with World(quota, any_url) as world:
        some_calls(world, Random(1), 60)
        world.redefine(Quota(name, tpm=6000, concurrency=9))
        some_calls(world, Random(2), 60)
        client, keys = world.engine.client, world.engine.keys
        holds = [msgpack.unpackb(each) for each in client.hvals(keys.holds)]
        assert holds
        assert {len(hold) for hold in holds} == {5}
        assert {len(limit) for limit in msgpack.unpackb(client.get(keys.state))[7]} == {6}
        assert not client.exists(keys.feedback)


# --- keys that are gone ---------------------------------------------------------------------------

SLOTS, RATE = Limit("concurrency", 40, None, adaptive=True), Limit("tokens", 60_000, adaptive=True)


def report_to(world: World, call: Call, rng: Random) -> None:
    """Report anything: levels of any height, waits, refusals, failures."""
    used = rng.choice([0, 20_000, 60_000, rng.randint(0, 60_000)])
    seen = Seen("tokens", 60_000, MINUTE_US, 60_000 - used, used * 1000, 1000, True)
    verdict = replace(
        rng.choice([SERVED, SERVED, REFUSED, SLOW_DOWN, FAILED, DENIED]), when=rng.choice(["start", "end"]),
        seen=rng.choice([(), (seen,)]), wait_us=rng.choice([None, 1_000_000, 30_000_000]),
        refused_by=rng.choice([None, seen]),
    )  # fmt: skip
    wait_us = -1 if verdict.wait_us is None else verdict.wait_us
    rows = told.rows(world.agreed, (), verdict)
    world.send(call.owner, layout.report(call.n, verdict.outcome, wait_us, "", rows))


def any_step(world: World, rng: Random) -> None:
    held = [call for call in world.calls.values() if call.held]
    if held and rng.random() < 0.5:
        report_to(world, rng.choice(held), rng)
        return
    some_calls(world, rng, 1)


def wait_and_be_served(world: World, tokens: int, enough: Callable[[Known], bool]) -> None:
    """Let calls wait all the time, and all be served, for an hour and a half at most."""
    for _ in range(900):
        world.after(6)
        while world.poll("cyd").waiting < 2:
            world.ask("cyd", tokens=tokens)
        for call in [call for call in world.calls.values() if call.held]:
            rows = told.rows(world.agreed, (), SERVED)
            world.send(call.owner, layout.report(call.n, SERVED.outcome, -1, "", rows))
            world.settle(call)
        if enough(known(world)):
            break
    for call in world.calls.values():
        world.cancel(call)


def known(world: World) -> Known:
    return Known.read(world.agreed, world.send("cyd", layout.tell(""))[0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lost", ["state", "feedback", "holds", "numbers", "state feedback"])
def test_whatever_is_lost_comes_back(any_url: str, name: str, lost: str, seed: int) -> None:
    """State and answers are evicted at any moments: no error, nothing is held back for good.

    The pace comes back to the full rate, adaptive slots grow again, all levels fill up, the circuit
    closes; and every key that is there expires.
    """
    rng = Random(f"{lost} {seed}")
    quota = Quota(name, limits=[RATE, SLOTS], priorities=[HIGH])
    with World(quota, any_url, lease_us=30_000_000) as world:
        client, keys = world.engine.client, world.engine.keys
        for _ in range(rng.randint(1, 4)):
            for _ in range(rng.randint(1, 30)):
                any_step(world, rng)
                assert [key for key in keys.all() if client.pttl(key) == -1] == []
                assert 0 <= known(world).budget <= 500
            client.delete(*(getattr(keys, key) for key in lost.split()))
            world.now += rng.choice([0, 0, -3600_000_000]) if lost == "state" else 0
        for _ in range(rng.randint(0, 10)):
            any_step(world, rng)
        for call in world.calls.values():
            world.cancel(call)
        world.now = max(world.now, START_US) + 600_000_000
        full = RATE.scaled[0]
        wait_and_be_served(world, 30_000, lambda now: now.limits["tokens/minute"].num == full)
        wait_and_be_served(world, 0, lambda now: now.limits["concurrency"].slots >= 3)
        found = known(world.after(600))
        assert (found.brake_us, found.shut_us, found.fails, found.denied) == (0, 0, 0, 0)
        assert found.budget >= 50
        assert found.limits["tokens/minute"].num == full
        slots = found.limits["concurrency"].slots
        assert slots >= 3
        assert world.levels() == {"tokens/minute": RATE.capacity, "concurrency": slots}
