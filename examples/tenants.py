"""Tenants: two that have asked for much and one for little share a quota by their weights."""

from __future__ import annotations

import asyncio
from collections import Counter

from limiter import AsyncLimiter, Quota

QUOTA = Quota(
    "shared-by-tenants", rpm=1_800, burst="smooth",
    tenants={"search": 2.0},  # the others weigh 1
)  # fmt: skip
ASKED = {"import": 30, "search": 30, "chat": 3}


async def main() -> None:
    """Let all of them ask at once, the one with the most first; print who was served when."""
    served: list[str] = []

    async def call(limiter: AsyncLimiter, tenant: str) -> None:
        async with limiter.reserve("shared-by-tenants", tenant=tenant) as reservation:
            served.append(tenant)
            await reservation.settle()

    async with AsyncLimiter(quotas=[QUOTA]) as limiter:
        calls = [call(limiter, tenant) for tenant, count in ASKED.items() for _ in range(count)]
        await asyncio.gather(*calls)
    print("the first twelve:", ", ".join(served[:12]))
    print("of the first forty:", dict(Counter(served[:40])))
    print("chat's last one was number", len(served) - served[::-1].index("chat"), "of", len(served))


asyncio.run(main())
