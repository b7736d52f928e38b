"""Users of the openai client, sync and asyncio, told in one language.

A test says `caller.run(client.chat.completions.create(…))` for both: what can be awaited runs on
the caller's own event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import time
from collections.abc import Callable
from typing import Any

import openai

from limiter import AsyncLimiter, Limit, Limiter, Quota

HELLO = [{"role": "user", "content": "hello"}]
HELLO_TOKENS = 2 + 1 + 1  # ceil(5 / 4) + messages + 1

YEAR_S = 365 * 86_400.0
REQUESTS, TOKENS, SLOTS = 1_000, 10_000, 3


def still(name: str, **settings: Any) -> Quota:
    """Make a quota that does not refill while a test looks: a token comes back in an hour."""
    limits = [
        Limit("requests", REQUESTS, YEAR_S, headroom=0),
        Limit("tokens", TOKENS, YEAR_S, headroom=0),
    ]
    return Quota(name, limits=limits, concurrency=SLOTS, **settings)


def live(name: str) -> Quota:
    """Make a quota that refills at once, as far as a test can tell."""
    return Quota(name, rpm=60_000, tpm=6_000_000, headroom=0)


class Caller:
    """Hold a limiter with one quota, whose name is also the model's, and clients that it limits."""

    def __init__(self, mode: str, family: str, url: str, name: str) -> None:
        self.is_async = mode == "async"
        self.mode, self.family, self.url = mode, family, url
        self.model = name
        self.limiter: Any = (AsyncLimiter if self.is_async else Limiter)(url, quotas=[still(name)])
        self._runner = asyncio.Runner()
        self._clients: list[Any] = []

    # --- clients ----------------------------------------------------------------------------

    def bare(self, base_url: str, kind: str = "OpenAI", **options: Any) -> Any:
        """Make a client that nothing limits, on this caller's family of HTTP clients."""
        module = importlib.import_module(self.family)
        make = module.AsyncClient if self.is_async else module.Client
        return self.client(base_url, kind, http_client=make(), **options)

    def client(self, base_url: str, kind: str = "OpenAI", **options: Any) -> Any:
        """Make a limited client; what is no setting of the limiter goes to openai."""
        names = (
            "provider",
            "rule",
            "timeout",
            "quota",
            "unmatched",
            "transport",
            "output_quantile",
            "retry",
            "cache",
        )
        settings = {key: options.pop(key) for key in names if key in options}
        if "http_client" not in options:
            http = self.limiter.http_client(family=self.family, **settings)
            options["http_client"] = http
        where = "azure_endpoint" if "Azure" in kind else "base_url"
        options = {"api_key": "any", "max_retries": 0, where: base_url, **options}
        make = getattr(openai, ("Async" if self.is_async else "") + kind)
        self._clients.append(make(**options))
        return self._clients[-1]

    def run(self, value: Any) -> Any:
        """Return a value, or what it becomes when it is awaited."""
        if not inspect.isawaitable(value):
            return value
        # As in a program of tasks, what is said around a call holds inside it.
        return self._runner.run(_awaited(value), context=contextvars.copy_context())

    # --- calls ------------------------------------------------------------------------------

    def chat(self, client: Any, **options: Any) -> Any:
        """Ask for a chat completion."""
        asked = {"model": self.model, "messages": HELLO, **options}
        return self.run(client.chat.completions.create(**asked))

    def take(self, stream: Any, count: int | None = None) -> list[Any]:
        """Read so many items of a stream, or all of them, and leave it open."""
        return self.run(_taken(stream, count)) if self.is_async else _take(stream, count)

    # --- levels -----------------------------------------------------------------------------

    def used(self, name: str | None = None) -> dict[str, int]:
        """Return what is gone from each limit of a quota, by dimension."""
        full = {"requests": REQUESTS, "tokens": TOKENS, "concurrency": SLOTS}
        status = self.limiter.as_sync().peek(name or self.model)
        levels = {one.limit.dimension: one.level for one in status.limits.values()}
        return {dimension: full[dimension] - level for dimension, level in levels.items()}

    def reserved(self, client: Any, **options: Any) -> int:
        """Return the tokens that are reserved for a chat, whose answer nobody then waits for."""
        before = self.used()["tokens"]
        stream = self.chat(client, stream=True, **options)
        taken = self.used()["tokens"] - before
        self.run(stream.close())
        return taken

    def waiting(self) -> int:
        """Return how many stand in the line."""
        waiting: int = self.limiter.as_sync().peek(self.model).waiting
        return waiting

    def until(self, holds: Callable[[], bool]) -> None:
        """Go on until something holds; the limit only ends a test that has failed."""
        give_up_at = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < give_up_at, self.used()
            self.run(asyncio.sleep(0.005)) if self.is_async else time.sleep(0.005)

    def live(self) -> Quota:
        """Make this caller's quota one that refills at once; before it is used."""
        return live(self.model)

    def close(self) -> None:
        for client in self._clients:
            self.run(client.close())
        if self.is_async:
            self.run(self.limiter.aclose())
        self.limiter.as_sync().close()
        self._runner.close()


async def _awaited(value: Any) -> Any:
    return await value


def _take(stream: Any, count: int | None) -> list[Any]:
    items = iter(stream)
    return list(items) if count is None else [next(items) for _ in range(count)]


async def _taken(stream: Any, count: int | None) -> list[Any]:
    items = aiter(stream)
    if count is None:
        return [item async for item in items]
    return [await anext(items) for _ in range(count)]
