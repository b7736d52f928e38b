"""Wake-ups over real connections, both drivers; the polls of the lines are in tests/engine."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import redis

from tests.api.conftest import Face, faces
from tests.api.test_scenarios import slow, until

pytestmark = pytest.mark.asyncio


async def waits(face: Face, name: str, count: int) -> None:
    """Wait until so many calls are in the line."""

    async def there() -> bool:
        return (await face.peek(name)).waiting == count

    await until(there)


def start(face: Face, name: str, calls: int, tokens: int = 1) -> list[asyncio.Task]:
    return [asyncio.create_task(face.acquire(name, tokens=tokens)) for _ in range(calls)]


async def test_whatever_is_cut_every_grant_is_found_out(
    kind: str, any_url: str, name: str, no_polls: float
) -> None:
    """Law 5: the subscription is cut before each grant, and again, and nothing else ever asks."""
    async with faces(kind, any_url) as make:
        ann, bob = (make(slow(name, 100), lease=no_polls) for _ in range(2))
        with redis.Redis.from_url(any_url) as admin:
            for _ in range(8):
                r = await bob.acquire(name, tokens=100)
                calls = start(ann, name, 5)
                await waits(bob, name, 5)
                admin.client_kill_filter(_type="pubsub")
                await bob.cancel(r)
                admin.client_kill_filter(_type="pubsub")
                for call in calls:
                    await ann.cancel(await call)


async def test_a_grant_before_the_subscription_stands_is_found_out(
    kind: str, any_url: str, name: str, no_polls: float
) -> None:
    """Law 5: what is granted between the answer "waiting" and the subscription is not lost."""
    async with faces(kind, any_url) as make:
        names = [f"{name}-{i}" for i in range(15)]
        quotas = [slow(each, 100) for each in names]
        ann, bob = (make(*quotas, lease=no_polls) for _ in range(2))
        for each in names:
            r = await bob.acquire(each, tokens=100)
            (call,) = start(ann, each, 1)
            await waits(bob, each, 1)
            await bob.cancel(r)
            await call


@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_protocols_carry_wake_ups(
    kind: str, any_url: str, name: str, no_polls: float, protocol: int
) -> None:
    """A subscription is confirmed, and heard, in RESP2 and in RESP3."""
    async with faces(kind, f"{any_url}?protocol={protocol}") as make:
        ann, bob = (make(slow(name, 100), lease=no_polls) for _ in range(2))
        for _ in range(2):
            r = await bob.acquire(name, tokens=100)
            (call,) = start(ann, name, 1)
            await waits(bob, name, 1)
            await bob.cancel(r)
            await ann.cancel(await call)


async def test_a_grant_costs_one_command_however_many_wait(
    kind: str, url: str, name: str, no_polls: float
) -> None:
    """Law 5: one run grants, one message wakes, one caller wakes up; the rest of the line sleeps on."""
    many, grants = (300 if kind == "sync" else 2_000), 20
    async with faces(kind, url) as make:
        ann, bob = (make(slow(name, grants), lease=no_polls) for _ in range(2))
        r = await bob.acquire(name, tokens=grants)
        (first,) = start(ann, name, 1)
        await waits(bob, name, 1)
        await bob.cancel(r)
        await ann.cancel(await first)  # by now ann is subscribed, and has asked what that asks for
        held = [await bob.acquire(name, tokens=1) for _ in range(grants)]
        calls = start(ann, name, many)
        await waits(bob, name, many)
        with redis.Redis.from_url(url) as admin:
            before = _commands(admin)
            for woken, r in enumerate(held, 1):
                await bob.cancel(r)
                await until(lambda woken=woken: _done(calls, woken))
            spent = _commands(admin) - before
        assert (spent["evalsha"], spent["publish"], spent["subscribe"]) == (grants, grants, 0)
        for call in asyncio.as_completed(calls):
            await ann.cancel(await call)


def _commands(admin: redis.Redis) -> Counter[str]:
    stats = admin.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()})


async def _done(calls: list[asyncio.Task], count: int) -> bool:
    return sum(call.done() for call in calls) == count
