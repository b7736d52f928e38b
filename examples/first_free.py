"""any_of: three deployments of one model; a call takes the first that has room and does not fail."""

from __future__ import annotations

import asyncio
from collections import Counter

from limiter import AsyncLimiter, Quota

DEPLOYMENTS = [
    Quota("east", rpm=120, burst=3.0),
    Quota("west", rpm=120, burst=3.0),
    Quota("paid", rpm=600, burst=1.0),
]


class OverloadedError(Exception):
    """Be what a client raises when a provider is overloaded."""

    status_code = 503


async def send(deployment: str, failing: tuple[str, ...]) -> None:
    """Be the call of a provider."""
    if deployment in failing:
        raise OverloadedError
    await asyncio.sleep(0.02)


async def call(limiter: AsyncLimiter, *failing: str) -> str:
    """Call the first deployment that is free; say which one it was, and how it ended."""
    try:
        async with limiter.reserve(any_of=["east", "west", "paid"], timeout=10) as reservation:
            await send(reservation.quota, failing)
            await reservation.settle()
    except OverloadedError:
        return f"{reservation.quota}: 503"
    return reservation.quota


async def main() -> None:
    """Make twenty calls; wait for the quotas to refill; make ten more while west fails."""
    async with AsyncLimiter(quotas=DEPLOYMENTS) as limiter:
        calls = [await call(limiter) for _ in range(20)]
        print("in order of preference:", dict(Counter(calls)))
        await asyncio.sleep(2)
        calls = [await call(limiter, "west") for _ in range(10)]
        print("while west fails:", dict(Counter(calls)))


asyncio.run(main())
