"""Answer repeated prompts from a Redis of its own, and let one of many who ask the same go.

    from limiter.cache import Cache, cache_control, cached

    cache = Cache("redis://localhost:6379/1", ttl=3600)
    client = OpenAI(http_client=limiter.http_client(cache=cache))

A hit takes nothing from the quota. Where the decisions are: `key` (which answer a request may have),
`entry` (its bytes), `policy` (which answers are kept), `looking` (from a question to an answer or to
the task of getting one), `lua/cache` (who goes). Where the I/O is: `stores`, driven by `driving`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limiter.cache.api import AsyncCache, Cache
    from limiter.cache.control import cache_control
    from limiter.cache.functions import cached
    from limiter.cache.stats import CacheStats, Stored

_HOMES = {
    "AsyncCache": "api", "Cache": "api", "cache_control": "control", "cached": "functions",
    "CacheStats": "stats", "Stored": "stats",
}  # fmt: skip

__all__ = ["AsyncCache", "Cache", "CacheStats", "Stored", "cache_control", "cached"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'limiter.cache' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"limiter.cache.{home}"), name)
    return value
