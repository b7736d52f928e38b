"""The two drivers behind one face, so that each scenario is written once.

A scenario is a coroutine; the sync limiter's calls run in threads of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from limiter import AsyncLimiter, Limiter, Quota
from limiter.cache import Cache
from tests import servers

THREADS = ThreadPoolExecutor(400)


class Face:
    """Give a limiter of either kind the verbs of the async one."""

    def __init__(self, limiter: Any) -> None:
        self.limiter = limiter
        self.is_async = isinstance(limiter, AsyncLimiter)

    async def _do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.is_async:
            return await function(*args, **kwargs)
        return await self.in_thread(function, *args, **kwargs)

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # asyncio's own pool has so few threads that callers in the line would keep out those
        # who could help them.
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(THREADS, call)

    async def acquire(self, *args: Any, **kwargs: Any) -> Any:
        return await self._do(self.limiter.acquire, *args, **kwargs)

    async def settle(self, r: Any, *args: Any, **kwargs: Any) -> None:
        await self._do(r.settle, *args, **kwargs)

    async def cancel(self, r: Any) -> None:
        await self._do(r.cancel)

    async def peek(self, name: str) -> Any:
        return await self._do(self.limiter.peek, name)

    async def levels(self, name: str) -> dict[str, int]:
        return {label: each.level for label, each in (await self.peek(name)).limits.items()}

    async def reserved(
        self, body: Callable[[Any], Awaitable[None]], *args: Any, **kwargs: Any
    ) -> None:
        """Run `body` inside `with limiter.reserve(…)`."""
        if self.is_async:
            async with self.limiter.reserve(*args, **kwargs) as r:
                await body(r)
            return
        manager = self.limiter.reserve(*args, **kwargs)
        r = await self.in_thread(manager.__enter__)
        try:
            await body(r)
        except BaseException as exc:
            await self.in_thread(manager.__exit__, type(exc), exc, exc.__traceback__)
            raise
        await self.in_thread(manager.__exit__, None, None, None)

    async def close(self) -> None:
        if self.is_async:
            await self.limiter.aclose()
        else:
            await self.in_thread(self.limiter.close)


Make = Callable[..., Face]


@pytest.fixture(scope="session")
def urls() -> Iterator[dict[str, str]]:
    """Run each kind of server once."""
    with servers.all_kinds() as running:
        yield running


@pytest.fixture(params=["memory", *sorted(servers.binaries())])
def store_url(request: pytest.FixtureRequest, urls: dict[str, str]) -> str:
    """Name a store of each kind."""
    return urls.get(request.param) or f"memory://{uuid.uuid4().hex}"


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Choose a driver."""
    return request.param


@contextlib.asynccontextmanager
async def faces(kind: str, url: str) -> AsyncIterator[Make]:
    """Make limiters of one kind on one store; close them all at the end."""
    made: list[Face] = []

    def make(*quotas: Quota, at: str | None = None, **settings: Any) -> Face:
        limiter = (Limiter if kind == "sync" else AsyncLimiter)(
            at or url, quotas=quotas, **settings
        )
        made.append(Face(limiter))
        return made[-1]

    try:
        yield make
    finally:
        for face in made:
            await face.close()


@pytest.fixture
def cache():
    """A cache of its own, in this process."""
    return Cache(f"memory://{uuid.uuid4()}")
