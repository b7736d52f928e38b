"""Both drivers on real servers: of many who ask one goes, and what happens when he does not come back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import pytest
import redis

from limiter import scripts
from limiter.cache import layout
from limiter.cache.api import AsyncCache, Cache
from tests.cache.conftest import Face, faces, maybe, question, serve, until, waits

pytestmark = pytest.mark.asyncio

MANY = {"sync": 50, "async": 200}


async def crowd(face: Face, name: str, n: int, work: Any) -> Counter[str]:
    """Let n ask the same at once; `work` ends a flight. Return how they ended."""
    found: Counter[str] = Counter()
    calls = 0

    async def one() -> None:
        nonlocal calls
        told, flight = await face.ask(name)
        if flight is None:
            assert told.served == "answer"
        else:
            calls += 1
            await work(calls, flight)
        found[told.how] += 1

    if isinstance(face.cache, AsyncCache):
        await asyncio.gather(*(one() for _ in range(n)))
        return found
    errors: list[BaseException] = []

    def in_thread() -> None:
        try:
            asyncio.run(one())
        except BaseException as exc:  # noqa: BLE001 - raised by the test
            errors.append(exc)

    threads = [threading.Thread(target=in_thread) for _ in range(n)]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert errors == []
    return found


async def test_of_many_one_goes(kind: str, any_url: str, name: str) -> None:
    """All others get its answer, and the counts say so."""
    n = MANY[kind]
    async with faces(kind, any_url) as make:
        face = make()
        before = await face.stats()

        async def work(_n: int, flight: Any) -> None:
            await waits(any_url, name)
            await face.fill(flight, "value", "answer", tokens=11)

        found = await crowd(face, name, n, work)
        assert found["lead"] == 1
        assert found["join"] + found["hit"] == n - 1
        assert found["join"] > 0
        after = await face.stats()
        assert after.misses - before.misses == after.stores - before.stores == 1
        assert after.joins + after.hits - before.joins - before.hits == n - 1
        assert after.tokens_saved - before.tokens_saved == 11 * (n - 1)


async def test_after_two_failures_all_go(kind: str, any_url: str, name: str) -> None:
    """A leader who fails is replaced at once by one; after him nobody waits."""
    n = MANY[kind] // 5
    async with faces(kind, any_url) as make:
        face = make()

        async def work(calls: int, flight: Any) -> None:
            if calls <= 2:
                await waits(any_url, name)
                assert flight.leads
            await face.leave(flight)

        found = await crowd(face, name, n, work)
        assert found["lead"] == 2
        assert found["alone"] == n - 2


async def test_a_waiting_process_is_woken_by_another(kind: str, any_url: str, name: str) -> None:
    """By the message, where nobody polls: the pauses are an hour."""
    with pytest.MonkeyPatch.context() as patch:
        for constant in ("_PAUSE_S", "_PAUSE_MAX_S"):
            patch.setattr(f"limiter.cache.looking.{constant}", 3600.0)
        async with faces(kind, any_url) as make:
            ann, bob = make(lease=3600), make(lease=3600)
            for n in range(3):
                each = f"{name}{n}"
                _, flight = await ann.ask(each)
                waiting = asyncio.create_task(bob.ask(each))
                await waits(any_url, each)
                await ann.fill(flight, "value", n)
                found, _ = await waiting
                assert (found.how, found.served) == ("join", n)


async def test_a_message_before_the_first_is_listened_for_is_made_up(
    kind: str, any_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is filled between a claim and the first subscription is found when that stands."""
    for constant in ("_PAUSE_S", "_PAUSE_MAX_S"):
        monkeypatch.setattr(f"limiter.cache.looking.{constant}", 3600.0)
    async with faces(kind, any_url) as make:
        ann, bob = make(lease=3600), make(lease=3600)
        _, flight = await ann.ask(name)
        driver = await maybe(bob.cache._open())
        listen = driver.store.listen

        def late(channel: str, wake: Any) -> None:
            # Between bob's claim and his listening the answer comes.
            with redis.Redis.from_url(any_url) as client:
                written = ann.cache.settings.written(flight.question, "value", "early")
                key = flight.question.key
                client.eval(scripts.load("cache/fill").source, 2, layout.answer(key),
                            layout.flight(key), *written, key)  # fmt: skip
            listen(channel, wake)

        monkeypatch.setattr(driver.store, "listen", late)
        found, _ = await bob.ask(name)
        assert (found.how, found.served) == ("join", "early")


async def test_a_cancelled_leader_lets_the_next_one_go(any_url: str, name: str) -> None:
    """Cancelled before it knows that it leads: its flight is given up, whenever that is."""
    async with faces("async", any_url) as make:
        ann, bob = make(lease=3600), make(lease=3600)
        for turns in range(12):
            asking = asyncio.create_task(ann.ask(f"{name}{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                _, flight = await asking
                ann.leave_now(flight)
            found, flight = await bob.ask(f"{name}{turns}")
            assert found.how == "lead"
            await bob.leave(flight, failed=False)


async def test_an_interrupted_leader_lets_the_next_one_go(
    any_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt that comes with the answer to his claim: he does not know that he leads."""
    with Cache(any_url, lease=3600) as ann, Cache(any_url, lease=3600) as bob:
        store = ann._open().store
        claim = store.claim

        def interrupted(*arguments: Any) -> Any:
            claim(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(store, "claim", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ann.look(question(name), serve)
        found, flight = bob.look(question(name), serve)
        assert found.how == "lead"
        bob.leave(flight)


async def test_one_who_gives_up_waiting_leaves_nothing(any_url: str, name: str) -> None:
    """Neither his event nor a claim of his, nor is the leader disturbed."""
    async with faces("async", any_url) as make:
        ann, bob = make(lease=3600), make(lease=3600)
        _, flight = await ann.ask(name)
        waiting = asyncio.create_task(bob.ask(name))
        await waits(any_url, name)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        driver = await bob.cache._open()
        assert driver._waiting == {}
        assert (await bob.ask(name, patience_s=0.0))[0].how == "alone"
        await ann.fill(flight, "value", 1)
        assert (await bob.ask(name))[0].served == 1


_LEADER = """
import sys, time
from limiter.cache.api import Cache
from tests.cache.conftest import question, serve
cache = Cache(sys.argv[1], lease=0.5)  # one that is forgotten leaves its flights
found, flight = cache.look(question(sys.argv[2]), serve)
print(found.how, flush=True)
time.sleep(600)
"""


async def test_a_killed_leader_is_replaced_after_its_lease(
    kind: str, any_url: str, name: str
) -> None:
    """While its process lives it is waited for, beyond its lease; kill -9, and the next one leads."""
    leader = subprocess.Popen(
        [sys.executable, "-c", _LEADER, any_url, name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert await asyncio.to_thread(leader.stdout.readline) == "lead\n"
        async with faces(kind, any_url) as make:
            face = make(lease=0.5)
            assert (await face.ask(name, patience_s=1.5))[0].how == "alone"
            leader.send_signal(signal.SIGKILL)
            assert (await face.ask(name))[0].how == "lead"
    finally:
        leader.kill()
        leader.wait()
        leader.stdout.close()


async def test_a_forgotten_flight_lets_the_next_one_go(kind: str, any_url: str, name: str) -> None:
    """From a finalizer, in any thread; and a flight ends once, however often it is told."""
    async with faces(kind, any_url) as make:
        ann, bob = make(lease=3600), make(lease=3600)
        _, flight = await ann.ask(name)
        thread = threading.Thread(target=ann.cache.leave_soon, args=(flight,))
        thread.start()
        await asyncio.to_thread(thread.join)
        found, other = await bob.ask(name)
        assert found.how in {"lead", "join"}
        assert found.how == "lead"
        ann.cache.leave_soon(flight)
        await ann.leave(flight)
        await ann.fill(flight, "value", "late")
        assert other.state == "open"
        assert (await ann.ask(name, patience_s=0.0))[0].how == "alone"


async def test_a_more_urgent_call_takes_the_flight(kind: str, any_url: str, name: str) -> None:
    """Whoever fills first is served to all; the other's end disturbs nobody."""
    async with faces(kind, any_url) as make:
        face = make()
        _, slow = await face.ask(name, rank=0)
        found, fast = await face.ask(name, rank=10)
        assert found.how == "lead"
        await face.leave(slow)
        assert (await face.ask(name, patience_s=0.0))[0].how == "alone"
        await face.fill(fast, "value", "fast")
        assert (await face.ask(name))[0].served == "fast"


async def test_a_stale_answer_is_refreshed_by_one(kind: str, any_url: str, name: str) -> None:
    """All are served at once, of all one gets a flight; then the new one is there."""
    async with faces(kind, any_url) as make:
        short, face = make(ttl=0.001, stale=3600), make(stale=3600)
        await short.put(name, "old")

        async def is_old() -> bool:
            return (await face.peek(question(name).key)).age_s > 0.001

        await until(is_old)
        found = [await face.ask(name) for _ in range(5)]
        assert [told.served for told, _ in found] == ["old"] * 5
        flights = [flight for _, flight in found if flight]
        assert [flight.leads for flight in flights] == [True]
        await face.fill(flights[0], "value", "new")
        assert (await face.ask(name))[0].served == "new"


async def test_what_is_too_large_or_no_json_is_a_failure(
    kind: str, any_url: str, name: str
) -> None:
    """It is not stored, and counted; nobody waits for it a third time."""
    async with faces(kind, any_url) as make:
        face = make(entry_bytes=1000)
        before = await face.stats()
        for data in ("x" * 2000, object()):
            _, flight = await face.ask(name)
            assert flight.leads
            await face.fill(flight, "value", data)
        assert (await face.ask(name))[0].how == "alone"
        assert (await face.stats()).not_stored - before.not_stored == 2


@pytest.mark.parametrize("value", ["damaged", "x" * 3000, None])
async def test_damaged_values_are_replaced(kind: str, any_url: str, name: str, value: Any) -> None:
    """Whatever somebody else put there, of any type and size, the next call's answer takes its place."""
    async with faces(kind, any_url) as make:
        face = make(entry_bytes=2000)
        with redis.Redis.from_url(any_url) as client:
            for place in (layout.answer, layout.flight):
                at = place(question(name).key)
                client.lpush(at, 1) if value is None else client.set(at, value)
        before = await face.stats()
        found, flight = await face.ask(name)
        assert found.how == "lead"
        await face.fill(flight, "value", "mine")
        assert (await face.ask(name))[0].served == "mine"
        assert (await face.stats()).corrupt - before.corrupt == 1


async def test_nothing_is_left_without_an_end(kind: str, url: str, name: str) -> None:
    """Whatever happens, each key but the figures ends by itself."""
    async with faces(kind, url) as make:
        face = make()
        await face.put(f"{name}1")
        _, failed = await face.ask(f"{name}2")
        waiting = asyncio.create_task(face.ask(f"{name}2", patience_s=10.0))
        await waits(url, f"{name}2")
        await face.leave(failed)
        _, left = await waiting
        await face.leave(left, failed=False)
        await face.ask(f"{name}3")
        with redis.Redis.from_url(url) as client:
            found = {key: client.pttl(key) for key in client.scan_iter(f"*{name}*")}
            assert len(found) >= 3
            assert all(left_ms > 0 for left_ms in found.values()), found
            ours = {key.decode() for key in client.scan_iter(layout.EVERYTHING)}
            assert all(client.pttl(key) > 0 for key in ours - {layout.FIGURES})


@pytest.mark.parametrize("n", [1, 60])
async def test_a_store_in_the_process_keeps_the_laws(kind: str, name: str, n: int) -> None:
    """`memory://` has one store for each name, for all threads and loops: of many one goes."""
    async with faces(kind, f"memory://{name}") as make:
        face, other = make(), make()

        async def work(_n: int, flight: Any) -> None:
            driver = await maybe(face.cache._open())
            await until(lambda: n == 1 or len(driver._waiting) > 0)
            await face.fill(flight, "value", "answer")

        found = await crowd(face, name, n, work)
        assert found["lead"] == 1
        assert (await other.ask(name))[0].served == "answer"
        assert (await other.stats()).stores >= 0
