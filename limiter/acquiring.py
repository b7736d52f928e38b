"""How the verbs of a limiter are carried out, sync and async side by side; `api` names and checks them."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from limiter.asking import AnyOf, Ask, Names, Settings, Wish
from limiter.choosing import AVOID_S, soonest
from limiter.core import ops
from limiter.core.quota import Quota
from limiter.core.request import Request
from limiter.core.sketch import OutputKey
from limiter.errors import LimitExceeded
from limiter.reservation import AsyncReservation, Reservation
from limiter.shells import aio, sync
from limiter.shells.memory import now_us
from limiter.tickets import first_granted, first_granted_async

Watch = Callable[[Request], None] | None


class _Door:
    """Hold what both kinds of limiter can do without waiting."""

    _settings: Settings

    @property
    def quotas(self) -> Mapping[str, Quota]:
        """Return the quotas that this limiter declares, by name."""
        return self._settings.quotas

    def declare(self, quota: Quota) -> None:
        """Add a quota to those that are declared when first used; no round trip."""
        self._settings.add(quota)

    def avoid(self, quota: str, seconds: float = AVOID_S) -> None:
        """Let a quota come last in `any_of=` for a while, in this process; 0 ends it."""
        self._settings.choices.avoid(quota, seconds)

    def expected_output(self, quota: str, key: OutputKey) -> int | None:
        """Return how long an answer to a call on a quota becomes, in tokens; None: not known.

        By what the fleet has seen, without waiting: a process that has never asked knows it one
        round trip later. See `Reservation.record_output`.
        """
        return self._settings.forecasts_of(quota).expected(key, now_us())

    def _keeping(self, cache: Any, body: Any, quota: Names, wish: Wish, *, is_async: bool) -> Any:
        """Return what asks the cache before a reservation; None: there is no cache.

        It waits there as it would in line, and for no call that is less urgent.
        """
        if cache is None and body is None:
            return None
        from limiter.cache import keeping

        keeping.check(cache, body)
        declared = self.quotas.get(quota if isinstance(quota, str) else next(iter(quota), ""))
        policy = declared.policy(wish.priority) if declared else None
        rank = policy.level if policy else 0
        patience_s = policy.timeout if policy and wish.timeout_s is None else wish.timeout_s
        question = keeping.question_of(cache.settings, body, wish.tenant, rank, patience_s)
        if is_async:
            return keeping.AsyncKeeping(cache.as_async(), question)
        return keeping.Keeping(cache.as_sync(), question)

    def http_client(self, **settings: Any) -> Any:
        """Return an HTTP client for `OpenAI(http_client=…)` whose every call is limited.

        Of an `AsyncLimiter`: for `AsyncOpenAI`. See `limiter.transport.http_client`.
        """
        from limiter import transport

        return transport.http_client(self, **settings)  # type: ignore[arg-type]  # both kinds

    def instrument(self, client: Any, **settings: Any) -> Any:
        """Limit every call of an OpenAI client that exists already; return the client."""
        from limiter import transport

        return transport.instrument(client, self, **settings)  # type: ignore[arg-type]  # both


class Acquiring(_Door):
    """Carry out what is asked of a `Limiter`."""

    def _adopt(self, settings: Settings, twin: Any) -> None:
        self._settings = settings
        self._twin = twin
        self._shell: sync.SyncShell | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def _open(self) -> sync.SyncShell:
        if self._pid != os.getpid():
            # A forked child is a process of its own: another owner, other connections.
            self._shell, self._pid, self._lock = None, os.getpid(), threading.Lock()
        if self._shell is None:
            with self._lock:
                self._shell = self._shell or self._settings.open_sync(id(self))
        return self._shell

    def _take(
        self, quota: Names, any_of: AnyOf | None, wish: Wish, watch: Watch = None
    ) -> Reservation:
        if any_of is None:
            return self._acquire(self._settings.ask(quota, wish), watch)
        return self._acquire_any(any_of, wish)

    def _acquire(self, ask: Ask, watch: Watch = None) -> Reservation:
        shell = self._open()
        lane = shell.lane(ask.unit)
        asking, timeout_s = ask.under(lane.line.definition)
        request = ops.ask(lane.line, ask.amounts, asking)
        if watch:
            watch(request)
        steps = ops.wait_gen(lane.line, request, timeout_s)
        return Reservation(shell, lane, shell.run(lane, steps, timeout_s))

    def _submit(self, ask: Ask) -> tuple[sync.Lane, Request, float | None]:
        """Take a place in the line; say how long it may be kept."""
        shell = self._open()
        lane = shell.lane(ask.unit)
        asking, timeout_s = ask.under(lane.line.definition)
        return lane, shell.submit(lane, ask.amounts, asking), timeout_s

    def _acquire_any(self, any_of: AnyOf, wish: Wish) -> Reservation:
        """Take the first that grants at once; else stand in the line of each."""
        choices = self._settings.choices
        names, reasons = choices.order(any_of), list[LimitExceeded]()
        for name in names:
            try:
                return self._acquire(self._settings.ask(name, wish.at_once())).chosen_by(choices)
            except LimitExceeded as exc:
                reasons.append(exc)
        if wish.timeout_s == 0:
            raise soonest(reasons)
        asks = [self._settings.ask(name, wish) for name in choices.to_wait_for(names)]
        return first_granted(self._open(), map(self._submit, asks)).chosen_by(choices)


class AsyncAcquiring(_Door):
    """Carry out what is asked of an `AsyncLimiter`."""

    def _adopt(self, settings: Settings, twin: Any) -> None:
        self._settings = settings
        self._twin = twin
        self._shells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, aio.AsyncShell] = (
            weakref.WeakKeyDictionary()
        )

    async def _open(self) -> aio.AsyncShell:
        loop = asyncio.get_running_loop()
        shell = self._shells.get(loop)
        if shell is None:
            shell = await self._settings.open_async(id(self))
            shell = self._shells.setdefault(loop, shell)
        return shell

    async def _take(
        self, quota: Names, any_of: AnyOf | None, wish: Wish, watch: Watch = None
    ) -> AsyncReservation:
        if any_of is None:
            return await self._acquire(self._settings.ask(quota, wish), watch)
        return await self._acquire_any(any_of, wish)

    async def _acquire(self, ask: Ask, watch: Watch = None) -> AsyncReservation:
        shell = self._shells.get(asyncio.get_running_loop()) or await self._open()
        lane = shell.ready(ask.unit) or await shell.lane(ask.unit)
        asking, timeout_s = ask.under(lane.line.definition)
        request = ops.ask(lane.line, ask.amounts, asking)
        if watch:
            watch(request)
        steps = ops.wait_gen(lane.line, request, timeout_s)
        return AsyncReservation(shell, lane, await shell.run(lane, steps, timeout_s))

    async def _submit(self, ask: Ask) -> tuple[aio.Lane, Request, float | None]:
        """Take a place in the line; say how long it may be kept."""
        shell = await self._open()
        lane = await shell.lane(ask.unit)
        asking, timeout_s = ask.under(lane.line.definition)
        return lane, shell.submit(lane, ask.amounts, asking), timeout_s

    async def _acquire_any(self, any_of: AnyOf, wish: Wish) -> AsyncReservation:
        """Take the first that grants at once; else stand in the line of each."""
        choices = self._settings.choices
        names, reasons = choices.order(any_of), list[LimitExceeded]()
        for name in names:
            try:
                ask = self._settings.ask(name, wish.at_once())
                return (await self._acquire(ask)).chosen_by(choices)
            except LimitExceeded as exc:
                reasons.append(exc)
        if wish.timeout_s == 0:
            raise soonest(reasons)
        asks = [self._settings.ask(name, wish) for name in choices.to_wait_for(names)]
        waits = (await self._submit(ask) for ask in asks)
        return (await first_granted_async(await self._open(), waits)).chosen_by(choices)
