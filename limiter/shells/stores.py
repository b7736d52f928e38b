"""What the two drivers need of a store, and the in-process store with the verbs of an asyncio one."""

from __future__ import annotations

from typing import Protocol

from limiter.core import ops
from limiter.core.layout import Keys, Reply
from limiter.core.request import Batch
from limiter.shells.memory import MemoryStore
from limiter.shells.wire import Wire


class SyncStore(Protocol):
    """Say what the driver of threads needs of a store."""

    sharded: bool

    def run(self, wire: Wire, batch: Batch) -> Reply | bytes | str:
        """Run one batch."""

    def read(self, keys: Keys) -> ops.Found | None:
        """Return a definition."""

    def declare(self, keys: Keys, seen: str, text: str, origin: str) -> tuple[bool, str]:
        """Replace a definition."""

    def names(self) -> list[str]:
        """List the quotas."""

    def close(self) -> None:
        """Close what it holds."""


class AsyncStore(Protocol):
    """Say what the driver of tasks needs of a store."""

    sharded: bool

    async def run(self, wire: Wire, batch: Batch) -> Reply | bytes | str:
        """Run one batch."""

    async def read(self, keys: Keys) -> ops.Found | None:
        """Return a definition."""

    async def declare(self, keys: Keys, seen: str, text: str, origin: str) -> tuple[bool, str]:
        """Replace a definition."""

    async def names(self) -> list[str]:
        """List the quotas."""

    async def close(self) -> None:
        """Close what it holds."""


class AsyncMemoryStore:
    """Give the in-process store the verbs of an asyncio one; nothing in it ever waits."""

    sharded = False

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def run(self, wire: Wire, batch: Batch) -> Reply:
        """Run one batch."""
        return self.store.run(wire, batch)

    async def read(self, keys: Keys) -> ops.Found | None:
        """Return a definition."""
        return self.store.read(keys)

    async def declare(self, keys: Keys, seen: str, text: str, origin: str) -> tuple[bool, str]:
        """Replace a definition."""
        return self.store.declare(keys, seen, text, origin)

    async def names(self) -> list[str]:
        """List the quotas."""
        return self.store.names()

    async def close(self) -> None:
        """Do nothing: the store lives as long as the process."""
