"""What goes wrong on real systems: lost answers, lost wake-ups, lost scripts, lost processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import redis

from limiter import AsyncLimiter, Limit, Limiter, Quota, StoreError, StoreTimeout
from tests import servers
from tests.api.conftest import faces
from tests.api.test_scenarios import slow, until
from tests.proxy import proxy


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.asyncio
async def test_lost_answers_change_nothing(kind: str, url: str, name: str, seed: int) -> None:
    """Law 8: with three answers in ten lost, every call is granted once and settled once."""
    with proxy(url, seed) as link:
        async with faces(kind, url) as make:
            face = make(slow(name, 100_000, concurrency=50), at=link.url, store_timeout=60)
            await face.acquire(name, tokens=0)  # the definition is agreed on
            link.loss = 0.3

            async def call(i: int) -> None:
                r = await face.acquire(name, tokens=50)
                await (face.cancel(r) if i % 4 == 0 else face.settle(r, tokens=i))

            for start in range(0, 40, 8):
                await asyncio.gather(*(call(i) for i in range(start, start + 8)))
            link.loss = 0.0
            status = await face.peek(name)
            assert link.lost > 0
            used = sum(i for i in range(40) if i % 4)
            assert [each.level for each in status.limits.values()] == [49, 100_000 - used]
            assert (status.held, status.waiting) == (1, 0)


@pytest.mark.asyncio
async def test_a_first_use_outlasts_a_bad_connection(kind: str, url: str, name: str) -> None:
    """With every second answer lost, the first call agrees on the definition all the same, once."""
    with proxy(url, 3) as link:
        link.loss = 0.5
        async with faces(kind, url) as make:
            face = make(slow(name, 100), at=link.url, store_timeout=60)
            r = await face.acquire(name, tokens=10)
            link.loss = 0.0
            assert link.lost > 0
            await face.settle(r, tokens=4)
            assert list((await face.levels(name)).values()) == [96]


@pytest.mark.asyncio
async def test_a_lost_wake_up_is_found_out(kind: str, url: str, name: str) -> None:
    """Law 5: with the subscription cut, a waiter still learns of its grant."""
    async with faces(kind, url) as make:
        ann, bob = make(slow(name, 100)), make(slow(name, 100))
        r = await bob.acquire(name, tokens=100)
        calls = [asyncio.create_task(ann.acquire(name, tokens=10)) for _ in range(5)]
        await until(lambda: _waits(bob, name, 5))
        with redis.Redis.from_url(url) as client:
            client.client_kill_filter(_type="pubsub")
            await bob.cancel(r)
        await asyncio.gather(*calls)


async def _waits(face: object, name: str, count: int) -> bool:
    return (await face.peek(name)).waiting == count


@pytest.mark.asyncio
async def test_flushed_scripts_are_sent_again(kind: str, url: str, name: str) -> None:
    """A server that forgot the scripts is sent their source; nobody notices."""
    async with faces(kind, url) as make:
        face = make(slow(name, 100))
        r = await face.acquire(name, tokens=10)
        with redis.Redis.from_url(url) as client:
            client.script_flush()
        await face.settle(r, tokens=3)
        assert list((await face.levels(name)).values()) == [97]


@pytest.mark.asyncio
async def test_a_lost_state_is_declared_anew(kind: str, url: str, name: str) -> None:
    """When the store lost the quota, who waits and who comes goes on."""
    async with faces(kind, url) as make:
        face = make(slow(name, 100))
        await face.acquire(name, tokens=100)
        waiting = asyncio.create_task(face.acquire(name, tokens=70))
        await until(lambda: _waits(face, name, 1))
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(match=f"limiter:3:{{{name}}}:*"):
                client.delete(key)
        await waiting
        assert list((await face.levels(name)).values()) == [30]


@pytest.mark.asyncio
async def test_a_store_that_is_away_is_said_so(kind: str, name: str) -> None:
    """An absent store is a StoreError with the next step, after the patience; no hang, no leak."""
    async with faces(kind, "unix:///nowhere/at/all") as make:
        face = make(slow(name, 100), store_timeout=0.3)
        with pytest.raises(StoreError, match="Check that it runs"):
            await face.acquire(name, tokens=1)


@pytest.mark.asyncio
async def test_a_store_that_comes_back_is_used_again(
    kind: str, name: str, tmp_path: object
) -> None:
    """Calls during an outage that is shorter than their patience end as if nothing had happened."""
    with contextlib.ExitStack() as stack:
        binary = servers.binaries()["valkey"]
        url = stack.enter_context(servers.server(binary, "--appendonly", "yes"))
        async with faces(kind, url) as make:
            face = make(slow(name, 100), store_timeout=30)
            r = await face.acquire(name, tokens=10)
            with redis.Redis.from_url(url) as client:
                client.client_kill_filter(_type="normal", skipme=True)
                client.client_pause(300)
            await face.settle(r, tokens=1)
            assert list((await face.levels(name)).values()) == [99]


@pytest.mark.asyncio
async def test_a_store_that_stalls_times_out(kind: str, name: str) -> None:
    """A stopped store ends in StoreTimeout after the patience, and what was asked is taken back."""
    with servers.server(servers.binaries()["valkey"]) as url:
        async with faces(kind, url) as make:
            face = make(slow(name, 100), store_timeout=0.4)
            await face.acquire(name, tokens=1)
            with redis.Redis.from_url(url) as client:
                pid = client.info("server")["process_id"]
            os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(StoreTimeout):
                    await face.acquire(name, tokens=50)
            finally:
                os.kill(pid, signal.SIGCONT)

            async def clean() -> bool:
                with contextlib.suppress(StoreError):
                    return list((await face.levels(name)).values()) == [99]
                return False

            await until(clean)


HOLDER = textwrap.dedent("""
    import sys, time
    from limiter import Limiter, Quota
    url, name = sys.argv[1:]
    limiter = Limiter(url, quotas=[Quota(name, concurrency=1)], lease=1.0)
    limiter.acquire(name)
    print("held", flush=True)
    limiter.acquire(name)
""")


@pytest.mark.asyncio
async def test_a_killed_process_gives_its_slot_back(kind: str, url: str, name: str) -> None:
    """Law 7: kill -9 of a process that holds a slot and waits for another frees both."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, name], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        async with faces(kind, url) as make:
            face = make()
            await until(lambda: _waits(face, name, 1))
            process.kill()
            r = await face.acquire(name)
            await face.settle(r)
            assert (await face.peek(name)).limits["concurrency"].level == 1


@pytest.mark.asyncio
async def test_a_living_process_keeps_its_slot(kind: str, url: str, name: str) -> None:
    """Law 7: a reservation that is held for longer than the lease stays held while its owner lives."""
    async with faces(kind, url) as make:
        ann, bob = make(Quota(name, concurrency=1), lease=1.0), make()
        r = await ann.acquire(name)
        await asyncio.sleep(1.6)  # more than the lease, in real time: the store's clock decides
        assert (await bob.peek(name)).held == 1
        assert (await bob.peek(name)).limits["concurrency"].level == 0
        await ann.settle(r)
        assert (await bob.peek(name)).limits["concurrency"].level == 1


@pytest.mark.asyncio
async def test_a_cancelled_task_leaves_nothing(url: str, name: str) -> None:
    """Law 6: cancelling tasks at any point of a call leaves no ticket and no slot behind."""
    async with AsyncLimiter(url, quotas=[slow(name, 10_000, concurrency=3)]) as limiter:

        async def call() -> None:
            async with limiter.reserve(name, tokens=1) as r:
                await asyncio.sleep(0.001)
                await r.settle(tokens=1)

        for turns in range(40):
            tasks = [asyncio.create_task(call()) for _ in range(6)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        async def clean() -> bool:
            status = await limiter.peek(name)
            return (status.waiting, status.held, status.limits["concurrency"].level) == (0, 0, 3)

        await until(clean)
        lost = 10_000 - (await limiter.peek(name)).limits[f"tokens/{400 * 86_400:g}s"].level
        assert 0 <= lost <= 240


def test_a_forked_child_is_an_owner_of_its_own(url: str, name: str) -> None:
    """After a fork parent and child both go on, on connections and ids of their own."""
    limiter = Limiter(url, quotas=[slow(name, 100)])
    first = limiter.acquire(name, tokens=10)
    pid = os.fork()
    if pid == 0:
        ok = False
        with contextlib.suppress(Exception):
            r = limiter.acquire(name, tokens=20)
            r.settle(tokens=5)
            ok = r.id.split(":")[0] != first.id.split(":")[0]
        os._exit(0 if ok else 1)
    first.settle(tokens=1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [each.level for each in limiter.peek(name).limits.values()] == [94]
    limiter.close()


def test_the_patterns_of_the_acl_are_enough(url: str, name: str) -> None:
    """A user that may touch only the documented keys and channels can do everything."""
    with redis.Redis.from_url(url) as admin:
        admin.acl_setuser(
            "worker", enabled=True, passwords=["+secret"], keys=["limiter:3:*"],
            channels=["limiter:3:*"], commands=["+@all", "-@admin", "-@dangerous"], reset=True,
        )  # fmt: skip
    there = f"unix://worker:secret@{url.removeprefix('unix://')}"
    with Limiter(there, quotas=[slow(name, 100, concurrency=1)]) as limiter:
        with limiter.reserve(name, tokens=5) as r:
            r.settle(tokens=4)
        assert limiter.peek(name).held == 0


def test_a_refusing_store_is_not_asked_for_long(url: str, name: str) -> None:
    """A user without the right to our keys hears of it at once, and what to check."""
    with redis.Redis.from_url(url) as admin:
        admin.acl_setuser("guest", enabled=True, nopass=True, keys=["other:*"],
                          commands=["+@all"], reset=True)  # fmt: skip
    there = f"unix://guest@{url.removeprefix('unix://')}"
    with Limiter(there, quotas=[slow(name, 100)]) as limiter:
        with pytest.raises(StoreError, match="Check the user, password and ACL"):
            limiter.acquire(name, tokens=5)


def test_limit_is_used_by_more_than_one_thread() -> None:
    """The sync limiter may be shared by threads that begin at the same moment."""
    import threading

    limiter = Limiter(
        "memory://threads", quotas=[Quota("t", limits=[Limit("tokens", 10**6, 4e6, headroom=0)])]
    )
    barrier = threading.Barrier(16)

    def work() -> None:
        barrier.wait()
        for _ in range(50):
            limiter.acquire("t", tokens=2).settle(tokens=1)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = limiter.peek("t")
    assert (status.held, status.limits["tokens/4e+06s"].level) == (0, 10**6 - 800)
