"""Tickets: a call that stands in the line while its caller does something else.

    ticket = limiter.ticket("gpt-4o", tokens=1_200, priority="batch")
    print(ticket.position, ticket.eta_s)
    with ticket.wait(timeout=60) as r: …

Sync and async side by side.
"""

from __future__ import annotations

import _thread
import contextlib
import time
from collections.abc import AsyncIterable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeGuard

from limiter.choosing import soonest
from limiter.core import ops
from limiter.core.layout import Status
from limiter.core.request import Request
from limiter.errors import LimitExceeded
from limiter.reservation import AsyncReservation, Reservation
from limiter.shells.memory import now_us

if TYPE_CHECKING:
    from limiter.shells import aio, sync


class _Standing:
    """Hold what both kinds of ticket know."""

    def __init__(self, shell: Any, lane: Any, request: Request, timeout_s: float | None) -> None:
        self._shell, self._lane, self._request = shell, lane, request
        self._deadline = _deadline(timeout_s)
        self._timeout_s = timeout_s
        self._over = False

    @property
    def granted(self) -> bool:
        """Say whether it was granted; `wait()` returns the reservation at once then."""
        return self._request.done and self._request.status == Status.GRANTED

    @property
    def position(self) -> int:
        """Return its place in the line, 1 for the next one; 0: it waits no more.

        As of the last answer of the store; `look()` asks it. Tickets of other tenants that will be
        served in between are counted as the fair order has them.
        """
        return position(self._request)

    @property
    def eta_s(self) -> float:
        """Return the seconds until it is granted at the latest, by what is known now; 0.0: it is.

        By the rates, and the estimates of those before it: refunds and tickets that leave shorten
        it, debts and calls of higher priority that come later lengthen it. Slots of a concurrency
        limit are not foreseen.
        """
        return eta_s(self._request)

    def _left_s(self, timeout: float | None) -> float | None:
        left_s = _until(self._deadline)
        if left_s is None or timeout is None:
            return timeout if left_s is None else left_s
        return min(left_s, timeout)

    def __repr__(self) -> str:
        name = self._lane.line.definition.name
        state = "granted" if self.granted else f"position {self.position}, {self.eta_s:.3g} s"
        return f"<{type(self).__name__} {name!r} {self._lane.line.owner}:{self._request.n} {state}>"


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def position(request: Request) -> int:
    """Return a request's place in its line as it was last told; 0: it waits no more, or not yet."""
    waits = request.status == Status.WAITING and not request.done
    return request.ahead + 1 if waits else 0


def eta_s(request: Request) -> float:
    """Return what is left of a request's expected wait."""
    if request.done or not request.heard_us:
        return 0.0
    return max(0, request.wait_us - (now_us() - request.heard_us)) / 1e6


class Ticket(_Standing):
    """Hold a call that waits, or was granted and is not yet picked up; one that is dropped leaves.

    Attributes:
        granted, position, eta_s: where it stands.
    """

    _shell: sync.SyncShell
    _lane: sync.Lane

    def look(self) -> Self:
        """Ask the store where it stands; one round trip."""
        if not self._request.done:
            self._shell.run(self._lane, ops.look_gen(self._request.n))
        return self

    def wait(self, timeout: float | None = None) -> Reservation:
        """Wait for the reservation; no round trip where it was granted already.

        Args:
            timeout: seconds from now; None: what the ticket was made with.

        Raises:
            WaitTimeout: the time is over; the ticket has left the line.
            NeverFits, LineFull, StoreError: as `Limiter.acquire`.
        """
        self._over = True
        left_s = self._left_s(timeout)
        steps = ops.wait_gen(self._lane.line, self._request, self._timeout_s or timeout)
        return Reservation(self._shell, self._lane, self._shell.run(self._lane, steps, left_s))

    def cancel(self) -> None:
        """Leave the line; what was granted and not picked up goes back."""
        if not self._over:
            self._over = True
            self._shell.abandon(self._lane, self._request)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.cancel()

    def __del__(self) -> None:
        if not self._over:
            with contextlib.suppress(RuntimeError):  # the interpreter ends
                # In a thread of its own: this one may hold the lock that is needed.
                _thread.start_new_thread(self._shell.abandon, (self._lane, self._request))


class AsyncTicket(_Standing):
    """Hold a call that waits, or was granted and is not yet picked up; see `Ticket`."""

    _shell: aio.AsyncShell
    _lane: aio.Lane

    async def look(self) -> Self:
        """Ask the store where it stands; one round trip."""
        if not self._request.done:
            await self._shell.run(self._lane, ops.look_gen(self._request.n))
        return self

    async def wait(self, timeout: float | None = None) -> AsyncReservation:
        """Wait for the reservation; see `Ticket.wait`."""
        self._over = True
        left_s = self._left_s(timeout)
        steps = ops.wait_gen(self._lane.line, self._request, self._timeout_s or timeout)
        request = await self._shell.run(self._lane, steps, left_s)
        return AsyncReservation(self._shell, self._lane, request)

    def cancel(self) -> None:
        """Leave the line; what was granted and not picked up goes back. It does not wait."""
        if not self._over:
            self._over = True
            self._shell.abandon(self._lane, self._request)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.cancel()

    def __del__(self) -> None:
        if not self._over:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                abandon = self._shell.abandon
                self._shell.loop.call_soon_threadsafe(abandon, self._lane, self._request)


# --- the first of several ---------------------------------------------------------------------


def first_granted(
    shell: sync.SyncShell, waits: Iterable[tuple[sync.Lane, Request, float | None]]
) -> Reservation:
    """Wait until one of several calls is granted; the others leave their lines.

    Raises:
        LimitExceeded, StoreError: the time is over, or none of them can be granted: the reason that is
            over first.
    """
    race = _Race()
    try:
        for each in waits:
            race.enter(*each)
        while True:
            ended = shell.first_of(race.left, race.left_s())
            if race.won(ended):
                return Reservation(shell, *ended)
    finally:
        for lane, request in race.left:
            shell.abandon(lane, request)


async def first_granted_async(
    shell: aio.AsyncShell, waits: AsyncIterable[tuple[aio.Lane, Request, float | None]]
) -> AsyncReservation:
    """Wait until one of several calls is granted; see `first_granted`."""
    race = _Race()
    try:
        async for each in waits:
            race.enter(*each)
        while True:
            ended = await shell.first_of(race.left, race.left_s())
            if race.won(ended):
                return AsyncReservation(shell, *ended)
    finally:
        for lane, request in race.left:
            shell.abandon(lane, request)


class _Race:
    """Hold several calls of which one may win, and say for how long to go on."""

    def __init__(self) -> None:
        self.left: list[tuple[Any, Request]] = []
        self._reasons: list[LimitExceeded] = []
        self._timeout_s: float | None = 0.0
        self._began = time.monotonic()

    def enter(self, lane: Any, request: Request, timeout_s: float | None) -> None:
        """Take one more; the most patient one says how long all wait."""
        self.left.append((lane, request))
        if self._timeout_s is not None:
            self._timeout_s = None if timeout_s is None else max(self._timeout_s, timeout_s)

    def left_s(self) -> float | None:
        """Return the seconds that are left; None: for as long as it takes."""
        return None if self._timeout_s is None else _until(self._began + self._timeout_s)

    def won(self, ended: Any) -> TypeGuard[tuple[Any, Request]]:
        """Say whether this one was granted; one that never will be leaves the race.

        Raises:
            LimitExceeded, StoreError: the time is over, or none is left.
        """
        if ended is None:
            lane, request = self.left[0]
            raise ops.timed_out(lane.line.definition, request, self._timeout_s)
        self.left.remove(ended)
        lane, request = ended
        try:
            ops.granted(lane.line.definition, request, self._timeout_s)
        except LimitExceeded as exc:
            self._reasons.append(exc)
            if self.left:
                return False
            raise soonest(self._reasons) from None
        return True
