"""Laws of the provider-like server, with a given clock and over its real unix socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from benchmarks.perfect_line import Bucket, fleet
from benchmarks.processes import accepts
from benchmarks.provider import ProviderClient, Quota, provider, serve

if TYPE_CHECKING:
    from pathlib import Path


def test_a_burst_is_the_capacity_and_then_the_rate() -> None:
    """A full bucket of 3 requests refuses the fourth for exactly the time of one refill."""
    quota = Quota([Bucket(3, 2), Bucket(1_000, 100)], now_s=50)
    assert [quota.admit(10, 50) for _ in range(3)] == [0, 0, 0]
    assert quota.admit(10, 50) == pytest.approx(0.5)
    assert quota.admit(10, 50.25) == pytest.approx(0.25)
    assert quota.admit(10, 50.5) == 0
    assert (quota.counts.accepted, quota.counts.refused, quota.counts.tokens) == (4, 2, 40)
    assert (quota.counts.first_s, quota.counts.last_s) == (50, 50.5)


def test_a_refusal_costs_nothing_on_any_bucket() -> None:
    """Refused for its tokens, a call leaves the requests as they were, and the other way round."""
    quota = Quota([Bucket(1, 0.001), Bucket(100, 1)], now_s=0)
    assert quota.admit(90, 0) == 0
    assert quota.admit(20, 0) > 0
    assert quota.levels == pytest.approx([0, 10])


def test_idle_time_never_fills_above_the_capacity() -> None:
    """An hour's pause grants the capacity, not an hour's refill."""
    quota = Quota([Bucket(100, 1), Bucket(100, 1)], now_s=0)
    assert quota.admit(100, 0) == 0
    assert quota.admit(100, 3_600) == 0
    assert quota.admit(1, 3_600) == pytest.approx(1)


def test_a_call_above_the_capacity_is_never_admitted() -> None:
    """Waiting would not help, and the answer says so."""
    assert Quota(fleet(60, 600, 60), now_s=0).admit(601, 0) == float("inf")


@pytest.mark.asyncio
async def test_many_tasks_share_one_connection(tmp_path: Path) -> None:
    """Every task gets the answer to its own call, whatever order the answers come in."""
    socket = str(tmp_path / "p")
    serving = asyncio.create_task(serve(socket, [Bucket(8, 0.001), Bucket(10_000, 1)]))
    while not accepts(socket):
        await asyncio.sleep(0.001)
    client = await ProviderClient.connect(socket)
    order: list[int] = []

    async def one(place: int) -> bool:
        answer = await client.call(place + 1, service_s=(8 - place) * 0.02)
        order.append(place)
        return answer.ok

    assert await asyncio.gather(*(one(place) for place in range(8))) == [True] * 8
    assert order != sorted(order)
    refused = await client.call(1, service_s=0)
    assert not refused.ok
    assert refused.wait_s > 0
    assert (await client.call(10_001, service_s=0)).wait_s == float("inf")
    counts = await client.stats()
    assert (counts.accepted, counts.refused, counts.tokens) == (8, 2, 36)
    await client.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.asyncio
async def test_a_provider_of_its_own_ends_with_its_block() -> None:
    """It enforces the buckets it names, and calls under way fail when it goes."""
    with provider(rpm=0.6, tpm=60, burst_s=200) as server:
        assert server.buckets == (Bucket(2, 0.01), Bucket(200, 1))
        client = await ProviderClient.connect(server.socket)
        assert (await client.call(150, service_s=0)).ok
        assert not (await client.call(150, service_s=0)).ok
        under_way = asyncio.create_task(client.call(1, service_s=60))
        await asyncio.sleep(0)
        assert (await client.stats()).accepted == 2
    with pytest.raises(ConnectionError, match="gone"):
        await under_way
    assert not server.socket.exists()
    with pytest.raises(ConnectionError, match="connect again"):
        await client.stats()
    await client.close()
