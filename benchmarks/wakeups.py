"""What waiting costs a store that nothing happens in, and how soon a waiter hears of its grant."""

from __future__ import annotations

import asyncio
import statistics
import time

import redis

from benchmarks.report import Row
from limiter import AsyncLimiter, Limit, Quota

_DAY_S = 86_400.0
_TASKS = 10_000
_WATCH_S = 10.0
_TRIES = 20


def _slow(name: str, tokens: int) -> Quota:
    """Make a quota in which only grants and refunds happen."""
    limit = Limit("tokens", tokens, 400 * _DAY_S, headroom=0)
    return Quota(name, limits=[limit], headroom=0)


async def _in_line(limiter: AsyncLimiter, name: str, count: int) -> None:
    while (await limiter.peek(name)).waiting < count:
        await asyncio.sleep(0.01)


def _commands(admin: redis.Redis) -> int:
    """Count what limiters send; the server's total would count every call inside a script too."""
    stats = admin.info("commandstats")
    sent = (
        "eval",
        "evalsha",
        "hmget",
        "subscribe",
        "unsubscribe",
        "ping",
        "hello",
        "client|setinfo",
    )
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in sent)


async def _idle(url: str, tasks: int, watch_s: float) -> float:
    """Return the commands a second of a process whose tasks wait for nothing."""
    quota = _slow("wakeups-idle", 100)
    async with AsyncLimiter(url, quotas=[quota]) as holder, AsyncLimiter(url, quotas=[quota]) as us:
        held = await holder.acquire(quota.name, tokens=100)
        calls = [asyncio.create_task(us.acquire(quota.name, tokens=1)) for _ in range(tasks)]
        await _in_line(us, quota.name, tasks)
        await asyncio.sleep(1.0)  # until the line stands
        with redis.Redis.from_url(url) as admin:
            # `holder` keeps a reservation, and renews its lease now and then: counted with ours.
            before = _commands(admin)
            await asyncio.sleep(watch_s)
            spent = _commands(admin) - before
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await held.cancel()
    return spent / watch_s


async def _latencies(url: str, tries: int, *, cut: bool) -> list[float]:
    """Return the seconds from a refund to the call that it lets through, in another limiter.

    `cut`: the subscription is cut just before it, so that the wake-up is lost.
    """
    quota = _slow(f"wakeups-{cut}", 100)
    took = []
    async with AsyncLimiter(url, quotas=[quota]) as giver, AsyncLimiter(url, quotas=[quota]) as us:
        with redis.Redis.from_url(url) as admin:
            for _ in range(tries):
                held = await giver.acquire(quota.name, tokens=100)
                call = asyncio.create_task(us.acquire(quota.name, tokens=100))
                await _in_line(giver, quota.name, 1)
                await asyncio.sleep(0.05)  # the subscription stands
                if cut:
                    admin.client_kill_filter(_type="pubsub")
                begin = time.perf_counter()
                await held.cancel()
                reservation = await call
                took.append(time.perf_counter() - begin)
                await reservation.cancel()
    return took


def rows(url: str) -> list[Row]:
    """Measure the idle cost of many waiters, wake-ups, and wake-ups that were lost."""
    idle = asyncio.run(_idle(url, _TASKS, _WATCH_S))
    lost = asyncio.run(_latencies(url, _TRIES, cut=True))
    heard = asyncio.run(_latencies(url, 10 * _TRIES, cut=False))
    median_ms = statistics.median(lost) * 1e3
    return [
        Row(f"{_TASKS:,} waiting tasks, idle commands/s", idle, 2, "stay below", "/s",
            f"EVALSHA and whatever else is sent in {_WATCH_S:g} s, from 1 s after the last one began to wait"),
        Row(f"lost wake-up found out, max of {_TRIES}", max(lost) * 1e3, 250, "stay below", "ms",
            f"CLIENT KILL TYPE pubsub, then a refund by another limiter; p50 {median_ms:.1f} ms"),
        Row("wake-up by a refund elsewhere, p50", statistics.median(heard) * 1e3, 5, "stay below",
            "ms", f"from the refund's call to the waiter's return; max {max(heard) * 1e3:.1f} ms"),
    ]  # fmt: skip
