"""Answers kept in this process: `memory://`, the reference model behind a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from limiter.cache.shelf import Reply, Shelf

Wake = Callable[[str], None]


class MemoryStore:
    """Keep answers in this process; one for each URL, shared by its threads and loops."""

    _stores: dict[str, MemoryStore] = {}  # noqa: RUF012 - that is its purpose
    _opening = threading.Lock()

    def __init__(self) -> None:
        self._shelf = Shelf()
        self._lock = threading.Lock()
        self._listeners: dict[str, Wake] = {}

    @classmethod
    def at(cls, url: str) -> MemoryStore:
        """Return the store of a URL, the same for all who ask."""
        with cls._opening:
            return cls._stores.setdefault(url, cls())

    def look(self, key: str, most: int) -> tuple[bytes, int]:
        """Return an answer and the ms that it lives."""
        with self._lock:
            return self._shelf.look(_now_ms(), key, most)

    def claim(self, key: str, *asked: Any) -> Reply:
        """Ask for an answer, or for the task of getting it."""
        with self._lock:
            return self._shelf.claim(_now_ms(), key, *asked)

    def fill(self, key: str, answer: bytes, lifetime_ms: int) -> None:
        """Store an answer, wake those who wait."""
        with self._lock:
            woken = self._shelf.fill(_now_ms(), key, answer, lifetime_ms)
        self._wake(woken, key)

    def leave(self, key: str, id_: str, how: str, lease_ms: int) -> None:
        """Give a flight up, or say that it goes on."""
        with self._lock:
            _, woken = self._shelf.leave(_now_ms(), key, id_, how, lease_ms)
        self._wake(woken, key)

    def _wake(self, channels: list[str], key: str) -> None:
        for channel in channels:
            if wake := self._listeners.get(channel):
                wake(key)

    def drop(self, key: str) -> None:
        """Delete an answer."""
        with self._lock:
            self._shelf.drop(key)

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the figures."""
        with self._lock:
            for name, n in counts.items():
                self._shelf.figures[name] = self._shelf.figures.get(name, 0) + n

    def listen(self, channel: str, wake: Wake) -> None:
        """Call `wake` with each key that comes on a channel."""
        self._listeners[channel] = wake
        wake("")

    def figures(self) -> dict[str, int]:
        """Return the counts."""
        return dict(self._shelf.figures)

    def scan(self) -> list[str]:
        """List whose answers are kept."""
        with self._lock:
            return self._shelf.keys()

    def sizes(self, keys: list[str]) -> list[int]:
        """Return the bytes of answers; 0 for those that are gone."""
        with self._lock:
            return [len(self._shelf.look(_now_ms(), key, 2**62)[0]) for key in keys]

    def clear_figures(self) -> None:
        """Begin to count anew."""
        self._shelf.figures.clear()

    def close(self) -> None:
        """Do nothing: the store lives as long as the process."""


class AsyncMemoryStore:
    """Give the in-process store the verbs of an asyncio one; nothing in it ever waits."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if name == "listen":
            return verb

        async def call(*arguments: Any) -> Any:
            return verb(*arguments)

        return call

    async def scan(self) -> AsyncIterator[str]:
        """List whose answers are kept."""
        for key in list(self._store.scan()):
            yield key


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
