"""What the examples call: OpenAI where OPENAI_API_KEY is set, else a mock server of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from openai import AsyncOpenAI, OpenAI


@contextmanager
def _address() -> Iterator[dict[str, str]]:
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    from limiter.mock import MockConfig, background

    # With no pause between tokens it would go on writing to callers who have left.
    with background(MockConfig(rpm=500, tpm=30_000, token_latency_s=0.002)) as server:
        yield {"base_url": server.base_url, "api_key": "mock"}


@contextmanager
def provider() -> Iterator[OpenAI]:
    """Yield a client."""
    with _address() as address, OpenAI(**address) as client:
        yield client


@asynccontextmanager
async def async_provider() -> AsyncIterator[AsyncOpenAI]:
    """Yield an asyncio client."""
    with _address() as address:
        async with AsyncOpenAI(**address) as client:
            yield client
