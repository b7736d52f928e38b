"""The laws on a cluster: each quota lives on one node, and so do its wake-ups."""

from __future__ import annotations

import asyncio

import pytest

from limiter import NeverFits, Quota, StoreError
from limiter.core import layout
from tests import servers
from tests.api.conftest import Face, faces
from tests.api.test_scenarios import slow, until
from tests.api.test_wake_ups import start, waits

pytestmark = pytest.mark.asyncio


def listening(cluster: servers.Cluster, name: str) -> dict[int, int]:
    """Count the channels of a quota on each node."""
    found = {}
    for port in cluster.processes:
        with servers.client(port) as node:
            found[port] = len(node.pubsub_shardchannels(f"{layout.keys(name).wake}*"))
    return found


async def test_quotas_on_all_nodes_keep_the_laws(
    kind: str, cluster: servers.Cluster, name: str, no_polls: float
) -> None:
    """Laws 1, 3, 4, 5, on every node: all limits or none, exact, in order, woken by the message."""
    names = [f"{name}-{i}" for i in range(8)]
    homes = {each: cluster.node_of(layout.keys(each).state) for each in names}
    assert len(set(homes.values())) == 3
    quotas = [slow(each, 1000, rpd=50, concurrency=3) for each in names]
    async with faces(kind, cluster.url) as make:
        ann, bob = (make(*quotas, lease=no_polls) for _ in range(2))

        async def story(each: str) -> None:
            r = await ann.acquire(each, tokens=900)
            with pytest.raises(NeverFits):
                await ann.acquire(each, tokens=1001)
            (big,) = start(bob, each, 1, tokens=950)
            await waits(ann, each, 1)
            (small,) = start(bob, each, 1, tokens=10)
            await waits(ann, each, 2)

            async def heard() -> bool:
                here = await asyncio.to_thread(listening, cluster, each)
                return here == {port: port == homes[each] for port in cluster.processes}

            await until(heard)
            await ann.settle(r, tokens=50)
            first = await big
            assert not small.done()
            await bob.settle(first, tokens=900)
            await small
            assert list((await ann.levels(each)).values()) == [47, 2, 40]

        await asyncio.gather(*(story(each) for each in names))
        assert set(names) <= set(await _names(ann))


async def _names(face: Face) -> list[str]:
    if face.is_async:
        return await face.limiter.quota_names()
    return await face.in_thread(face.limiter.quota_names)


async def test_wake_ups_move_with_their_slot(
    kind: str, cluster: servers.Cluster, name: str, no_polls: float
) -> None:
    """Law 5: calls that wait while their quota moves to another node, and back, are woken there."""
    async with faces(kind, cluster.url) as make:
        ann, bob = (make(slow(name, 100), lease=no_polls) for _ in range(2))
        for _ in range(3):
            r = await ann.acquire(name, tokens=100)
            calls = start(bob, name, 10, tokens=10)
            await waits(ann, name, 10)
            there = await asyncio.to_thread(cluster.migrate, layout.keys(name).state)

            async def heard(there: int = there) -> bool:
                return (await asyncio.to_thread(listening, cluster, name))[there] == 1

            await until(heard)
            await ann.cancel(r)
            for call in calls:
                await bob.cancel(await call)


async def test_a_grant_during_the_move_is_found_out(
    kind: str, cluster: servers.Cluster, name: str, no_polls: float
) -> None:
    """Law 5: what is granted before the subscription has followed the slot is found out after it."""
    async with faces(kind, cluster.url) as make:
        ann, bob = (make(slow(name, 100), lease=no_polls) for _ in range(2))
        for _ in range(3):
            r = await ann.acquire(name, tokens=100)
            calls = start(bob, name, 10, tokens=10)
            await waits(ann, name, 10)
            await asyncio.to_thread(cluster.migrate, layout.keys(name).state)
            await ann.cancel(r)
            for call in calls:
                await bob.cancel(await call)


async def test_books_balance_while_slots_move(
    kind: str, cluster: servers.Cluster, name: str
) -> None:
    """Laws 3, 8: calls that go on while their quota moves are granted and settled once each."""
    async with faces(kind, cluster.url) as make:
        ann, bob = (make(slow(name, 10**6, concurrency=5)) for _ in range(2))

        async def caller(face: Face) -> None:
            for i in range(60):
                r = await face.acquire(name, tokens=50)
                await face.settle(r, tokens=i)

        async with asyncio.TaskGroup() as group:
            for face in (ann, bob, ann, bob, ann, bob, ann, bob):
                group.create_task(caller(face))
            for linger_s in (0, 1.0, 0, 0):  # redis-py gives up on a slot in between after 0.4 s
                key = layout.keys(name).state
                await asyncio.to_thread(cluster.migrate, key, linger_s=linger_s)
        assert list((await ann.levels(name)).values()) == [5, 10**6 - 8 * sum(range(60))]
        assert (await bob.peek(name)).held == 0


async def test_a_cluster_that_is_away_is_said_so(kind: str) -> None:
    """An absent cluster is a StoreError with the next step, like any absent store."""
    url = f"redis+cluster://127.0.0.1:{servers.free_port()}"
    async with faces(kind, url) as make:
        face = make(Quota("q", rpm=1), store_timeout=0.3)
        with pytest.raises(StoreError, match="Check that it runs"):
            await face.acquire("q")
