"""What one call, or the calls in a block, ask of the cache beside what its settings say. Pure.

    with cache_control("refresh"):
        ask("…")                                # asked anew, and the answer stored

A call's own word (a header, an argument) goes before the block's. It is kept per thread and per
asyncio task.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from limiter.errors import ConfigError

# One call's own: `client.chat.completions.create(…, extra_headers={"x-limiter-cache": "refresh"})`.
CONTROL_HEADER = "x-limiter-cache"

Told = str | float | None

_block: ContextVar[Told] = ContextVar("limiter_cache_control", default=None)


@dataclass(frozen=True, slots=True)
class Control:
    """Hold what was asked for.

    Attributes:
        reads: a stored answer will do.
        stores: an answer may be stored.
        ttl_s: how old a stored one may be, and how long a new one is kept; None: as is set.
    """

    reads: bool = True
    stores: bool = True
    ttl_s: float | None = None

    @classmethod
    def of(cls, told: Told = None) -> Control:
        """Read a control: `no-store`, `refresh`, or seconds; None: what the block around says.

        Raises:
            ConfigError: it is none of these.
        """
        told = _block.get() if told is None else told
        match told:
            case None:
                return cls()
            case "no-store":
                return cls(reads=False, stores=False)
            case "refresh":
                return cls(reads=False)
        return cls(ttl_s=_seconds(told))


def _seconds(told: Told) -> float:
    try:
        ttl_s = -1.0 if isinstance(told, bool) else float(told)  # type: ignore[arg-type]  # tried
    except (TypeError, ValueError):
        ttl_s = -1.0
    if not 0 < ttl_s < 10 * 365 * 86_400:
        raise ConfigError(
            "A cache control is 'no-store' (neither read nor stored), 'refresh' (asked anew and stored), "
            f"or seconds above 0 that an answer may be old; got {told!r:.60}."
        )
    return ttl_s


@contextlib.contextmanager
def cache_control(control: Told) -> Iterator[None]:
    """Let the calls inside the block use the cache otherwise than its settings say.

    Args:
        control: `no-store`, `refresh`, or seconds: how old an answer may be, and how long a new one is
            kept.

    Raises:
        ConfigError: it is none of these.
    """
    Control.of(control)
    token = _block.set(control)
    try:
        yield
    finally:
        _block.reset(token)


def check_cache(cache: object) -> None:
    """Check what is given for a cache.

    Raises:
        ConfigError: it is none.
    """
    if cache is not None and not hasattr(cache, "as_async"):
        raise ConfigError(
            f"A cache is a limiter.cache.Cache or AsyncCache, got {cache!r:.60}: make one with "
            "Cache('redis://host:6379/1'), and share it."
        )
