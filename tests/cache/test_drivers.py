"""The life of a cache on real servers: opened, closed, forked, in several loops, on a cluster."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import pytest
import redis
import redis.asyncio.cluster
import redis.cluster

from limiter.cache import layout
from limiter.cache.api import AsyncCache, Cache
from limiter.cache.stats import CacheStats
from limiter.errors import ConfigError
from tests import servers
from tests.cache.conftest import faces, maybe, question, serve, until, waits

pytestmark = pytest.mark.asyncio


async def test_closing_gives_up_what_is_open(kind: str, any_url: str, name: str) -> None:
    """The next one goes at once; the closed cache opens again when it is used; counts are kept."""
    async with faces(kind, any_url) as make:
        ann, bob = make(lease=3600), make(lease=3600)
        before = await bob.stats()
        _, flight = await ann.ask(name)
        await ann.close()
        found, mine = await bob.ask(name)
        assert found.how == "lead"
        await ann.fill(flight, "value", "too late")
        await bob.fill(mine, "value", "in time")
        assert (await ann.ask(name))[0].served == "in time"
        await ann.close()
        await ann.close()
        after = await bob.stats()
        assert (after.misses - before.misses, after.hits - before.hits) == (2, 1)


async def test_answers_are_listed_shown_and_cleared(kind: str, any_url: str, name: str) -> None:
    """By key and by namespace; the counts stay."""
    async with faces(kind, any_url) as make:
        face = make()
        await face.put(f"{name}a", tokens=3)
        await face.put(f"{name}b")
        found = face.cache.keys()
        listed = [key async for key in found] if kind == "async" else list(found)
        mine = sorted(key for key in listed if name in key)
        assert mine == [question(f"{name}{each}").key for each in "ab"]
        shown = await face.peek(mine[0])
        assert (shown.entry.data, shown.entry.tokens, shown.age_s < shown.left_s) == (
            "answer",
            3,
            True,
        )
        assert await face.peek(question(f"{name}c").key) is None
        assert await face.clear(f"n-{name}a") == 1
        assert await face.peek(mine[0]) is None
        assert await face.peek(mine[1]) is not None


async def test_a_clients_own_settings_change_nothing(kind: str, any_url: str, name: str) -> None:
    """A redis-py client that decodes is as good as a URL, for both ends of a wait; it stays open."""
    module = redis if kind == "sync" else redis.asyncio
    client = module.Redis.from_url(any_url, decode_responses=True)
    async with faces(kind, client) as make:
        ann, bob = make(), make()
        _, flight = await ann.ask(name)
        waiting = asyncio.create_task(bob.ask(name))
        await waits(any_url, name)
        await ann.fill(flight, "value", b"\xff\0")
        assert (await waiting)[0].served == b"\xff\0"
        assert isinstance(await ann.stats(), CacheStats)
        await ann.close()
        assert await maybe(client.ping())
    await maybe(client.aclose() if kind == "async" else client.close())


async def test_a_client_of_the_other_kind_is_no_cache(
    kind: str, any_url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A call goes on without it, and it is said once; whoever asks for the counts is told."""
    module = redis.asyncio if kind == "sync" else redis
    client = module.Redis.from_url(any_url)
    async with faces(kind, client) as make:
        face = make()
        for _ in range(3):
            found, flight = await face.ask(name)
            assert (found.how, flight) == ("alone", None)
        assert len(caplog.records) == 1
        with pytest.raises(ConfigError, match="pass a URL"):
            await face.stats()
    await maybe(client.aclose() if kind == "sync" else client.close())


@pytest.mark.parametrize("url", ["redis://", "http://x", 7])
async def test_what_is_no_store_is_said_at_once(kind: str, url: Any) -> None:
    """A cache of a URL that cannot be one is not made; of an empty one of redis-py's, it is."""
    cache = Cache if kind == "sync" else AsyncCache
    if url == "redis://":
        assert cache(url).settings.ttl_s == 3600
    else:
        with pytest.raises(ConfigError):
            cache(url)


async def test_a_fork_is_another_process(any_url: str, name: str) -> None:
    """A child asks over connections of its own, and its end says nothing of its parent's flights."""
    with Cache(any_url, lease=3600) as cache:
        _, flight = cache.look(question(name), serve)
        owner = cache._driver.owner
        gc.collect()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                cache.leave_soon(flight)
                found, _ = cache.look(question(name, patience_s=0.0), serve)
                other, mine = cache.look(question(f"{name}2"), serve)
                cache.fill(mine, "value", "child's")
                is_other = cache._driver.owner != owner
                code = 0 if (found.how, other.how, is_other) == ("alone", "lead", True) else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert cache.look(question(f"{name}2"), serve)[0].served == "child's"
        assert cache.look(question(name, patience_s=0.0), serve)[0].how == "alone"
        cache.fill(flight, "value", "parent's")
        assert cache.look(question(name), serve)[0].served == "parent's"


async def test_each_event_loop_has_its_connections(any_url: str, name: str) -> None:
    """One cache in several loops at once and after one another; a closed loop is forgotten."""
    cache = AsyncCache(any_url)

    async def ask(each: str) -> Any:
        found, flight = await cache.look(question(each), serve)
        if flight:
            await cache.fill(flight, "value", each)
        await cache.aclose()
        return found.served

    def run(each: str) -> Any:
        return asyncio.run(ask(each))

    served = await asyncio.gather(*(asyncio.to_thread(run, f"{name}{n}") for n in range(4)))
    assert served == [None] * 4
    assert [await asyncio.to_thread(run, f"{name}{n}") for n in range(4)] == [
        f"{name}{n}" for n in range(4)
    ]
    assert len(cache._drivers) == 0


async def test_a_loop_that_nobody_closed_is_forgotten(name: str) -> None:
    """The next loop's first use lets go of it."""
    cache = AsyncCache(f"memory://{name}")

    def run() -> None:
        asyncio.run(cache.look(question(name, patience_s=0.0), serve))

    for _ in range(5):
        await asyncio.to_thread(run)
    assert len(cache._drivers) == 1


async def test_both_kinds_share_a_store(url: str, name: str) -> None:
    """A sync cache's other half finds its answers, waits for its calls, and has its settings."""
    with Cache(url, namespace="team", ttl=60) as cache:
        other = cache.as_async()
        assert (other.as_sync(), other.settings) == (cache, cache.settings)
        _, flight = cache.look(question(name), serve)
        waiting = asyncio.create_task(other.look(question(name), serve))
        await waits(url, name)
        await asyncio.to_thread(cache.fill, flight, "value", "yes")
        assert (await waiting)[0].served == "yes"
        await other.aclose()


async def test_a_cluster_has_answers_on_all_nodes(kind: str, binary: str, name: str) -> None:
    """Answers, flights, wake-ups and figures, on whichever node, for a client that decodes as well."""
    module = redis.cluster if kind == "sync" else redis.asyncio.cluster
    with servers.running(servers.Cluster, binary) as cluster:
        plain = cluster.url.replace("redis+cluster", "redis")
        client = module.RedisCluster.from_url(plain, decode_responses=True)
        async with faces(kind, cluster.url) as make:
            ann, bob = make(lease=3600), make(lease=3600, url=client)
            for n in range(6):
                each = f"{name}{n}"
                _, flight = await ann.ask(each)
                waiting = asyncio.create_task(bob.ask(each))
                node = cluster.node_of(layout.flight(question(each).key))
                with servers.client(node) as here:
                    flying = layout.flight(question(each).key)
                    await until(lambda flying=flying, here=here: len(here.hkeys(flying)) > 2)
                await ann.fill(flight, "value", n)
                assert (await waiting)[0].served == n
            homes = {cluster.node_of(layout.answer(question(f"{name}{n}").key)) for n in range(6)}
            assert len(homes) > 1
            found = bob.cache.keys()
            listed = [key async for key in found] if kind == "async" else list(found)
            assert len(listed) == 6
            await ann.stats()
            assert (await bob.stats()).joins == 6
            assert await bob.clear() == 6
        await maybe(client.aclose() if kind == "async" else client.close())
