"""Put the limit into an HTTP client of httpx or httpx2, sync or async; build such clients.

The two families share no class, and a transport of one dies inside a client of the other. So the
few classes that must be of a family are made when it is first used, from the same code.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from limiter.errors import ConfigError
from limiter.transport import carriers, recording, streams
from limiter.transport.carriers import Limited, Made
from limiter.transport.effects import Http

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.api import AsyncLimiter, Limiter
    from limiter.transport.rules import Rules

FAMILIES = ("httpx2", "httpx")

# What the openai client sets for a client that it makes itself (openai-python 3.54 and 2.54).
_TIMEOUT_S, _CONNECT_S = 600.0, 5.0
_CONNECTIONS, _KEPT_ALIVE = 1000, 100


@dataclass(frozen=True, slots=True)
class Family:
    """Hold a family's module, and our classes with its bases."""

    module: Any
    sync_transport: type
    async_transport: type
    sync_made: Made
    async_made: Made

    def limited(self, inner: Http, limiter: Any, rules: Rules, *, is_async: bool) -> Limited:
        """Wrap a transport."""
        made: Limited
        if is_async:
            made = self.async_transport(inner, limiter, rules, self.async_made)
        else:
            made = self.sync_transport(inner, limiter, rules, self.sync_made)
        return made


@cache
def family(name: str) -> Family:
    """Load a family.

    Raises:
        ConfigError: it is none of the two, or not installed.
    """
    if name not in FAMILIES:
        raise ConfigError(f"family= is one of {', '.join(FAMILIES)}, got {name!r:.40}.")
    try:
        module = importlib.import_module(name)
    except ImportError as exc:
        raise ConfigError(f"{name} is not installed: pip install {name}.") from exc

    def made(kind: type, base: type) -> type:
        return type(kind.__name__, (kind, base), {"__module__": kind.__module__})

    sync, tasks = module.SyncByteStream, module.AsyncByteStream
    return Family(
        module,
        made(carriers.SyncTransport, module.BaseTransport),
        made(carriers.AsyncTransport, module.AsyncBaseTransport),
        Made(
            made(streams.SyncStream, sync),
            made(recording.RecordedSync, sync),
            made(recording.Replayed, sync),
            module.ByteStream,
            module.Response,
        ),
        Made(
            made(streams.AsyncStream, tasks),
            made(recording.RecordedAsync, tasks),
            made(recording.Replayed, tasks),
            module.ByteStream,
            module.Response,
        ),
    )


def default_family() -> str:
    """Name the family that the installed openai is built on: httpx2 from 3.0 on."""
    try:
        major = int(metadata.version("openai").partition(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return FAMILIES[0]
    return "httpx2" if major >= 3 else "httpx"


def build(
    limiter: Limiter | AsyncLimiter, rules: Rules, name: str | None, settings: Mapping[str, Any]
) -> Http:
    """Make a client with the openai client's own settings where the caller gives none."""
    chosen = family(name or default_family())
    module = chosen.module
    defaults = {
        "timeout": module.Timeout(_TIMEOUT_S, connect=_CONNECT_S),
        "limits": module.Limits(
            max_connections=_CONNECTIONS, max_keepalive_connections=_KEPT_ALIVE
        ),
        "follow_redirects": True,
    }
    is_async = limiter.as_async() is limiter
    make = module.AsyncClient if is_async else module.Client
    client = make(**{**defaults, **settings})
    limit(client, limiter, rules)
    return client


def limit(client: Http, limiter: Limiter | AsyncLimiter, rules: Rules) -> None:
    """Wrap every transport of a client; nothing happens if that was done by these rules.

    Raises:
        ConfigError: it is no client of either family, or limited otherwise.
    """
    chosen, is_async = _kind(client)
    fitting = limiter.as_async() if is_async else limiter.as_sync()

    def wrapped(inner: Http) -> Http:
        if inner is None:  # an exception to the mounts: the client's own transport
            return None
        if isinstance(inner, Limited):
            _check_same(inner, fitting, rules)
            return inner
        return chosen.limited(inner, fitting, rules, is_async=is_async)

    # Proxies and mounts are transports too; a client takes none of them after it was made.
    parts = client.__dict__  # their names are the same in both families
    transport = wrapped(parts["_transport"])
    mounts = {pattern: wrapped(inner) for pattern, inner in parts["_mounts"].items()}
    parts.update(_transport=transport, _mounts=mounts)


def _check_same(limited: Limited, limiter: Any, rules: Rules) -> None:
    if limited.limiter is not limiter:
        raise ConfigError(
            "This client is limited already, by another limiter: make a client of its own for each."
        )
    if limited.rules != rules:
        raise ConfigError(
            f"This client is limited already, with other settings: {limited.rules}. "
            "Make a client of its own for each."
        )


def _kind(client: Http) -> tuple[Family, bool]:
    """Find a client's family by its class, and whether it is async."""
    for kind in type(client).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in FAMILIES and kind.__name__ in {"Client", "AsyncClient"}:
            return family(name), kind.__name__ == "AsyncClient"
    raise ConfigError(
        "instrument() takes an OpenAI, AsyncOpenAI, AzureOpenAI or AsyncAzureOpenAI client, or a "
        f"client of httpx or httpx2; got {type(client).__name__}."
    )
