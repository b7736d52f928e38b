"""`limiter.testing`: no waiting, and a clock that only the test moves."""

from __future__ import annotations

import asyncio
import threading

import pytest

from limiter import AsyncLimiter, Limiter, NeverFits, Quota, WaitTimeout, testing


def test_the_virtual_clock_moves_by_hand() -> None:
    """Nothing is refilled until the clock is moved, and then exactly so much."""
    clock = testing.VirtualClock()
    limiter = Limiter(clock.url, quotas=[Quota("q", tpm=60, headroom=0)])
    limiter.acquire("q", tokens=60)
    with pytest.raises(WaitTimeout, match="free in about 10 s"):
        limiter.acquire("q", tokens=10, timeout=0)
    clock.advance(9.999)
    with pytest.raises(WaitTimeout):
        limiter.acquire("q", tokens=10, timeout=0)
    clock.advance(0.001)
    limiter.acquire("q", tokens=10, timeout=0)
    assert clock.now == 10.0


def test_the_virtual_clock_wakes_who_waits() -> None:
    """Moving the clock grants whoever fits by then: threads and tasks wake."""
    clock = testing.VirtualClock()
    limiter = Limiter(clock.url, quotas=[Quota("q", tpm=60, headroom=0)])
    limiter.acquire("q", tokens=60)
    thread = threading.Thread(target=limiter.acquire, args=("q", 30))
    thread.start()
    while not limiter.peek("q").waiting:
        pass
    clock.advance(30)
    thread.join(20)
    assert not thread.is_alive()

    async def main() -> None:
        async with AsyncLimiter(clock.url) as other:
            task = asyncio.create_task(other.acquire("q", tokens=30))
            while not (await other.peek("q")).waiting:
                await asyncio.sleep(0)
            clock.advance(30)
            await asyncio.wait_for(task, 20)

    asyncio.run(main())


def test_no_waiting_grants_at_once() -> None:
    """A program that would take days runs through; what never fits is still found."""
    with testing.no_waiting():
        limiter = Limiter("redis://nowhere", quotas=[Quota("q", rpm=1, tpm=10, headroom=0)])
        for _ in range(100):
            with limiter.reserve("q", tokens=10) as r:
                r.settle(tokens=10_000)
        with pytest.raises(NeverFits):
            limiter.acquire("q", tokens=11)

        async def main() -> None:
            async with AsyncLimiter(quotas=[Quota("q", rpm=1, tpm=10, headroom=0)]) as other:
                calls = [other.acquire("q", tokens=10) for _ in range(100)]
                await asyncio.gather(*calls)

        asyncio.run(main())
