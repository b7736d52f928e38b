"""A stream, asyncio: the reservation is settled when the stream ends, or is left early."""

from __future__ import annotations

import asyncio

from common import async_provider

from limiter import AsyncLimiter, Quota


async def main() -> None:
    """Read one stream to its end and leave another one early."""
    limiter = AsyncLimiter(quotas=[Quota("gpt-4o-mini", rpm=500, tpm=30_000, concurrency=10)])
    async with async_provider() as client:
        limiter.instrument(client)
        for wanted in (10**6, 3):
            stream = await client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "Count to twenty."}],
                stream=True,
                stream_options={"include_usage": True},
            )
            seen = 0
            async with stream:
                async for _ in stream:
                    seen += 1
                    if seen == wanted:
                        break
            held = (await limiter.peek("gpt-4o-mini")).held
            print(seen, "chunks;", held, "reservations still held")
    await limiter.aclose()


asyncio.run(main())
