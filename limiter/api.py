"""The limiter as its users see it: sync and async classes side by side, the same verbs.

Everything is decided in `core` and done in `shells`; a verb here checks its arguments, picks the
operation, and hands it to a driver.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from limiter.core import ops
from limiter.core.quota import Quota, check_cost
from limiter.errors import ConfigError
from limiter.reservation import AsyncReservation, Reservation
from limiter.shells import connect, opening
from limiter.shells.aio import AsyncShell
from limiter.shells.sync import SyncShell
from limiter.status import QuotaStatus

Cost = Mapping[str, int] | int | None

LEASE_S = 30.0
STORE_TIMEOUT_S = 10.0
_ROUND_TRIP_S = 5.0


def _amounts(cost: Cost, dims: Mapping[str, int]) -> dict[str, int]:
    given = {"tokens": cost} if isinstance(cost, int) else cost or {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"A cost is a mapping of dimensions, or a number of tokens; got {cost!r:.60}."
        )
    return check_cost({**given, **dims})


def _patience(timeout: float | None) -> float | None:
    if timeout is not None and (isinstance(timeout, bool) or not timeout >= 0):
        raise ConfigError(f"timeout is seconds from 0 on, or None to wait; got {timeout!r:.40}.")
    return timeout


class _Settings:
    """Hold what a limiter was made with; no I/O happens before its first use."""

    def __init__(
        self, url: Any, quotas: Iterable[Quota], lease: float, store_timeout: float
    ) -> None:
        self.url = os.environ.get("LIMITER_URL") or None if url is None else url
        if isinstance(self.url, str):
            connect.scheme(self.url)
        if not 1 <= lease <= 3600:
            raise ConfigError(f"lease is 1 to 3600 seconds, got {lease!r:.40}.")
        if not 0 < store_timeout <= 3600:
            raise ConfigError(
                f"store_timeout is above 0 and at most 3600 seconds, got {store_timeout!r:.40}."
            )
        self.lease_s, self.store_timeout_s = float(lease), float(store_timeout)
        self.quotas: dict[str, Quota] = {}
        for quota in quotas:
            self.add(quota)

    def add(self, quota: Quota) -> None:
        if not isinstance(quota, Quota):
            raise ConfigError(f"quotas= takes Quota objects, got {quota!r:.60}.")
        if self.quotas.setdefault(quota.name, quota) != quota:
            raise ConfigError(f"The quota {quota.name!r} is given twice, with different limits.")

    def open_sync(self, user: int) -> SyncShell:
        store = opening.sync_store(self.url, self._round_trip_s, user)
        return SyncShell(store, self.quotas, lease_s=self.lease_s, patience_s=self.store_timeout_s)

    async def open_async(self, user: int) -> AsyncShell:
        store = await opening.async_store(self.url, self._round_trip_s, user)
        return AsyncShell(store, self.quotas, lease_s=self.lease_s, patience_s=self.store_timeout_s)

    @property
    def _round_trip_s(self) -> float:
        return min(_ROUND_TRIP_S, self.store_timeout_s)


class Limiter:
    """Put one fair line in front of each quota, for all processes that share its store.

    Safe to share between threads, and usable after a fork.

    Args:
        url: `redis://`, `rediss://`, `unix://`, `redis+sentinel://host:port/service`,
            `redis+cluster://`, `memory://`, or a redis-py client. Without it: `LIMITER_URL`, else
            the embedded server of this user and machine.
        quotas: what to declare when it is used first. A quota that was declared elsewhere needs no
            mention.
        lease: seconds of silence after which a process is taken for lost and its slots and
            tickets go to the others.
        store_timeout: seconds that an operation goes on asking a store that does not answer.

    Raises:
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        url: Any = None,
        *,
        quotas: Iterable[Quota] = (),
        lease: float = LEASE_S,
        store_timeout: float = STORE_TIMEOUT_S,
    ) -> None:
        self._adopt(_Settings(url, quotas, lease, store_timeout), None)

    def _adopt(self, settings: _Settings, twin: AsyncLimiter | None) -> None:
        self._settings = settings
        self._twin = twin
        self._shell: SyncShell | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @property
    def quotas(self) -> Mapping[str, Quota]:
        """Return the quotas that this limiter declares, by name."""
        return self._settings.quotas

    def declare(self, quota: Quota) -> None:
        """Add a quota to those that are declared when first used; no round trip."""
        self._settings.add(quota)

    def _open(self) -> SyncShell:
        if self._pid != os.getpid():
            # A forked child is a process of its own: another owner, other connections.
            self._shell, self._pid, self._lock = None, os.getpid(), threading.Lock()
        if self._shell is None:
            with self._lock:
                self._shell = self._shell or self._settings.open_sync(id(self))
        return self._shell

    def acquire(
        self, quota: str, cost: Cost = None, *, timeout: float | None = None, **dims: int
    ) -> Reservation:
        """Reserve a cost on every limit of a quota at once, waiting in the fleet's line for it.

        One round trip when nobody is ahead and the cost fits.

        Args:
            quota: its name.
            cost: amounts by dimension, or a number of tokens. A call takes one request and one
                slot of concurrency unless it says otherwise. Dimensions that the quota does not
                limit are ignored.
            timeout: seconds to wait at most; 0: not at all; None: as long as it takes.
            **dims: amounts by dimension, as `tokens=1_200`.

        Raises:
            NeverFits: the cost is above what a limit can ever grant.
            WaitTimeout: the time is over; nothing is left behind.
            ConfigError: the quota is not declared, or an argument is wrong.
            StoreError: the store does not answer.
        """
        amounts, timeout_s = _amounts(cost, dims), _patience(timeout)
        shell = self._open()
        lane = shell.lane(quota)
        request = shell.run(lane, ops.acquire_gen(lane.line, amounts, timeout_s), timeout_s)
        return Reservation(shell, lane, request)

    def reserve(
        self, quota: str, cost: Cost = None, *, timeout: float | None = None, **dims: int
    ) -> Reserving:
        """Return a context manager that acquires on entry; see `acquire`.

        Leaving it without `settle()` counts the estimate as used and warns. An exception settles
        by what it says was used: nothing when the call was never sent, else what providers count.
        """
        return Reserving(self, quota, _amounts(cost, dims), _patience(timeout))

    def peek(self, quota: str) -> QuotaStatus:
        """Return a quota's levels, tickets and reservations now; one round trip, nothing taken."""
        return QuotaStatus.of(*self._open().observe(quota))

    def quota_names(self) -> list[str]:
        """List the quotas that are declared in the store; a scan of its keys."""
        return self._open().store.names()

    def as_sync(self) -> Limiter:
        """Return this limiter."""
        return self

    def as_async(self) -> AsyncLimiter:
        """Return the asyncio limiter on the same store and quotas."""
        if self._twin is None:
            self._twin = AsyncLimiter.__new__(AsyncLimiter)
            self._twin._adopt(self._settings, self)  # noqa: SLF001 - its other half
        return self._twin

    def http_client(self, **settings: Any) -> Any:
        """Return an HTTP client for `OpenAI(http_client=…)` whose every call is limited."""
        from limiter import transport

        return transport.http_client(self, **settings)

    def instrument(self, client: Any, **settings: Any) -> Any:
        """Limit every call of an OpenAI client that exists already; return the client."""
        from limiter import transport

        return transport.instrument(client, self, **settings)

    def close(self) -> None:
        """Send what is left, stop the threads, close the connections. It may be used again."""
        if self._shell is not None and self._pid == os.getpid():
            shell, self._shell = self._shell, None
            shell.close()
            opening.leave(self._settings.url, id(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


class Reserving:
    """Acquire on entry, see to the settling on exit."""

    def __init__(
        self, limiter: Limiter, quota: str, amounts: dict[str, int], timeout_s: float | None
    ) -> None:
        self._limiter = limiter
        self._asked = (quota, amounts, timeout_s)
        self._reservation: Reservation | None = None

    def __enter__(self) -> Reservation:
        quota, amounts, timeout_s = self._asked
        self._reservation = self._limiter.acquire(quota, amounts, timeout=timeout_s)
        return self._reservation

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._reservation is not None
        self._reservation.__exit__(kind, error, trace)


class AsyncLimiter:
    """The asyncio side of `Limiter`: the same arguments, verbs and errors.

    It may be used from several event loops; each is an owner of its own.
    """

    def __init__(
        self,
        url: Any = None,
        *,
        quotas: Iterable[Quota] = (),
        lease: float = LEASE_S,
        store_timeout: float = STORE_TIMEOUT_S,
    ) -> None:
        self._adopt(_Settings(url, quotas, lease, store_timeout), None)

    def _adopt(self, settings: _Settings, twin: Limiter | None) -> None:
        self._settings = settings
        self._twin = twin
        self._shells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncShell] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def quotas(self) -> Mapping[str, Quota]:
        """Return the quotas that this limiter declares, by name."""
        return self._settings.quotas

    def declare(self, quota: Quota) -> None:
        """Add a quota to those that are declared when first used; no round trip."""
        self._settings.add(quota)

    async def _open(self) -> AsyncShell:
        loop = asyncio.get_running_loop()
        shell = self._shells.get(loop)
        if shell is None:
            shell = await self._settings.open_async(id(self))
            shell = self._shells.setdefault(loop, shell)
        return shell

    async def acquire(
        self, quota: str, cost: Cost = None, *, timeout: float | None = None, **dims: int
    ) -> AsyncReservation:
        """Reserve a cost on every limit of a quota at once; see `Limiter.acquire`."""
        amounts, timeout_s = _amounts(cost, dims), _patience(timeout)
        shell = self._shells.get(asyncio.get_running_loop()) or await self._open()
        lane = shell.ready(quota) or await shell.lane(quota)
        request = await shell.run(lane, ops.acquire_gen(lane.line, amounts, timeout_s), timeout_s)
        return AsyncReservation(shell, lane, request)

    def reserve(
        self, quota: str, cost: Cost = None, *, timeout: float | None = None, **dims: int
    ) -> AsyncReserving:
        """Return an async context manager that acquires on entry; see `Limiter.reserve`."""
        return AsyncReserving(self, quota, _amounts(cost, dims), _patience(timeout))

    async def peek(self, quota: str) -> QuotaStatus:
        """Return a quota's levels, tickets and reservations now; one round trip, nothing taken."""
        return QuotaStatus.of(*await (await self._open()).observe(quota))

    async def quota_names(self) -> list[str]:
        """List the quotas that are declared in the store; a scan of its keys."""
        return await (await self._open()).store.names()

    def as_async(self) -> AsyncLimiter:
        """Return this limiter."""
        return self

    def as_sync(self) -> Limiter:
        """Return the sync limiter on the same store and quotas."""
        if self._twin is None:
            self._twin = Limiter.__new__(Limiter)
            self._twin._adopt(self._settings, self)  # noqa: SLF001 - its other half
        return self._twin

    def http_client(self, **settings: Any) -> Any:
        """Return an HTTP client for `AsyncOpenAI(http_client=…)` whose every call is limited."""
        from limiter import transport

        return transport.http_client(self, **settings)

    def instrument(self, client: Any, **settings: Any) -> Any:
        """Limit every call of an AsyncOpenAI client that exists already; return the client."""
        from limiter import transport

        return transport.instrument(client, self, **settings)

    async def aclose(self) -> None:
        """Send what is left, stop the tasks, close the connections of this event loop."""
        shell = self._shells.pop(asyncio.get_running_loop(), None)
        if shell is not None:
            await shell.close()
            opening.leave(self._settings.url, id(self))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.aclose()


class AsyncReserving:
    """Acquire on entry, see to the settling on exit."""

    def __init__(
        self, limiter: AsyncLimiter, quota: str, amounts: dict[str, int], timeout_s: float | None
    ) -> None:
        self._limiter = limiter
        self._asked = (quota, amounts, timeout_s)
        self._reservation: AsyncReservation | None = None

    async def __aenter__(self) -> AsyncReservation:
        quota, amounts, timeout_s = self._asked
        self._reservation = await self._limiter.acquire(quota, amounts, timeout=timeout_s)
        return self._reservation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._reservation is not None
        await self._reservation.__aexit__(kind, error, trace)
