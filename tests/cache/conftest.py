"""Caches on real servers; a scenario is written once and run by both drivers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis

from limiter.cache import layout
from limiter.cache.api import AsyncCache, Cache
from limiter.cache.control import Control
from limiter.cache.entry import Entry
from limiter.cache.flights import Flight
from limiter.cache.looking import Found
from limiter.cache.policy import Question
from tests import servers


@pytest.fixture(scope="session", params=sorted(servers.binaries()))
def binary(request: pytest.FixtureRequest) -> str:
    """Choose a kind of server."""
    return servers.binaries()[request.param]


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Choose a driver."""
    return request.param


def question(name: str, told: Any = None, **more: Any) -> Question:
    """Ask something; the name is the key."""
    return Question(f"n-{name}:{'a' * 64}", "chat", "/v1/chat/completions", {}, False, False,
                    Control.of(told), **more)  # fmt: skip


def serve(entry: Entry) -> Any:
    """Give what is stored as it is."""
    return entry.data


class Face:
    """A cache of either kind, as asyncio has it."""

    def __init__(self, cache: Cache | AsyncCache) -> None:
        self.cache = cache

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        verb = getattr(self.cache, name)
        if isinstance(self.cache, AsyncCache):
            return verb

        async def call(*arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(verb, *arguments, **named)

        return call

    async def ask(
        self, name: str, told: Any = None, *, serve: Any = serve, **more: Any
    ) -> tuple[Found, Flight | None]:
        found: tuple[Found, Flight | None] = await self.look(question(name, told, **more), serve)
        return found

    async def put(self, name: str, data: Any = "answer", **more: Any) -> None:
        """Ask as the first one, and answer."""
        _, flight = await self.ask(name, "refresh")
        assert flight
        await self.fill(flight, "value", data, **more)

    async def close(self) -> None:
        if isinstance(self.cache, Cache):
            await asyncio.to_thread(self.cache.close)
        else:
            await self.cache.aclose()


@contextlib.asynccontextmanager
async def faces(kind: str, url: Any) -> AsyncIterator[Callable[..., Face]]:
    """Make caches of a kind; close them at the end."""
    made: list[Face] = []

    def make(**options: Any) -> Face:
        address = options.pop("url", url)
        made.append(Face((Cache if kind == "sync" else AsyncCache)(address, **options)))
        return made[-1]

    try:
        yield make
    finally:
        for face in made:
            await face.close()


async def until(condition: Callable[[], Any], patience_s: float = 20) -> None:
    """Wait for a state; the limit only ends a test that has failed."""
    give_up_at = time.monotonic() + patience_s
    while True:
        met = condition()
        if await met if asyncio.iscoroutine(met) else met:
            return
        assert time.monotonic() < give_up_at, condition
        await asyncio.sleep(0.01)


async def waits(url: str, name: str, n: int = 1) -> None:
    """Return once so many processes wait for an answer."""
    flight = layout.flight(question(name).key)
    with redis.Redis.from_url(url) as client:
        await until(lambda: sum(each.startswith(b"w:") for each in client.hkeys(flight)) >= n)


async def maybe(found: Any) -> Any:
    return await found if asyncio.iscoroutine(found) else found
