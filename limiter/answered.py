"""Reservations of calls that need not be made, because the cache has their answers.

They hold nothing: settling or cancelling them changes nothing, and nobody hears of it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from limiter.reservation import AsyncReservation, Reservation


class _Answered:
    """Hold an answer in the place of a cost."""

    def __init__(self, quotas: tuple[str, ...], answer: Any) -> None:
        self._answered_of = quotas
        self.state = "answered"
        self.answer = answer
        self.settled_with: object = None

    @property
    def quotas(self) -> tuple[str, ...]:
        """Return the names of the quotas that it takes nothing from."""
        return self._answered_of

    @property
    def estimate(self) -> dict[str, int]:
        """Return nothing."""
        return {}

    remaining = estimate

    @property
    def id(self) -> str:
        """Return what names it nowhere."""
        return "answered"

    def observe(self, *_: object, **__: object) -> None:
        """Do nothing: nobody was asked."""

    report_soon = settle_soon = record_output = observe


class Answered(_Answered, Reservation):
    """Be a reservation that holds an answer; see `Limiter.reserve`."""

    def settle(self, used: object = None, /, **amounts: int) -> None:
        """Do nothing: nothing was used."""

    def cancel(self) -> None:
        """Do nothing: nothing is held."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Do nothing."""

    def __enter__(self) -> Self:
        return self


class AsyncAnswered(_Answered, AsyncReservation):
    """Be a reservation that holds an answer; see `Limiter.reserve`."""

    async def settle(self, used: object = None, /, **amounts: int) -> None:
        """Do nothing: nothing was used."""

    async def cancel(self) -> None:
        """Do nothing: nothing is held."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Do nothing."""
