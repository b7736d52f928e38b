"""Which period a limit has, and whether it is a bucket's: by the arithmetic of its own numbers.

Pure integers. A bucket of `amount` per `period` that is short of `u` units is full again in
`u x period / amount`; a provider tells the units left as a whole number, rounded down, so `u` is
above used - 1 and at most used. That holds for all 1,056 resets of OpenAI and Groq in the
recorded exchanges. A window, which gives everything back at its end, shows any reset at all; what
happens to fit cannot be told from a bucket by one answer.
"""

from __future__ import annotations

from typing import NamedTuple

from limiter.providers.verdict import DAY_US, MINUTE_US

SECOND_US, TEN_SECONDS_US, HOUR_US = 1_000_000, 10_000_000, 3_600_000_000

# Counters are shared between the provider's servers: identical requests were answered with up to
# 2 units more or less (recorded exchanges). Of a limit below 100 that would be a good part.
_JITTER_UNITS, _JITTER_FROM = 2, 100


class Window(NamedTuple):
    """Hold a period and whether it is a bucket's; None: it cannot be told."""

    period_us: int
    is_bucket: bool | None


class Reading(NamedTuple):
    """Hold what an answer tells of one limit's level.

    Attributes:
        amount: the limit, at least 1.
        used: units of it, at least 0.
        reset_us, grain_us: the time until it is full again, and how far off that may be.
    """

    amount: int
    used: int
    reset_us: int
    grain_us: int

    def fits(self, period_us: int, jitter: int = 0) -> bool:
        """Say whether a bucket of this period may be short of so much."""
        least, most = (self.used - 1 - jitter) * period_us, (self.used + jitter) * period_us
        return (
            least <= (self.reset_us + self.grain_us) * self.amount
            and (self.reset_us - self.grain_us) * self.amount <= most
        )

    def is_exactly(self, period_us: int) -> bool:
        """Say whether a bucket of this period is short of exactly the used units."""
        off = self.reset_us * self.amount - self.used * period_us
        return abs(off) <= self.grain_us * self.amount


def window(seen: Reading, expected_us: int = MINUTE_US, *, daily: bool = False) -> Window:
    """Find the period that a limit's numbers agree with, the expected one first.

    Args:
        seen: the limit's numbers.
        expected_us: the period that the limit has if nothing speaks against it.
        daily: the provider is known for buckets of a day.

    Returns:
        The period, and whether it is a bucket's. The expected one with False when the reset
        contradicts every period, with None when it is too small to tell.
    """
    if seen.used == 0:
        return Window(expected_us, None if seen.fits(expected_us, _jitter(seen)) else False)
    if seen.grain_us >= SECOND_US:
        return _coarse(seen, expected_us)
    if seen.fits(expected_us):
        return Window(expected_us, is_bucket=True)
    return _fine(seen, expected_us, daily=daily)


def _fine(seen: Reading, expected_us: int, *, daily: bool) -> Window:
    """Find another period for a reset that is exact to a millisecond.

    What agrees to the millisecond goes before what merely may be. A single used unit may be
    refilled to any part, so it shows a period only where the provider is known for it. Short
    periods must agree without jitter: taken wrongly, they would raise the rate.
    """
    shows = seen.used > 1
    found = next(
        (
            period_us
            for period_us, is_found in (
                (DAY_US, seen.is_exactly(DAY_US)),
                (HOUR_US, seen.is_exactly(HOUR_US)),
                (TEN_SECONDS_US, shows and seen.fits(TEN_SECONDS_US)),
                (SECOND_US, shows and seen.fits(SECOND_US)),
                (expected_us, seen.fits(expected_us, _jitter(seen))),
                (DAY_US, (shows or daily) and seen.fits(DAY_US)),
                (HOUR_US, shows and seen.fits(HOUR_US)),
            )
            if is_found
        ),
        None,
    )
    if found is not None:
        return Window(found, is_bucket=True)
    return _untold(seen, expected_us)


def _coarse(seen: Reading, expected_us: int) -> Window:
    """Find the period for a reset in whole seconds.

    A longer period is taken only where the reset is beyond the shorter one: no window of a minute
    ends in two. A reset of a second or none agrees with any small use.
    """
    if seen.fits(expected_us):
        shows = seen.reset_us > SECOND_US and seen.used * expected_us > SECOND_US * seen.amount
        return Window(expected_us, True if shows else None)
    for period_us, shorter_us in ((HOUR_US, MINUTE_US), (DAY_US, HOUR_US)):
        if seen.reset_us > shorter_us and seen.used > 1 and seen.fits(period_us):
            return Window(period_us, is_bucket=True)
    return _untold(seen, expected_us)


def _untold(seen: Reading, expected_us: int) -> Window:
    """Say False where no period fits, None where one fits of which there is no proof.

    So it is of a limit with nothing left and a reset beyond its period, as no window of this period
    has: of a bucket that is in debt, because its limit was lowered, nobody knows how much is used.
    """
    in_debt = seen.used >= seen.amount and seen.reset_us > expected_us
    may_be = in_debt or any(seen.fits(period_us) for period_us in (HOUR_US, DAY_US))
    return Window(expected_us, None if may_be else False)


def _jitter(seen: Reading) -> int:
    return _JITTER_UNITS if seen.amount >= _JITTER_FROM else 0
