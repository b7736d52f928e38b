"""Context managers that acquire on entry and see to the settling on exit, sync and async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

from limiter.core.request import Request
from limiter.reservation import AsyncReservation, Reservation
from limiter.tickets import eta_s, position

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

    def __init__(self, acquire: Callable[[Watch], Reservation]) -> None:
        self._acquire = acquire
        self._reservation: Reservation | None = None

    def __enter__(self) -> Reservation:
        self._reservation = self._acquire(self._watch)
        return self._reservation

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._reservation is not None
        self._reservation.__exit__(kind, error, trace)


class AsyncReserving(_Watched):
    """Acquire on entry, see to the settling on exit; see `Reserving`."""

    def __init__(self, acquire: Callable[[Watch], Awaitable[AsyncReservation]]) -> None:
        self._acquire = acquire
        self._reservation: AsyncReservation | None = None

    async def __aenter__(self) -> AsyncReservation:
        self._reservation = await self._acquire(self._watch)
        return self._reservation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._reservation is not None
        await self._reservation.__aexit__(kind, error, trace)
