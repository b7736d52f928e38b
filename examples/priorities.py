"""Priorities: a process with bulk work fills the line; interactive calls of another one overtake it."""

from __future__ import annotations

import asyncio
import multiprocessing
import time

from limiter import AsyncLimiter, Limiter, Priority, Quota

QUOTA = Quota(
    "two-kinds", rpm=1_200, burst=0.5,
    priorities=[
        Priority("interactive", level=10, timeout=5),
        Priority("batch", level=-10, promote_after_s=1),
    ],
)  # fmt: skip
BULK = 60


async def bulk() -> None:
    """Ask for everything at once, and be served as there is room."""

    async def call(limiter: AsyncLimiter) -> None:
        async with limiter.reserve("two-kinds", priority="batch") as reservation:
            await reservation.settle()

    async with AsyncLimiter(quotas=[QUOTA]) as limiter:
        await asyncio.gather(*(call(limiter) for _ in range(BULK)))


def work() -> None:
    """Be the process with the bulk work."""
    asyncio.run(bulk())


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    with Limiter(quotas=[QUOTA]) as limiter:
        while process.is_alive() and limiter.peek("two-kinds").waiting < BULK // 2:
            time.sleep(0.02)
        for number in range(3):
            began = time.monotonic()
            with limiter.reserve("two-kinds", priority="interactive") as reservation:
                waited_s = time.monotonic() - began
                reservation.settle()
            behind = limiter.peek("two-kinds").priorities["batch"].waiting
            print(f"interactive call {number}: waited {waited_s:.2f} s, before {behind} of batch")
        process.join()
        print("batch:", limiter.peek("two-kinds").priorities["batch"].waiting, "are left")
