"""Context managers that acquire on entry and see to the settling on exit, sync and async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

from limiter.reservation import AsyncReservation, Reservation


class Reserving:
    """Acquire on entry, see to the settling on exit."""

    def __init__(self, acquire: Callable[[], Reservation]) -> None:
        self._acquire = acquire
        self._reservation: Reservation | None = None

    def __enter__(self) -> Reservation:
        self._reservation = self._acquire()
        return self._reservation

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._reservation is not None
        self._reservation.__exit__(kind, error, trace)


class AsyncReserving:
    """Acquire on entry, see to the settling on exit."""

    def __init__(self, acquire: Callable[[], Awaitable[AsyncReservation]]) -> None:
        self._acquire = acquire
        self._reservation: AsyncReservation | None = None

    async def __aenter__(self) -> AsyncReservation:
        self._reservation = await self._acquire()
        return self._reservation

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._reservation is not None
        await self._reservation.__aexit__(kind, error, trace)
