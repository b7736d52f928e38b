"""From what the caller names as the cache's store (a URL, a client, nothing) to the store."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Hashable
from typing import Any

from limiter.cache.memory import AsyncMemoryStore, MemoryStore
from limiter.errors import ConfigError
from limiter.shells import connect

VARIABLE = "LIMITER_CACHE_URL"


def check(url: Any) -> None:
    """Check what can be checked without opening anything.

    Raises:
        ConfigError: it is no URL and no client, or a library is missing.
    """
    if importlib.util.find_spec("rfc8785") is None:
        raise ConfigError("A cache needs rfc8785: pip install 'llm-limiter[cache]'.")
    if isinstance(url, str):
        connect.scheme(url)
    elif url is not None and not hasattr(url, "evalsha"):
        raise ConfigError(
            f"A cache's url is a URL or a redis-py client, got {type(url).__name__}: write it as "
            "'redis://host:6379/1'."
        )


def _named(url: Any) -> Any:
    return url if url is not None else os.environ.get(VARIABLE)


def _embedded(user: Hashable) -> str:
    """Join the embedded server of answers; where none can run, this process's own store."""
    from limiter.shells import embedded

    if not embedded.available():
        return "memory://"
    return f"unix://{embedded.join(user, embedded.ANSWERS)}"


def _revive(user: Hashable) -> Any:
    from limiter.shells import embedded

    return lambda: embedded.join(user, embedded.ANSWERS)


def leave(url: Any, user: Hashable) -> None:
    """Say that a user of the embedded server has gone."""
    if _named(url) is None:
        from limiter.shells import embedded

        embedded.leave(user)


def sync_store(url: Any, timeout_s: float, user: Hashable) -> Any:
    """Open the store for threads."""
    named = _named(url)
    target = _embedded(user) if named is None else named
    if isinstance(target, str) and connect.scheme(target) == "memory":
        return MemoryStore.at(target)
    from limiter.cache.stores import RedisStore
    from limiter.shells.redis_store import FOREIGN, translated

    if not isinstance(target, str):
        return RedisStore(_of_kind(target, is_async=False), owned=False)
    try:
        client = connect.sync_client(target, timeout_s)
    except FOREIGN as exc:
        raise translated(exc) from exc
    return RedisStore(client, revive=_revive(user) if named is None else None)


async def async_store(url: Any, timeout_s: float, user: Hashable) -> Any:
    """Open the store for the tasks of the running loop."""
    named = _named(url)
    target = await asyncio.to_thread(_embedded, user) if named is None else named
    if isinstance(target, str) and connect.scheme(target) == "memory":
        return AsyncMemoryStore(MemoryStore.at(target))
    from limiter.cache.stores import AsyncRedisStore

    if not isinstance(target, str):
        return AsyncRedisStore(_of_kind(target, is_async=True), timeout_s, owned=False)
    client = connect.async_client(target, timeout_s)
    return AsyncRedisStore(client, timeout_s, revive=_revive(user) if named is None else None)


def _of_kind(client: Any, *, is_async: bool) -> Any:
    modules = {kind.__module__ for kind in type(client).__mro__}
    if any(name.startswith("redis.asyncio") for name in modules) != is_async:
        raise ConfigError(
            f"This cache needs a {'redis.asyncio.Redis' if is_async else 'redis.Redis'} client, got "
            f"{type(client).__module__}.{type(client).__name__}: pass a URL."
        )
    return client
