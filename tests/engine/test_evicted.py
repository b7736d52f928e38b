"""Keys that are not there any more: a server short of memory evicts any, a long silence some.

Nothing may fail or hang, nobody is refused for good, and slots come back.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from tests.laws.world import Call, World

LEASE_US = 30_000_000
DAY = 86_400.0
PRIORITIES = [
    Priority("default", max_waiting=6),
    Priority("low", level=-5, floor=0.3, share=0.4),
    Priority("high", level=5, promote_after_s=20),
]
OWN = [Limit("tokens", 3000, headroom=0), Limit("concurrency", 2, None)]
BESIDE = ("tickets", "line", "holds", "owners", "numbers", "lapsed", "flows", "order", "tenants")
SILENCE = ("tickets", "line", "holds", "owners", "numbers", "lapsed", "flows")


@pytest.fixture
def world(any_url: str, name: str) -> Iterator[World]:
    quota = Quota(
        name, tpm=6000, concurrency=4, headroom=0, priorities=PRIORITIES, tenant_limits=OWN
    )
    with World(quota, any_url, LEASE_US) as made:
        yield made


def lose(world: World, *keys: str) -> None:
    world.engine.client.delete(*(getattr(world.engine.keys, key) for key in keys))


def do_something(world: World, rng: random.Random) -> None:
    world.now += rng.choice([0, 1_000, 700_000, 5_000_000])
    open_calls = [call for call in world.calls.values() if call.waits or call.held]
    if open_calls and rng.random() < 0.4:
        call = rng.choice(open_calls)
        if call.held and rng.random() < 0.7:
            world.settle(call, tokens=rng.randint(0, 3000))
        else:
            world.cancel(call)
        return
    world.ask(
        rng.choice(["ann", "bob"]), flags=rng.choice([0, 1, 1, 1]), priority=rng.randint(0, 2),
        tenant=rng.choice(["", "t", "u"]), route=rng.choice(["", "x"]),
        tokens=rng.choice([1, 500, 1500, 3000]),
    )  # fmt: skip


def ask_again(world: World, call: Call) -> None:
    """Do what a client does whose ticket the store has lost."""
    if world.status_of(call) == Status.GONE and call.waits:
        call.status = Status.GONE
        world.ask(call.owner, priority=call.priority, tenant=call.tenant, cost=call.cost)


def end_all(world: World) -> None:
    """Let everybody wait for its grant and end its call, and then be away for long."""
    for _ in range(200):
        world.after(5)
        for call in list(world.calls.values()):
            if call.waits:
                ask_again(world, call)
            if call.held:
                world.settle(call)
                call.status = Status.DONE  # the store may have lost it
        if not any(call.waits or call.held for call in world.calls.values()):
            return
    raise AssertionError([call for call in world.calls.values() if call.waits])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("key", ["state", "quota", *BESIDE])
def test_a_key_that_is_evicted_stops_nobody(world: World, key: str, seed: int) -> None:
    """Whichever key is evicted, and whenever: all who wait are served, and everything comes back."""
    rng = random.Random(f"{key} {seed}")
    for _ in range(rng.randint(5, 40)):
        do_something(world, rng)
    lose(world, key)
    for _ in range(rng.randint(0, 20)):
        do_something(world, rng)
    end_all(world)
    world.after(3600)
    for owner in ("ann", "bob", "ann"):
        world.poll(owner)
    assert (world.reply.waiting, world.reply.held) == (0, 0)
    for tenant in ("", "t", "u", "v"):
        call = world.ask(tenant=tenant, flags=0, tokens=1500)
        assert call.held, tenant
    assert world.levels() == {"tokens/minute": 0, "concurrency": 0}


def test_a_place_that_is_out_of_date_is_cleared_away(world: World) -> None:
    """Where a flow has two places in the order, a run ends all the same."""
    for tenant in ("t", ""):
        world.ask(tenant=tenant, tokens=3000)
    first, second = (world.ask(tenant=tenant, tokens=3000) for tenant in ("u", "t"))
    lose(world, "flows")
    world.cancel(second)
    blocked = world.ask(tenant="t", tokens=3000)
    world.cancel(first)
    assert world.status_of(blocked) in (Status.WAITING, Status.GONE)


@pytest.mark.parametrize("priority", ["default", "low", "high"])
def test_after_a_long_silence_nothing_is_left(world: World, priority: str) -> None:
    """A fleet that died leaves its line and its slots to who comes when their keys have expired."""
    for tenant in ("", "", "t", "t", "t", "u"):
        world.ask(priority=priority, tenant=tenant, tokens=1000)
    assert world.reply.waiting
    world.after(2.5 * 3600)
    lose(world, *SILENCE)
    calls = [world.ask("bob", tenant=t, flags=0, tokens=1) for t in ("t", "t", "u", "u")]
    assert all(call.held for call in calls)
    assert (world.reply.waiting, world.reply.held) == (0, 4)


@pytest.mark.parametrize("lost", ["owners", "numbers"])
def test_slots_of_a_lost_process_come_back_though_nobody_knows_it(world: World, lost: str) -> None:
    """Law 7: where the list of processes was evicted, slots of the dead come back all the same."""
    for _ in range(4):
        world.ask("ann", tokens=1)
    lose(world, lost)
    for _ in range(5):
        world.after(20).poll("bob")
    assert world.levels()["concurrency"] == 4


# --- what expires when ----------------------------------------------------------------------------


def lifetimes_us(world: World) -> dict[str, int]:
    keys = world.engine.keys
    return {name: world.engine.client.pttl(getattr(keys, name)) * 1000
            for name in ("state", "quota", "tenants", "order")}  # fmt: skip


def test_a_line_of_one_flow_expires(any_url: str, name: str) -> None:
    """A key that loses its only member and gets the next one in the same run expires all the same."""
    with World(Quota(name, tpm=60, headroom=0), any_url) as world:
        keys, client = world.engine.keys, world.engine.client
        for tokens in (60, 10, 10, 10):
            world.ask(tokens=tokens)
        for _ in range(3):
            world.after(10).poll()
            assert [key for key in keys.all() if client.pttl(key) == -1] == []


def test_what_a_tenant_used_is_known_until_it_is_full_again(any_url: str, name: str) -> None:
    """A tenant's limit outlives the quiet of the whole quota: it expires when it is full."""
    quota = Quota(name, tpm=6000, tenant_limits=[Limit("tokens", 1000, DAY, headroom=0)])
    with World(quota, any_url) as world:
        world.settle(world.ask(tenant="t", tokens=900))
        world.settle(world.ask(tenant="u", tokens=9))
        world.after(601).settle(world.ask(tokens=1))
        lives = lifetimes_us(world)
        assert all(each > 0.85 * DAY * 1e6 for each in lives.values()), lives


def test_what_a_share_used_is_known_until_it_is_full_again(any_url: str, name: str) -> None:
    """A strict share in debt outlives the limit that is full again."""
    strict = Priority("low", level=-5, share=0.01, strict=True)
    with World(Quota(name, tpm=6000, priorities=[strict]), any_url) as world:
        world.settle(world.ask(priority="low", tokens=10), tokens=6000)
        assert lifetimes_us(world)["state"] > 90 * 60e6


def test_a_floor_is_known_until_it_is_lent(any_url: str, name: str) -> None:
    """Who came from above is known for as long as the floor holds for them."""
    low = Priority("low", level=-5, floor=0.5, lend_after_s=3600)
    with World(Quota(name, tpm=6000, priorities=[low]), any_url) as world:
        world.settle(world.ask(tokens=1))
        assert lifetimes_us(world)["state"] >= 3600e6


def test_a_new_definition_does_not_shorten_a_debt(any_url: str, name: str) -> None:
    """What is used of a daily limit is known for a day, also when the quota is declared anew."""
    with World(Quota(name, rpd=1000, headroom=0), any_url) as world:
        world.settle(world.ask(requests=1000))
        world.redefine(Quota(name, rpd=1001, headroom=0))
        assert lifetimes_us(world)["state"] > 0.9 * DAY * 1e6


def test_a_definition_lives_as_long_as_its_state(any_url: str, name: str) -> None:
    """A monthly budget outlives a week of silence together with what it means."""
    with World(Quota(name, limits=[Limit("euros", 1000, 30 * DAY)]), any_url) as world:
        world.settle(world.ask(euros=990))
        lives = lifetimes_us(world)
        assert lives["quota"] >= lives["state"] > 29 * DAY * 1e6


def test_a_definition_that_was_lost_can_be_declared_anew(world: World, name: str) -> None:
    """Who declares a quota whose definition was evicted can use it."""
    world.ask(tokens=1)
    lose(world, "quota")
    world.engine.definition = world.engine.declare(world.quota, world.now, None)
    assert world.ask("bob", tokens=1).held
    assert world.reply.outcome == layout.Outcome.DONE
