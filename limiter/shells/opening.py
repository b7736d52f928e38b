"""From what the caller names as the store (a URL, a client, nothing) to the store.

The order where nothing is named: the embedded server of this user and machine; where none can run,
the store of this process alone, with a loud note.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from limiter.errors import ConfigError
from limiter.shells import connect
from limiter.shells.memory import MemoryStore

if TYPE_CHECKING:
    from limiter.shells import stores


# Set by `limiter.testing`: the store of every limiter that is opened meanwhile.
forced: MemoryStore | None = None


class OnlyThisProcessWarning(UserWarning):
    """Warn that other processes will not share the quota."""


def _embedded(user: Hashable) -> str | None:
    """Join the embedded server; return its URL, or None where none can run."""
    from limiter.shells import embedded

    if embedded.available():
        return f"unix://{embedded.join(user)}"
    warnings.warn(
        "No embedded server runs on this platform: the quota is shared within THIS PROCESS ONLY. "
        "Pass url='redis://…' or set LIMITER_URL to share it.",
        OnlyThisProcessWarning,
        stacklevel=5,
    )
    return None


def leave(url: Any, user: Hashable) -> None:
    """Say that a user of the embedded server has gone."""
    if url is None:
        from limiter.shells import embedded

        embedded.leave(user)


def _client_kind(client: Any) -> str:
    modules = {kind.__module__ for kind in type(client).__mro__}
    if not hasattr(client, "evalsha"):
        raise ConfigError(
            f"url= is a URL or a redis-py client, got {type(client).__name__}: "
            "write it as 'redis://host:6379/0'."
        )
    return "async" if any(name.startswith("redis.asyncio") for name in modules) else "sync"


def _expect(client: Any, kind: str) -> Any:
    if _client_kind(client) != kind:
        wanted, other = ("redis.Redis", "AsyncLimiter") if kind == "sync" else (
            "redis.asyncio.Redis", "Limiter")  # fmt: skip
        raise ConfigError(
            f"This limiter needs a {wanted} client, got {type(client).__module__}."
            f"{type(client).__name__}: pass a URL, or use {other}."
        )
    return client


Opened = tuple[Any, Any, bool]


def _embedded_if_none(url: Any, user: Hashable) -> tuple[Any, Any]:
    """Return what to open, and what starts it again where that is our business."""
    if url is not None:
        return url, None
    from limiter.shells import embedded

    return _embedded(user) or "memory://", lambda: embedded.join(user)


def sync_client(url: Any, timeout_s: float, user: Hashable) -> Opened:
    """Return a client for threads, what revives its server, and whether it is ours.

    Raises:
        ConfigError: no server can be had.
    """
    url, revive = _embedded_if_none(url or os.environ.get("LIMITER_URL"), user)
    if not isinstance(url, str):
        return _expect(url, "sync"), None, False
    _needs_a_server(url)
    return connect.sync_client(url, timeout_s), revive, True


async def async_client(url: Any, timeout_s: float, user: Hashable) -> Opened:
    """Return a client for the tasks of the running loop; see `sync_client`."""
    named = url or os.environ.get("LIMITER_URL")
    url, revive = await asyncio.to_thread(_embedded_if_none, named, user)
    if not isinstance(url, str):
        return _expect(url, "async"), None, False
    _needs_a_server(url)
    return connect.async_client(url, timeout_s), revive, True


def _needs_a_server(url: str) -> None:
    if connect.scheme(url) == "memory":
        raise ConfigError("A queue needs a Redis that outlives its processes: give its URL.")


def sync_store(url: Any, timeout_s: float, user: Hashable) -> stores.SyncStore:
    """Open the store for threads."""
    if forced is not None:
        return forced
    revive = None
    if url is None:
        from limiter.shells import embedded

        url = _embedded(user) or "memory://"
        revive = lambda: embedded.join(user)  # noqa: E731
    if isinstance(url, str) and connect.scheme(url) == "memory":
        return MemoryStore.at(url)
    from limiter.shells.redis_store import FOREIGN, RedisStore, translated

    owned = isinstance(url, str)
    try:
        client = connect.sync_client(url, timeout_s) if owned else _expect(url, "sync")
    except FOREIGN as exc:
        raise translated(exc) from exc
    return RedisStore(client, owned=owned, revive=revive)


async def async_store(url: Any, timeout_s: float, user: Hashable) -> stores.AsyncStore:
    """Open the store for the tasks of the running loop."""
    from limiter.shells.stores import AsyncMemoryStore

    if forced is not None:
        return AsyncMemoryStore(forced)
    revive = None
    if url is None:
        from limiter.shells import embedded

        url = await asyncio.to_thread(_embedded, user) or "memory://"
        revive = lambda: embedded.join(user)  # noqa: E731
    if isinstance(url, str) and connect.scheme(url) == "memory":
        return AsyncMemoryStore(MemoryStore.at(url))
    from limiter.shells.redis_store import AsyncRedisStore

    owned = isinstance(url, str)
    client = connect.async_client(url, timeout_s) if owned else _expect(url, "async")
    return AsyncRedisStore(client, timeout_s, owned=owned, revive=revive)
