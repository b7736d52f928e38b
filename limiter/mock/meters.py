"""Four models of how a provider counts one dimension. Pure: time is an argument.

`bucket` is what OpenAI's responses show: a continuously refilled bucket whose capacity is the
whole limit (the arithmetic of its 429 messages and of its reset headers). `fixed`, `sliding` and
`quantised` are what others do, or did; a limiter must survive them all.

Times are integer microseconds of a clock that never goes back. Nothing here may read a clock.
"""
# ruff: noqa: D102 - `Meter` says what the methods of its implementations do

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class View(NamedTuple):
    """Be what the rate-limit headers tell of one dimension."""

    limit: int
    remaining: int
    reset_us: int
    """Time until the dimension is as if never used."""


@dataclass(slots=True)
class Charge:
    """Be an amount that was taken at a moment."""

    at_us: int
    amount: int


class Meter(Protocol):
    """Count one dimension. `take` and `settle` never refuse: only `fits` decides."""

    capacity: int
    """The most that one call may cost."""

    def fits(self, amount: int, now_us: int) -> bool:
        """Say whether `amount` may be taken now."""

    def take(self, amount: int, now_us: int) -> Charge:
        """Take `amount`."""

    def settle(self, charge: Charge, actual: int, now_us: int) -> None:
        """Replace what `charge` took by `actual`; overuse may leave less than nothing."""

    def drain(self, amount: int, now_us: int) -> None:
        """Take `amount` or as much of it as is there."""

    def relimit(self, limit: int, now_us: int) -> None:
        """Hold another limit from now on; what is used stays used, so a lower one can leave debt."""

    def room(self, now_us: int) -> float:
        """Say how much is left; negative is debt."""

    def view(self, now_us: int) -> View:
        """Say what the headers would."""

    def refuse(self, amount: int, now_us: int) -> tuple[int, int, int]:
        """Give (limit, used, wait_us) for an amount that does not fit now but could later."""


class Bucket(Meter):
    """Refill continuously, `limit` per period, up to `limit`.

    The level is an integer in units of amount x microseconds of a period: exact for ever.
    """

    def __init__(self, limit: int, period_us: int) -> None:
        self.capacity = limit
        self._period_us = period_us
        self._full = limit * period_us
        self._level = self._full
        self._at_us: int | None = None

    def _refilled(self, now_us: int) -> int:
        if self._at_us is not None:
            gained = max(0, now_us - self._at_us) * self.capacity
            self._level = min(self._full, self._level + gained)
        self._at_us = now_us
        return self._level

    def fits(self, amount: int, now_us: int) -> bool:
        return self._refilled(now_us) >= amount * self._period_us

    def take(self, amount: int, now_us: int) -> Charge:
        self._level = self._refilled(now_us) - amount * self._period_us
        return Charge(now_us, amount)

    def settle(self, charge: Charge, actual: int, now_us: int) -> None:
        back = (charge.amount - actual) * self._period_us
        self._level = self._refilled(now_us) + back  # what is above the rim runs off on refill

    def drain(self, amount: int, now_us: int) -> None:
        there = max(0, self._refilled(now_us))
        self._level -= min(there, amount * self._period_us)

    def relimit(self, limit: int, now_us: int) -> None:
        used = self._full - self._refilled(now_us)
        self.capacity, self._full = limit, limit * self._period_us
        self._level = self._full - used

    def room(self, now_us: int) -> float:
        return self._refilled(now_us) / self._period_us

    def view(self, now_us: int) -> View:
        level = self._refilled(now_us)
        # The reset comes from the fractional level: it is finer than `remaining`, as OpenAI's is.
        reset_us = (self._full - level) // self.capacity
        return View(self.capacity, max(0, level // self._period_us), reset_us)

    def refuse(self, amount: int, now_us: int) -> tuple[int, int, int]:
        # `used` is rounded up, so that the wait that the message derives from it is long enough.
        used = self.capacity - self._refilled(now_us) // self._period_us
        over = used + amount - self.capacity
        return self.capacity, used, over * self._period_us // self.capacity


class FixedWindow(Meter):
    """Count from nothing in every period; periods are aligned to the first call.

    Debt ends with the window that it was made in, and so does the right to a refund.
    """

    def __init__(self, limit: int, period_us: int) -> None:
        self.capacity = limit
        self._period_us = period_us
        self._start_us: int | None = None
        self._used = 0

    def _current(self, now_us: int) -> int:
        if self._start_us is not None and now_us >= self._start_us + self._period_us:
            self._start_us += (now_us - self._start_us) // self._period_us * self._period_us
            self._used = 0
        return self._used

    def _left_us(self, now_us: int) -> int:
        return 0 if self._start_us is None else self._start_us + self._period_us - now_us

    def fits(self, amount: int, now_us: int) -> bool:
        return self._current(now_us) + amount <= self.capacity

    def take(self, amount: int, now_us: int) -> Charge:
        if self._start_us is None:
            self._start_us = now_us
        self._used = self._current(now_us) + amount
        return Charge(now_us, amount)

    def settle(self, charge: Charge, actual: int, now_us: int) -> None:
        used = self._current(now_us)
        same_window = self._start_us is not None and charge.at_us >= self._start_us
        if actual > charge.amount or same_window:
            self._used = used + actual - charge.amount

    def drain(self, amount: int, now_us: int) -> None:
        self.take(min(amount, max(0, self.capacity - self._current(now_us))), now_us)

    def relimit(self, limit: int, now_us: int) -> None:  # noqa: ARG002 - Meter's
        self.capacity = limit

    def room(self, now_us: int) -> float:
        return self.capacity - self._current(now_us)

    def view(self, now_us: int) -> View:
        used = self._current(now_us)
        return View(
            self.capacity, max(0, self.capacity - used), self._left_us(now_us) if used else 0
        )

    def refuse(self, amount: int, now_us: int) -> tuple[int, int, int]:  # noqa: ARG002 - Meter's
        return self.capacity, self._current(now_us), self._left_us(now_us)


class SlidingLog(Meter):
    """Remember every charge for one period; their sum stays within the limit."""

    def __init__(self, limit: int, period_us: int) -> None:
        self.capacity = limit
        self._period_us = period_us
        self._log: deque[Charge] = deque()
        self._used = 0

    def _current(self, now_us: int) -> int:
        while self._log and self._log[0].at_us + self._period_us <= now_us:
            self._used -= self._log.popleft().amount
        return self._used

    def fits(self, amount: int, now_us: int) -> bool:
        return self._current(now_us) + amount <= self.capacity

    def take(self, amount: int, now_us: int) -> Charge:
        self._used = self._current(now_us) + amount
        charge = Charge(now_us, amount)
        self._log.append(charge)
        return charge

    def settle(self, charge: Charge, actual: int, now_us: int) -> None:
        self._current(now_us)
        if actual > charge.amount:
            self.take(actual - charge.amount, now_us)
        elif charge.at_us + self._period_us > now_us:
            self._used -= charge.amount - actual
            charge.amount = actual

    def drain(self, amount: int, now_us: int) -> None:
        there = min(amount, self.capacity - self._current(now_us))
        if there > 0:
            self.take(there, now_us)

    def relimit(self, limit: int, now_us: int) -> None:  # noqa: ARG002 - Meter's
        self.capacity = limit

    def room(self, now_us: int) -> float:
        return self.capacity - self._current(now_us)

    def view(self, now_us: int) -> View:
        used = self._current(now_us)
        reset_us = self._log[-1].at_us + self._period_us - now_us if self._log else 0
        return View(self.capacity, max(0, self.capacity - used), reset_us)

    def refuse(self, amount: int, now_us: int) -> tuple[int, int, int]:
        over = self._current(now_us) + amount - self.capacity
        wait_us = 0
        for charge in self._log:
            if over <= 0:
                break
            over -= charge.amount
            wait_us = charge.at_us + self._period_us - now_us
        return self.capacity, self._used, wait_us


class Quantised(Meter):
    """Hold the limit in a whole period, and a sixtieth of it in every sixtieth of the period.

    "60,000 requests/minute may be enforced as 1,000 requests/second", as OpenAI's older guide had
    it. A sixtieth is rounded up; a call above it never fits. Headers show the whole period.
    """

    def __init__(self, limit: int, period_us: int) -> None:
        self.capacity = -(-limit // 60)
        self._whole = FixedWindow(limit, period_us)
        self._windows = (self._whole, FixedWindow(self.capacity, max(1, period_us // 60)))

    def fits(self, amount: int, now_us: int) -> bool:
        return all(window.fits(amount, now_us) for window in self._windows)

    def take(self, amount: int, now_us: int) -> Charge:
        for window in self._windows:
            window.take(amount, now_us)
        return Charge(now_us, amount)

    def settle(self, charge: Charge, actual: int, now_us: int) -> None:
        for window in self._windows:
            window.settle(charge, actual, now_us)

    def drain(self, amount: int, now_us: int) -> None:
        self.take(min(amount, max(0, int(self.room(now_us)))), now_us)

    def relimit(self, limit: int, now_us: int) -> None:
        self.capacity = -(-limit // 60)
        for window, most in zip(self._windows, (limit, self.capacity), strict=True):
            window.relimit(most, now_us)

    def room(self, now_us: int) -> float:
        return min(window.room(now_us) for window in self._windows)

    def view(self, now_us: int) -> View:
        return self._whole.view(now_us)

    def refuse(self, amount: int, now_us: int) -> tuple[int, int, int]:
        closed = (window for window in self._windows if not window.fits(amount, now_us))
        return max((window.refuse(amount, now_us) for window in closed), key=lambda said: said[2])


MODELS: Mapping[str, Callable[[int, int], Meter]] = {
    "bucket": Bucket,
    "fixed": FixedWindow,
    "sliding": SlidingLog,
    "quantised": Quantised,
}
