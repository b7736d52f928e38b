"""The limiter as its users see it: sync and async classes side by side, the same verbs.

Everything is decided in `core` and done in `shells`; a verb here checks its arguments, picks the
operation, and hands it to a driver.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from limiter.acquiring import Acquiring, AsyncAcquiring
from limiter.asking import LEASE_S, STORE_TIMEOUT_S, AnyOf, Cost, Names, Settings, Wish
from limiter.core import layout
from limiter.core.quota import Quota
from limiter.errors import LineFull, WaitTimeout
from limiter.reservation import AsyncReservation, Reservation
from limiter.reserving import AsyncReserving, Reserving
from limiter.shells import opening
from limiter.status import Declaration, QuotaStatus
from limiter.tickets import AsyncTicket, Ticket

if TYPE_CHECKING:
    from limiter.cache.api import AsyncCache, Cache


class Limiter(Acquiring):
    """Put one fair line in front of each quota, for all processes that share its store.

    Safe to share between threads, and usable after a fork.

    Args:
        url: `redis://`, `rediss://`, `unix://`, `redis+sentinel://host:port/service`,
            `redis+cluster://`, `memory://`, or a redis-py client. Without it: `LIMITER_URL`, else
            the embedded server of this user and machine.
        quotas: what to declare when it is used first. A quota that was declared elsewhere needs no
            mention, unless it belongs to a group.
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
        self._adopt(Settings.of(url, quotas, lease, store_timeout), None)

    def set_quota(self, quota: Quota) -> None:
        """Declare a quota centrally, for everybody and for good; two round trips.

        What stands in the store then wins over what programs declare, and reaches every running
        process with its next batch. What was used of a limit stays used.
        """
        self._open().set_quota(quota)

    def get_quota(self, quota: str) -> Quota | None:
        """Return what the store says a quota is, None where nobody has declared it.

        One round trip; nothing is declared by it. A quota of a group is found where this limiter
        declares it with its group, and by `declarations`.
        """
        declared = self._declared(self._settings.unit_of(quota))
        return next((each.quota for each in declared if each.quota.name == quota), None)

    def declarations(self) -> list[Declaration]:
        """List all quotas that the store knows; a scan of its keys, and a round trip for each unit."""
        return [each for unit in self.quota_names() for each in self._declared(unit)]

    def _declared(self, unit: str) -> list[Declaration]:
        return Declaration.of(unit, self._open().store.read(layout.keys(unit)))

    def acquire(
        self,
        quota: Names = (),
        cost: Cost = None,
        *,
        any_of: AnyOf | None = None,
        timeout: float | None = None,
        priority: str | None = None,
        tenant: str | None = None,
        fail_fast: bool = True,
        repeats: bool = False,
        **dims: int,
    ) -> Reservation:
        """Reserve a cost on every limit of a quota at once, waiting in the fleet's line for it.

        One round trip when nobody is ahead and the cost fits.

        Args:
            quota: its name; several names of one group: from all of them, or from none.
            cost: amounts by dimension, or a number of tokens. A call takes one request and one
                slot of concurrency unless it says otherwise. Dimensions that the quota does not
                limit are ignored.
            any_of: instead of `quota`: take the one that grants first. A list is tried in its order,
                a mapping by its weights; one whose calls failed of late comes last. One round trip
                for each that does not grant at once, then one line for each.
            timeout: seconds to wait at most; 0: not at all; None: what the priority says, else as
                long as it takes; math.inf: as long as it takes.
            priority: one that the quota declares; None: `default`.
            tenant: on whose behalf; tenants of a priority share what there is by their weights.
            fail_fast: fail at once when the wait is expected to be longer than `timeout`. Turn it
                off where estimates are too high, so that refunds shorten most waits.
            repeats: it repeats a call that failed. Repeats may be a fifth of all calls of the fleet, and
                one a second besides.
            **dims: amounts by dimension, as `tokens=1_200`.

        Raises:
            NeverFits: the cost is above what a limit can ever grant.
            LineFull: as many calls of this priority wait as may.
            WaitTimeout: the time is over, or it will be; nothing is left behind.
            CircuitOpen: calls on the quota fail one after the other, whoever makes them.
            RetriesSpent: it repeats one that failed, and too many do.
            ConfigError: the quota is not declared, or an argument is wrong.
            StoreError: the store does not answer.
        """
        wish = Wish.of(cost, dims, timeout, priority, tenant, fail_fast=fail_fast, repeats=repeats)
        if any_of is not None:
            return self._acquire_any(any_of, wish)
        return self._acquire(self._settings.ask(quota, wish))

    def try_acquire(
        self,
        quota: Names = (),
        cost: Cost = None,
        *,
        any_of: AnyOf | None = None,
        priority: str | None = None,
        tenant: str | None = None,
        **dims: int,
    ) -> Reservation | None:
        """Reserve a cost if it is to be had now, without waiting; else return None.

        One round trip. Arguments and errors are those of `acquire`.
        """
        wish = Wish.of(cost, dims, 0, priority, tenant, fail_fast=False)
        try:
            return self._take(quota, any_of, wish)
        except (LineFull, WaitTimeout):
            return None

    def ticket(
        self,
        quota: Names,
        cost: Cost = None,
        *,
        timeout: float | None = None,
        priority: str | None = None,
        tenant: str | None = None,
        fail_fast: bool = True,
        **dims: int,
    ) -> Ticket:
        """Take a place in the line and return at once, with the position and the expected wait.

        One round trip. Arguments are those of `acquire`; what it would raise, `wait()` raises.
        """
        wish = Wish.of(cost, dims, timeout, priority, tenant, fail_fast=fail_fast)
        shell, (lane, request, timeout_s) = (
            self._open(),
            self._submit(self._settings.ask(quota, wish)),
        )
        return Ticket(shell, lane, request, timeout_s).look()

    def reserve(
        self,
        quota: Names = (),
        cost: Cost = None,
        *,
        any_of: AnyOf | None = None,
        timeout: float | None = None,
        priority: str | None = None,
        tenant: str | None = None,
        fail_fast: bool = True,
        cache: Cache | AsyncCache | None = None,
        body: Mapping[str, Any] | None = None,
        **dims: int,
    ) -> Reserving:
        """Return a context manager that acquires on entry; see `acquire`.

        Leaving it without `settle()` counts the estimate as used and warns. An exception settles
        by what it says was used: nothing when the call was never sent, else what providers count.

        With `cache=` (a `limiter.cache.Cache`) and `body=` (of the call that is going to be made),
        `r.answer` is what a block settled with that asked the same, and nothing is taken; where it is
        None the call is to be made. Of many who ask the same at once, one makes it.
        """
        wish = Wish.of(cost, dims, timeout, priority, tenant, fail_fast=fail_fast)
        keeping = self._keeping(cache, body, quota, wish, is_async=False)
        return Reserving(quota, lambda watch: self._take(quota, any_of, wish, watch), keeping)

    def peek(self, quota: str) -> QuotaStatus:
        """Return a quota's levels, tickets and reservations now; one round trip, nothing taken."""
        return QuotaStatus.of(quota, *self._open().observe(self._settings.unit_of(quota), quota))

    def quota_names(self) -> list[str]:
        """List the units (quotas, and groups of them) declared in the store; a scan of its keys."""
        return self._open().store.names()

    def as_sync(self) -> Limiter:
        """Return this limiter."""
        return self

    def as_async(self) -> AsyncLimiter:
        """Return the asyncio limiter on the same store and quotas."""
        if self._twin is None:
            self._twin = AsyncLimiter.__new__(AsyncLimiter)
            self._twin._adopt(self._settings, self)  # noqa: SLF001 - its other half
        twin: AsyncLimiter = self._twin
        return twin

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


class AsyncLimiter(AsyncAcquiring):
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
        self._adopt(Settings.of(url, quotas, lease, store_timeout), None)

    async def set_quota(self, quota: Quota) -> None:
        """Declare a quota centrally; see `Limiter.set_quota`."""
        await (await self._open()).set_quota(quota)

    async def get_quota(self, quota: str) -> Quota | None:
        """Return what the store says a quota is; see `Limiter.get_quota`."""
        declared = await self._declared(self._settings.unit_of(quota))
        return next((each.quota for each in declared if each.quota.name == quota), None)

    async def declarations(self) -> list[Declaration]:
        """List all quotas that the store knows; see `Limiter.declarations`."""
        return [each for u in await self.quota_names() for each in await self._declared(u)]

    async def _declared(self, unit: str) -> list[Declaration]:
        return Declaration.of(unit, await (await self._open()).store.read(layout.keys(unit)))

    async def acquire(
        self,
        quota: Names = (),
        cost: Cost = None,
        *,
        any_of: AnyOf | None = None,
        timeout: float | None = None,
        priority: str | None = None,
        tenant: str | None = None,
        fail_fast: bool = True,
        repeats: bool = False,
        **dims: int,
    ) -> AsyncReservation:
        """Reserve a cost on every limit of a quota at once; see `Limiter.acquire`."""
        wish = Wish.of(cost, dims, timeout, priority, tenant, fail_fast=fail_fast, repeats=repeats)
        if any_of is not None:
            return await self._acquire_any(any_of, wish)
        return await self._acquire(self._settings.ask(quota, wish))

    async def try_acquire(
        self,
        quota: Names = (),
        cost: Cost = None,
        *,
        any_of: AnyOf | None = None,
        priority: str | None = None,
        tenant: str | None = None,
        **dims: int,
    ) -> AsyncReservation | None:
        """Reserve a cost if it is to be had now, else return None; see `Limiter.try_acquire`."""
        wish = Wish.of(cost, dims, 0, priority, tenant, fail_fast=False)
        try:
            return await self._take(quota, any_of, wish)
        except (LineFull, WaitTimeout):
            return None

    async def ticket(
        self,
        quota: Names,
        cost: Cost = None,
        *,
        timeout: float | None = None,
        priority: str | None = None,
        tenant: str | None = None,
        fail_fast: bool = True,
        **dims: int,
    ) -> AsyncTicket:
        """Take a place in the line and return at once; see `Limiter.ticket`."""
        wish = Wish.of(cost, dims, timeout, priority, tenant, fail_fast=fail_fast)
        shell = await self._open()
        lane, request, timeout_s = await self._submit(self._settings.ask(quota, wish))
        return await AsyncTicket(shell, lane, request, timeout_s).look()

    def reserve(
        self,
        quota: Names = (),
        cost: Cost = None,
        *,
        any_of: AnyOf | None = None,
        timeout: float | None = None,
        priority: str | None = None,
        tenant: str | None = None,
        fail_fast: bool = True,
        cache: Cache | AsyncCache | None = None,
        body: Mapping[str, Any] | None = None,
        **dims: int,
    ) -> AsyncReserving:
        """Return an async context manager that acquires on entry; see `Limiter.reserve`."""
        wish = Wish.of(cost, dims, timeout, priority, tenant, fail_fast=fail_fast)
        keeping = self._keeping(cache, body, quota, wish, is_async=True)
        return AsyncReserving(quota, lambda watch: self._take(quota, any_of, wish, watch), keeping)

    async def peek(self, quota: str) -> QuotaStatus:
        """Return a quota's levels, tickets and reservations now; one round trip, nothing taken."""
        shell = await self._open()
        return QuotaStatus.of(quota, *await shell.observe(self._settings.unit_of(quota), quota))

    async def quota_names(self) -> list[str]:
        """List the units (quotas, and groups of them) declared in the store; a scan of its keys."""
        return await (await self._open()).store.names()

    def as_async(self) -> AsyncLimiter:
        """Return this limiter."""
        return self

    def as_sync(self) -> Limiter:
        """Return the sync limiter on the same store and quotas."""
        if self._twin is None:
            self._twin = Limiter.__new__(Limiter)
            self._twin._adopt(self._settings, self)  # noqa: SLF001 - its other half
        twin: Limiter = self._twin
        return twin

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
