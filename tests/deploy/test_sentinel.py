"""A failover in mid-run: the sentinels name another master, and everything goes on there."""

from __future__ import annotations

import asyncio

import pytest

from limiter import StoreError
from tests import servers
from tests.api.conftest import Face, faces
from tests.api.test_scenarios import slow
from tests.api.test_wake_ups import start, waits

pytestmark = pytest.mark.asyncio


async def test_calls_go_on_after_a_failover(
    kind: str, sentinel: servers.Sentinel, name: str
) -> None:
    """Laws 3, 5, 8: calls in the line, and calls that begin during the outage, end as ever."""
    async with faces(kind, sentinel.url) as make:
        ann, bob = (make(slow(name, 1000, concurrency=20), store_timeout=60) for _ in range(2))
        r = await ann.acquire(name, tokens=1000)
        waiting = start(bob, name, 10, tokens=20)
        await waits(ann, name, 10)
        await asyncio.to_thread(sentinel.fail_over)
        coming = start(ann, name, 5, tokens=40)
        await ann.settle(r, tokens=100)
        for face, calls in ((bob, waiting), (ann, coming)):
            for call in calls:
                await face.settle(await call, tokens=1)
        assert list((await ann.levels(name)).values()) == [20, 1000 - 100 - 15]
        with servers.client(sentinel.replica) as node:
            assert node.info("replication")["role"] == "master"


async def test_wake_ups_come_from_the_new_master(
    kind: str, sentinel: servers.Sentinel, name: str, no_polls: float
) -> None:
    """Law 5: after a failover the subscription stands at the new master, without any poll."""
    async with faces(kind, sentinel.url) as make:
        ann, bob = (make(slow(name, 100), store_timeout=60, lease=no_polls) for _ in range(2))
        r = await ann.acquire(name, tokens=100)
        (call,) = start(bob, name, 1)
        await waits(ann, name, 1)
        await asyncio.to_thread(sentinel.fail_over)
        await ann.cancel(r)
        await bob.cancel(await call)
        r = await ann.acquire(name, tokens=100)
        (call,) = start(bob, name, 1)
        await waits(ann, name, 1)
        await ann.cancel(r)
        await call


async def test_sentinels_that_are_away_are_said_so(kind: str) -> None:
    """Absent sentinels are a StoreError with the next step, like any absent store."""
    async with faces(kind, f"redis+sentinel://127.0.0.1:{servers.free_port()}/prime") as make:
        face: Face = make(slow("q", 1), store_timeout=0.3)
        with pytest.raises(StoreError, match="Check that it runs"):
            await face.acquire("q")
