"""Laws of priorities and tenants, told to the model and to the Lua. Time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from limiter.core.layout import Status
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from tests import servers
from tests.engine.lua import Lua
from tests.laws.world import World

Begin = Callable[..., World]


@pytest.fixture(params=["model", *sorted(servers.binaries())])
def begin(request: pytest.FixtureRequest, urls: dict[str, str], name: str) -> Iterator[Begin]:
    """Begin a world on one engine: `begin(rpm=60, …)`."""
    worlds: list[World] = []

    def make(**quota: object) -> World:
        unique = f"{name}-{len(worlds)}"
        worlds.append(World(Quota(unique, headroom=0, **quota), urls.get(request.param)))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


PLAIN = [Priority("default"), Priority("low", level=-10), Priority("high", level=10)]


def test_a_tenant_never_has_more_than_its_own_limit(begin: Begin) -> None:
    """A tenant's limit holds over all priorities, also where both heads waited for the quota."""
    world = begin(tpm=600, priorities=PLAIN, tenant_limits=[Limit("concurrency", 1, None)])
    world.ask(tokens=600)
    calls = [world.ask(priority=p, tenant="t", tokens=10) for p in ("high", "low")]
    world.after(10).poll()
    assert [call.held for call in calls] == [True, False]
    world.settle(calls[0])
    assert calls[1].held


def test_a_tenant_in_debt_is_not_served(begin: Begin) -> None:
    """What a tenant overuses holds its waiting calls back, also one that is at the head already."""
    world = begin(tpm=6000, tenant_limits=[Limit("tokens", 600, headroom=0)])
    first = world.ask(tenant="t", tokens=100)
    world.ask(tokens=5900)
    second = world.ask(tenant="t", tokens=100)
    other = world.ask(tenant="u", tokens=100)
    world.settle(first, tokens=600)
    world.after(7).poll()
    assert (second.held, other.held) == (False, True)


def test_a_timer_is_set_only_for_what_can_happen(begin: Begin) -> None:
    """Where only an event can help, nobody is told to look again and again."""
    world = begin(concurrency=1, tpm=60_000)
    world.ask(concurrency=1, tokens=0)
    world.ask(concurrency=1, tokens=60_000)
    world.ask(route="x", concurrency=0, tokens=1)
    assert world.poll().next_us == -1


def test_a_promoted_call_is_served_before_those_above_it(begin: Begin) -> None:
    """Nobody starves: a call that was promoted gets its turn, whatever it must leave to others."""
    low = Priority("low", level=-10, floor=0.5, promote_after_s=5)
    world = begin(rpm=60, priorities=[*PLAIN[::2], low])
    while world.ask(priority="high").held:
        pass
    waiting = world.ask(priority="low")
    for _ in range(50):
        world.ask(priority="high")
        world.after(1).poll()
    assert waiting.held


def test_a_floor_does_not_put_a_call_behind_lower_ones(begin: Begin) -> None:
    """A head that may not draw below its floor keeps what it needs from lower priorities."""
    floored = Priority("floored", level=-1, floor=0.5, strict=True)
    world = begin(rpm=60, priorities=[*PLAIN[:2], floored])
    while world.ask().held:
        pass
    world.cancel(list(world.calls.values())[-1])
    waiting = world.ask(priority="floored")
    for _ in range(40):
        world.ask(priority="low")
        world.after(1).poll()
    assert waiting.held


def test_a_try_is_granted_where_a_call_that_waits_would_be(begin: Begin) -> None:
    """A tenant that its own limits hold back does not make others wait, nor be refused."""
    world = begin(tpm=6000, tenant_limits=[Limit("concurrency", 1, None)])
    for _ in range(2):
        world.ask(tenant="t", tokens=1)
    assert world.ask(tenant="u", tokens=1, flags=0).held
    assert world.ask(tenant="t", tokens=1, flags=0).status == Status.REFUSED


def test_a_try_takes_its_place_between_the_flows(begin: Begin) -> None:
    """A try of a tenant whose turn it is does not depend on whether it could wait."""
    world = begin(tpm=600)
    world.ask(tenant="t", tokens=600)
    waiting = [world.ask(tenant="t", tokens=tokens) for tokens in (100, 590)]
    world.after(15).poll()
    assert [call.held for call in waiting] == [True, False]
    assert world.ask(tenant="u", tokens=1, flags=0).held


def test_who_stood_behind_a_blocked_call_moves_up_at_once(begin: Begin) -> None:
    """A call that its tenant's limits hold back gives way to the next one when it is cancelled."""
    world = begin(tpm=6000, tenant_limits=[Limit("tokens", 600, headroom=0)])
    world.ask(tenant="t", tokens=500)
    big = world.ask(tenant="t", tokens=600)
    small = world.ask(tenant="t", tokens=50)
    world.cancel(big)
    assert small.held


def test_a_far_time_is_told_in_digits(begin: Begin) -> None:
    """A debt of years breaks no reply."""
    world = begin(rpd=1)
    world.settle(world.ask(requests=1), requests=5000)
    assert world.ask(requests=1).status == Status.WAITING
    assert world.poll().next_us > 0


def test_a_wait_counts_what_those_ahead_wait_for(begin: Begin) -> None:
    """A call that needs nothing of the limit its line waits for waits with the line."""
    world = begin(tpm=600, rpm=60)
    world.ask(tokens=600)
    world.ask(tokens=600)
    assert world.ask(tokens=0).wait_us == 60_000_000


def test_a_lowered_tenant_limit_holds_for_who_is_at_the_head(begin: Begin) -> None:
    """A tenant's limit that is lowered holds for its calls that wait already."""
    own = [Limit("tokens", 600, headroom=0)]
    world = begin(tpm=6000, tenant_limits=own)
    world.ask(tokens=6000)
    small, big = (world.ask(tenant="t", tokens=tokens) for tokens in (100, 300))
    world.after(1).redefine(
        Quota(
            world.quota.name, headroom=0, tpm=6000, tenant_limits=[Limit("tokens", 200, headroom=0)]
        )
    )
    world.after(1).poll()
    assert small.held
    world.after(60).poll()
    assert big.status == Status.NEVER


def test_no_run_grants_for_long(begin: Begin) -> None:
    """The more classes wait, the fewer calls a run grants; the next run is due at once."""
    world = begin(tpm=1000)
    world.ask(tokens=1000)
    for i in range(60):
        for _ in range(4):
            world.ask(route=f"r{i}", tokens=1)
    world.after(60).poll()
    assert (world.reply.waiting, world.reply.next_us) == (240 - 34, 0)
    for _ in range(7):
        world.poll()
    assert world.reply.waiting == 0


def test_classes_are_forgotten_when_nobody_waits(begin: Begin) -> None:
    """The state does not grow with the number of priorities and routes that ever waited."""
    world = begin(tpm=1000)
    for i in range(200):
        held = world.ask(tokens=1000)
        waiting = world.ask(tenant="t", route=f"r{i}", tokens=1000)
        world.settle(held, tokens=0)
        world.settle(waiting, tokens=0)
        world.poll()
    if isinstance(world.engine, Lua):
        assert world.engine.client.strlen(world.engine.keys.state) < 200
    else:
        assert world.engine.classes == []


@pytest.mark.parametrize(("before", "after", "left"), [(1000, 10_000, 9500), (10_000, 1000, -4000)])
def test_time_before_a_new_definition_counts_at_the_old_rate(
    begin: Begin, before: int, after: int, left: int
) -> None:
    """What a limit brought until it was changed it brought at its old rate."""
    world = begin(rpd=before)
    world.ask(requests=before)
    world.after(43_200).redefine(Quota(world.quota.name, headroom=0, rpd=after))
    assert world.levels() == {"requests/day": left}
