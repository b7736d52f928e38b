"""What one process can do: round trips, coalescing, a long line, and what it costs in memory."""

from __future__ import annotations

import asyncio
import statistics
import time

import redis

from benchmarks.engine import Engine
from benchmarks.report import Row
from limiter import AsyncLimiter, Limiter, Quota
from limiter.core import layout

WIDE = Quota("wide", rpm=10**9, tpm=10**12)
_NARROW = Quota("narrow", limits=[*Quota("x", tpm=1, rpm=10**6).limits])


def sequential(url: str, rounds: int = 20, each: int = 150) -> Row:
    """Compare one acquire with a trivial EVALSHA, turn by turn on the same server."""
    client = redis.Redis.from_url(url)
    trivial = client.script_load("return 1")
    ours: list[float] = []
    theirs: list[float] = []
    with Limiter(url, quotas=[WIDE]) as limiter:
        limiter.acquire("wide", tokens=10).settle(tokens=5)
        for _ in range(rounds):
            for _ in range(each):
                begin = time.perf_counter()
                reservation = limiter.acquire("wide", tokens=10)
                ours.append(time.perf_counter() - begin)
                reservation.settle(tokens=5)
            for _ in range(each):
                begin = time.perf_counter()
                client.evalsha(trivial, 1, "limiter:bench")
                theirs.append(time.perf_counter() - begin)
    client.close()
    bar_us = 1.5 * statistics.median(theirs) * 1e6
    note = f"bar: 1.5 x a trivial EVALSHA through redis-py ({bar_us / 1.5:.0f} us)"
    measured_us = statistics.median(ours) * 1e6
    return Row("sequential acquire, p50", measured_us, bar_us, "stay below", "us", note)


async def _pairs(url: str, tasks: int, pairs: int) -> float:
    async with AsyncLimiter(url, quotas=[WIDE]) as limiter:
        await (await limiter.acquire("wide", tokens=10)).settle(tokens=5)

        async def task() -> None:
            for _ in range(pairs):
                reservation = await limiter.acquire("wide", tokens=10)
                await reservation.settle(tokens=5)

        begin = time.perf_counter()
        await asyncio.gather(*(task() for _ in range(tasks)))
        return tasks * pairs / (time.perf_counter() - begin)


def pairs_per_s(url: str, tasks: int, pairs: int) -> float:
    """Return acquire+settle pairs a second of one process: the median of five runs."""
    return statistics.median(asyncio.run(_pairs(url, tasks, pairs)) for _ in range(5))


async def _uncoalesced(url: str, tasks: int, each: int) -> float:
    import redis.asyncio

    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=tasks, timeout=None)
    client = redis.asyncio.Redis(connection_pool=pool)
    trivial = await client.script_load("return 1")

    async def task() -> None:
        for _ in range(each):
            await client.evalsha(trivial, 1, "limiter:bench")

    await asyncio.gather(*(task() for _ in range(tasks)))
    begin = time.perf_counter()
    await asyncio.gather(*(task() for _ in range(tasks)))
    seconds = time.perf_counter() - begin
    await client.aclose()
    await pool.disconnect()
    return tasks * each / seconds


def coalesced(url: str) -> Row:
    """Measure 64 tasks of one process; the note says what redis-py alone does here."""
    plain = asyncio.run(_uncoalesced(url, 64, 100))
    best = max(pairs_per_s(url, tasks, 200) for tasks in (64, 128))
    note = (
        f"redis-py alone, trivial EVALSHA from 64 tasks: {plain:,.0f}/s here (11,000/s on the "
        "machine on which the bar was set)"
    )
    return Row("64-128 tasks, acquire+settle pairs/s", best, 30_000, unit="/s", note=note)


def long_line(url: str, tickets: int = 100_000) -> list[Row]:
    """Compare a line of 100,000 with a short one, and weigh its tickets."""
    line = Engine(url, _NARROW)
    line.run(layout.acquire(1, (1, 1), flags=1), layout.acquire(2, (1, 1), flags=1))
    calls = iter(range(10, 10**9))

    def come_and_go() -> None:
        n = next(calls)
        line.run(layout.acquire(n, (1, 1), flags=1), layout.cancel(n))

    short = [line.server_us(come_and_go, 2_000), line.server_us(line.run, 2_000)]
    before = line.memory()
    for _ in range(tickets // 250):
        line.run(*(layout.acquire(next(calls), (1, 1), flags=1) for _ in range(250)))
    weight = (line.memory() - before) / tickets
    long = [line.server_us(come_and_go, 2_000), line.server_us(line.run, 2_000)]
    line.clear()
    names = ("enqueue+cancel, 100,000 waiting", "poll, 100,000 waiting")
    rows = [
        Row(name, with_them, 2 * without, "stay below", "us", f"with none: {without:.1f} us")
        for name, with_them, without in zip(names, long, short, strict=True)
    ]
    return [*rows, Row("memory of a waiting ticket", weight, 300, "stay below", "B")]


def memory(url: str, holds: int = 50_000) -> list[Row]:
    """Weigh held reservations, and a quota that nobody uses."""
    line = Engine(url, Quota("idle", limits=WIDE.limits))
    line.run(layout.acquire(1, (1, 10), flags=1))
    line.run(layout.settle(1, (1, 10)))
    idle = sum(line.client.memory_usage(key) or 0 for key in line.keys.all())
    before = line.memory()
    for batch in range(holds // 250):
        start = 10 + 250 * batch
        line.run(*(layout.acquire(start + i, (1, 10), flags=1) for i in range(250)))
    weight = (line.memory() - before) / holds
    forever = [key for key in line.keys.all() if line.client.pttl(key) == -1]
    line.clear()
    return [
        Row("memory of a held reservation", weight, 300, "stay below", "B"),
        Row("memory of an idle quota, all keys", idle, 2_048, "stay below", "B"),
        Row("keys without an expiry", len(forever), 0, "stay below"),
    ]
