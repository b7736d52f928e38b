"""The cache as its users see it, sync and async side by side."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

from limiter.cache import opening
from limiter.cache.driving import AsyncDriver, SyncDriver
from limiter.cache.entry import read
from limiter.cache.flights import Flight, Health
from limiter.cache.looking import Found, Serve
from limiter.cache.policy import Question
from limiter.cache.settings import Settings, settings_of, whose_name
from limiter.cache.stats import CacheStats, Stored
from limiter.errors import LimiterError


class _Door:
    """Hold what both kinds of cache know."""

    settings: Settings
    _url: Any

    def _driver_settings(self) -> dict[str, Any]:
        told = self.settings
        return {
            "lease_s": told.lease_s,
            "most": told.entry_bytes,
            "single_flight": told.single_flight,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.settings}>"


class Cache(_Door):
    """Answer what was asked before, and let one of many who ask the same go, for all processes.

    Safe to share between threads, and usable after a fork. It never raises on the way of a call: a store
    that is away is a miss.

    Args:
        url: a URL as a `Limiter` takes it, or a redis-py client. It may be another server than the
            limiter's, and should be one that evicts (`maxmemory-policy allkeys-lru`), which the limiter's
            must not. Without it: `LIMITER_CACHE_URL`, else an embedded server of its own for this user
            and machine: 256 MB, kept up for an hour.
        **options: by name:

            * ttl: seconds that an answer is kept (3,600), less up to a tenth, at random.
            * stale: seconds beyond that in which it is still served, while one call in the fleet gets a
              new one (0).
            * shared: all callers of a base URL share their answers. Otherwise only those with the same
              credential do.
            * namespace: a name instead of the credential.
            * deterministic: cache only what asks for temperature 0 or has a seed.
            * cacheable: a function `(request, answer) -> bool` that may forbid more: called with the body
              and None before the call, with both after it.
            * ignore: names of body fields and headers that change nothing; `*` stands for any text.
            * entry_bytes: what one answer may have (1 MiB).
            * compress_above: bytes from which on it is compressed (512).
            * single_flight: of many who ask the same at once, one goes (True).
            * lease: seconds of silence after which another goes instead (5).
            * timeout: seconds that the store may take for an answer (0.5).

    Raises:
        ConfigError: an argument is wrong, or rfc8785 is not installed.
    """

    def __init__(self, url: Any = None, **options: Any) -> None:
        self._adopt(url, settings_of(options), None)

    def _adopt(self, url: Any, settings: Settings, twin: AsyncCache | None) -> None:
        opening.check(url)
        self._url, self.settings, self._twin = url, settings, twin
        self._health = Health()
        self._begin()

    def _begin(self) -> None:
        self._driver: SyncDriver | None = None
        self._farewell: weakref.finalize[..., Cache] | None = None
        self._pid, self._lock = os.getpid(), threading.RLock()

    def _opened(self) -> SyncDriver | None:
        """Return the driver; None: there is no store to be had, which costs nothing for a while."""
        if self._driver is not None and self._pid == os.getpid():
            return self._driver
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if not self._health.may_ask(time.monotonic()):
                return None
            try:
                driver = self._open()
            except LimiterError as exc:
                self._health.failed(time.monotonic(), exc)
                return None
            self._health.fine()
        return driver

    def _open(self) -> SyncDriver:
        if self._pid != os.getpid():
            # A forked child is a process of its own: another owner, other connections.
            self._begin()
        if self._driver is None:
            with self._lock:
                if self._driver is None:
                    store = opening.sync_store(self._url, self.settings.timeout_s, id(self))
                    self._driver = SyncDriver(store, **self._driver_settings())
                    self._farewell = weakref.finalize(self, _close, self._driver, os.getpid())
        return self._driver

    def look(self, question: Question, serve: Serve) -> tuple[Found, Flight | None]:
        """Look for an answer, wait for it, or take the task of getting it.

        A hit is one packet; a miss is one round trip more. With a flight, call `fill` or `leave` in
        the end.

        Args:
            question: see `Settings.question`.
            serve: makes of an entry what is wanted; None: it will not do.
        """
        driver = self._opened()
        return (Found("alone"), None) if driver is None else driver.look(question, serve)

    def fill(self, flight: Flight, kind: str, data: Any, **more: Any) -> None:
        """Store the answer of a flight; one that is too large is as none. One round trip."""
        written = self.settings.written(flight.question, kind, data, **more)
        if (driver := self._opened()) is None:
            return
        if written is None:
            driver.figures.count("not_stored")
            driver.leave(flight, failed=True)
        else:
            driver.fill(flight, *written)

    def leave(self, flight: Flight, *, failed: bool = True) -> None:
        """End a flight without an answer: the next one tries. One round trip, if others may wait.

        Args:
            flight: of this cache.
            failed: the call did, or its answer may not be stored: the second time in a row nobody waits
                any more. False: the caller gave up.
        """
        if driver := self._opened():
            driver.leave(flight, failed=failed)

    def leave_now(self, flight: Flight) -> None:
        """End the flight of one who is interrupted."""
        self.leave(flight, failed=False)

    def leave_soon(self, flight: Flight) -> None:
        """End a flight from a finalizer."""
        # In a forked child the flight is still its parent's.
        if (driver := self._driver) and self._pid == os.getpid():
            driver.leave_soon(flight)

    def stats(self) -> CacheStats:
        """Return the counts of the whole fleet, up to a second ago; one round trip."""
        driver = self._open()
        driver.flush()
        return CacheStats.of(driver.store.figures())

    def keys(self) -> Iterator[str]:
        """List the keys of all answers; a scan."""
        yield from self._open().store.scan()

    def size(self) -> tuple[int, int]:
        """Return how many answers there are, and their bytes; a scan, and a packet for each 500."""
        store = self._open().store
        sizes = [n for part in _parts(list(store.scan())) for n in store.sizes(part) if n]
        return len(sizes), sum(sizes)

    def peek(self, key: str) -> Stored | None:
        """Return a stored answer as it is, for people; None: there is none that is whole."""
        stored, left_ms = self._open().store.look(key, self.settings.entry_bytes)
        return Stored.of(key, stored, left_ms, read(key, stored, self.settings.entry_bytes))

    def clear(self, namespace: str | None = None) -> int:
        """Delete all answers, or those of a namespace; return how many there were. The counts stay."""
        store, number = self._open().store, 0
        for key in list(store.scan()):
            if namespace is None or is_of(key, namespace):
                store.drop(key)
                number += 1
        return number

    def clear_stats(self) -> None:
        """Begin to count anew."""
        self._open().store.clear_figures()

    def as_sync(self) -> Cache:
        """Return this cache."""
        return self

    def as_async(self) -> AsyncCache:
        """Return the asyncio cache on the same store, with the same settings."""
        if self._twin is None:
            self._twin = AsyncCache.__new__(AsyncCache)
            self._twin._adopt(self._url, self.settings, self)  # noqa: SLF001 - its other half
        return self._twin

    def close(self) -> None:
        """Tell the counts, close the connections; the next use opens them again."""
        driver, self._driver = self._driver, None
        if self._farewell is not None:
            self._farewell.detach()
        if driver is not None and self._pid == os.getpid():
            driver.close()
            opening.leave(self._url, id(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


class AsyncCache(_Door):
    """The asyncio side of `Cache`: the same arguments and verbs. Each event loop has its connections."""

    def __init__(self, url: Any = None, **options: Any) -> None:
        self._adopt(url, settings_of(options), None)

    def _adopt(self, url: Any, settings: Settings, twin: Cache | None) -> None:
        opening.check(url)
        self._url, self.settings, self._twin = url, settings, twin
        self._drivers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncDriver] = (
            weakref.WeakKeyDictionary()
        )
        self._health = Health()

    async def _opened(self) -> AsyncDriver | None:
        """Return the loop's driver; None: see `Cache`."""
        if driver := self._drivers.get(asyncio.get_running_loop()):
            return driver
        if not self._health.may_ask(time.monotonic()):
            return None
        try:
            driver = await self._open()
        except LimiterError as exc:
            self._health.failed(time.monotonic(), exc)
            return None
        self._health.fine()
        return driver

    async def _open(self) -> AsyncDriver:
        loop = asyncio.get_running_loop()
        driver = self._drivers.get(loop)
        if driver is None:
            for each in [each for each in self._drivers if each.is_closed()]:
                self._drivers.pop(each, None)  # it holds its loop, which else would never go
            store = await opening.async_store(self._url, self.settings.timeout_s, id(self))
            driver = AsyncDriver(store, **self._driver_settings())
            driver = self._drivers.setdefault(loop, driver)
        return driver

    async def look(self, question: Question, serve: Serve) -> tuple[Found, Flight | None]:
        """Look for an answer, wait for it, or take the task of getting it; see `Cache.look`."""
        driver = await self._opened()
        return (Found("alone"), None) if driver is None else await driver.look(question, serve)

    async def fill(self, flight: Flight, kind: str, data: Any, **more: Any) -> None:
        """Store the answer of a flight; see `Cache.fill`."""
        written = self.settings.written(flight.question, kind, data, **more)
        if (driver := await self._opened()) is None:
            return
        if written is None:
            driver.figures.count("not_stored")
            await driver.leave(flight, failed=True)
        else:
            await driver.fill(flight, *written)

    async def leave(self, flight: Flight, *, failed: bool = True) -> None:
        """End a flight without an answer; see `Cache.leave`."""
        if driver := await self._opened():
            await driver.leave(flight, failed=failed)

    def leave_now(self, flight: Flight) -> None:
        """End the flight of one who is interrupted, without waiting."""
        if driver := self._drivers.get(asyncio.get_running_loop()):
            driver.leave_now(flight)

    def leave_soon(self, flight: Flight) -> None:
        """End a flight from a finalizer."""
        for driver in list(self._drivers.values()):
            driver.leave_soon(flight)

    async def stats(self) -> CacheStats:
        """Return the counts of the whole fleet; see `Cache.stats`."""
        driver = await self._open()
        await driver.flush()
        return CacheStats.of(await driver.store.figures())

    async def keys(self) -> AsyncIterator[str]:
        """List the keys of all answers; a scan."""
        async for key in (await self._open()).store.scan():
            yield key

    async def size(self) -> tuple[int, int]:
        """Return how many answers there are, and their bytes; see `Cache.size`."""
        store = (await self._open()).store
        found = [key async for key in store.scan()]
        sizes = [n for part in _parts(found) for n in await store.sizes(part) if n]
        return len(sizes), sum(sizes)

    async def peek(self, key: str) -> Stored | None:
        """Return a stored answer as it is; see `Cache.peek`."""
        stored, left_ms = await (await self._open()).store.look(key, self.settings.entry_bytes)
        return Stored.of(key, stored, left_ms, read(key, stored, self.settings.entry_bytes))

    async def clear(self, namespace: str | None = None) -> int:
        """Delete all answers, or those of a namespace; see `Cache.clear`."""
        store, number = (await self._open()).store, 0
        for key in [key async for key in store.scan()]:
            if namespace is None or is_of(key, namespace):
                await store.drop(key)
                number += 1
        return number

    async def clear_stats(self) -> None:
        """Begin to count anew."""
        await (await self._open()).store.clear_figures()

    def as_async(self) -> AsyncCache:
        """Return this cache."""
        return self

    def as_sync(self) -> Cache:
        """Return the sync cache on the same store, with the same settings."""
        if self._twin is None:
            self._twin = Cache.__new__(Cache)
            self._twin._adopt(self._url, self.settings, self)  # noqa: SLF001 - its other half
        return self._twin

    async def aclose(self) -> None:
        """Tell the counts, close the connections of this event loop."""
        driver = self._drivers.pop(asyncio.get_running_loop(), None)
        if driver is not None:
            await driver.close()
            opening.leave(self._url, id(self))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.aclose()


def is_of(key: str, namespace: str) -> bool:
    """Say whether a key is of a namespace: as keys have it, or as `namespace=` was given."""
    return key.partition(":")[0] in (namespace, whose_name(namespace))


def _parts(keys: list[str]) -> list[list[str]]:
    return [keys[at : at + 500] for at in range(0, len(keys), 500)]


def _close(driver: SyncDriver, pid: int) -> None:
    """Close what a cache has left open that nobody closed; also at the end of the process."""
    if os.getpid() == pid:
        driver.close()
