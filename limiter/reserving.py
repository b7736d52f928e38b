"""Context managers that acquire on entry and see to the settling on exit, sync and async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING

from limiter.answered import Answered, AsyncAnswered
from limiter.asking import Names
from limiter.core.request import Request
from limiter.reservation import AsyncReservation, Reservation
from limiter.tickets import eta_s, position

if TYPE_CHECKING:
    from limiter.cache.keeping import AsyncKeeping, Keeping

Watch = Callable[[Request], None]


class _Watched:
    """Know where the call stands that is being acquired; for another thread or task to look at.

    As of the last answer of the store: the first one, and every fallback poll.
    """

    _request: Request | None = None

    def _watch(self, request: Request) -> None:
        self._request = request

    @property
    def position(self) -> int:
        """Return its place in the line, 1 for the next one; 0: it does not wait."""
        return position(self._request) if self._request else 0

    @property
    def eta_s(self) -> float:
        """Return the seconds until it is granted at the latest, by what is known; see `Ticket`."""
        return eta_s(self._request) if self._request else 0.0


class Reserving(_Watched):
    """Acquire on entry, see to the settling on exit.

    Attributes:
        position, eta_s: where the call stands while another thread waits in `__enter__`.
    """

    def __init__(
        self, names: Names, acquire: Callable[[Watch], Reservation], keeping: Keeping | None = None
    ) -> None:
        self._names, self._acquire, self._keeping = names, acquire, keeping
        self._reservation: Reservation | None = None

    def __enter__(self) -> Reservation:
        answer = self._keeping.look() if self._keeping else None
        if answer is not None:
            self._reservation = Answered(_listed(self._names), answer.value)
            return self._reservation
        try:
            self._reservation = self._acquire(self._watch)
        except BaseException:
            if self._keeping:
                self._keeping.end(given_up=True)
            raise
        return self._reservation

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._reservation is not None
        try:
            self._reservation.__exit__(kind, error, trace)
        finally:
            if self._keeping:
                told = self._reservation.settled_with if error is None else None
                given_up = error is not None and not isinstance(error, Exception)
                self._keeping.end(told, given_up=given_up)


class AsyncReserving(_Watched):
    """Acquire on entry, see to the settling on exit; see `Reserving`."""

    def __init__(
        self, names: Names, acquire: Callable[[Watch], Awaitable[AsyncReservation]],
        keeping: AsyncKeeping | None = None,
    ) -> None:  # fmt: skip
        self._names, self._acquire, self._keeping = names, acquire, keeping
        self._reservation: AsyncReservation | None = None

    async def __aenter__(self) -> AsyncReservation:
        answer = await self._keeping.look() if self._keeping else None
        if answer is not None:
            self._reservation = AsyncAnswered(_listed(self._names), answer.value)
            return self._reservation
        try:
            self._reservation = await self._acquire(self._watch)
        except BaseException:
            if self._keeping:
                self._keeping.let_go()
            raise
        return self._reservation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._reservation is not None
        try:
            await self._reservation.__aexit__(kind, error, trace)
        finally:
            if self._keeping and error is not None and not isinstance(error, Exception):
                self._keeping.let_go()  # a cancelled task must not wait
            elif self._keeping:
                await self._keeping.end(self._reservation.settled_with if error is None else None)


def _listed(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
