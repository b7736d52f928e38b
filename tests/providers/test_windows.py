"""The period of a limit follows from its own numbers, where they allow it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.providers.verdict import DAY_US, MINUTE_US
from limiter.providers.windows import HOUR_US, Reading, window

MS, S = 1_000, 1_000_000


def fine(amount: int, used: int, reset_us: int, **more):
    return window(Reading(amount, used, reset_us, MS), **more)


def coarse(amount: int, used: int, reset_s: int):
    return window(Reading(amount, used, reset_s * S, S))


def told(amount: int, short_of: Fraction, period_us: int) -> tuple[int, int]:
    """Write the level of a bucket as OpenAI does: units left and milliseconds, both cut down."""
    remaining = (amount - short_of) // 1
    return amount - remaining, int(short_of * period_us / amount) // MS * MS


shares = st.fractions(0, 1, max_denominator=10**6)
amounts = st.integers(1, 10**9)


@given(amounts, shares)
def test_every_level_of_a_minute_s_bucket_fits_a_minute(amount: int, share: Fraction):
    """Whatever a minute's bucket is short of, it is a minute's bucket."""
    used, reset_us = told(amount, share * amount, MINUTE_US)
    found = fine(amount, used, reset_us)
    assert found == (MINUTE_US, True if used else None)


@given(amounts, shares)
def test_a_day_s_bucket_is_told_from_a_minute_s(amount: int, share: Fraction):
    """From the second used unit on, a bucket of a day is never taken for a shorter one.

    Unless its units are refilled within the milliseconds that resets are cut down to.
    """
    used, reset_us = told(amount, share * amount, DAY_US)
    if used > 1 and reset_us > 1_000 * MS:
        assert fine(amount, used, reset_us) == (DAY_US, True)


@pytest.mark.parametrize(
    ("amount", "used", "reset_us"),
    [
        (10_000, 1, 8_640 * MS),
        (10_000, 2, 12_967 * MS),
        (10_000, 9, 73_588 * MS),
        (200, 3, 1_252_666 * MS),
        (100, 2, 864_000 * MS),
    ],
)
def test_a_daily_limit_that_hides_the_minute_s_is_found_out(amount, used, reset_us):
    """Recorded: "10000" requests with resets of 8.64 s each are per day."""
    assert fine(amount, used, reset_us) == (DAY_US, True)


def test_a_single_used_unit_may_be_refilled_to_any_part():
    """Then a day's reset tells nothing, unless the provider is known for buckets of a day."""
    assert fine(10_000, 1, 5_200 * MS) == (MINUTE_US, None)
    assert fine(10_000, 1, 5_200 * MS, daily=True) == (DAY_US, True)


@pytest.mark.parametrize(
    ("amount", "used", "reset_us", "period_us"),
    [
        (1_000, 1, 3_600 * MS, HOUR_US),
        (1_000, 5, 18_000 * MS, HOUR_US),
        (1_000, 5, 16_000 * MS, HOUR_US),
        (60, 6, 1_000 * MS, 10 * S),
        (60, 6, 900 * MS, 10 * S),
        (50, 10, 200 * MS, S),
    ],
)
def test_other_periods_are_found(amount, used, reset_us, period_us):
    """An hour, ten seconds and a second, right after a call and half a unit later."""
    assert fine(amount, used, reset_us) == (period_us, True)


def test_a_jitter_of_two_units_is_no_contradiction():
    """Shared counters are off by up to two units; of a small limit that would be too much."""
    assert fine(500, 100, 12_240 * MS) == (MINUTE_US, True)
    assert fine(500, 100, 12_370 * MS) == (MINUTE_US, False)
    assert fine(50, 25, 31_200 * MS) == (MINUTE_US, False)


def test_a_window_s_reset_contradicts_every_bucket():
    """A fixed minute ends when it ends, whatever was used."""
    assert fine(500, 100, 43_000 * MS) == (MINUTE_US, False)
    assert fine(500, 0, 43_000 * MS) == (MINUTE_US, False)
    assert coarse(500, 100, 43) == (MINUTE_US, False)
    assert coarse(500, 0, 43) == (MINUTE_US, False)


def test_a_bucket_in_debt_is_no_window():
    """Its limit was lowered: nothing is left, and the reset is beyond the period, as no window's is."""
    assert fine(360, 360, 119_469 * MS) == (MINUTE_US, None)
    assert fine(360, 360, 30_000 * MS) == (MINUTE_US, False)


def test_nothing_used_tells_no_period():
    """A full level is a full level, of whatever period; the expected one is taken."""
    assert fine(500, 0, 0) == (MINUTE_US, None)
    assert fine(500, 0, 0, expected_us=DAY_US) == (DAY_US, None)


def test_whole_seconds_tell_less():
    """A second or none agrees with any small use; a longer period must be proved by its length."""
    assert coarse(1_500_000, 754_601, 30) == (MINUTE_US, True)
    assert coarse(500, 3, 0) == (MINUTE_US, None)
    assert coarse(500, 3, 1) == (MINUTE_US, None)
    assert coarse(1_000, 30, 108) == (HOUR_US, True)
    assert coarse(1_000, 60, 5_184) == (DAY_US, True)
    assert coarse(1_000, 5, 18) == (MINUTE_US, None)
    assert coarse(1_000, 1, 80) == (MINUTE_US, None)


@given(amounts, st.integers(0, 10**9), st.integers(0, 10**14), st.sampled_from([MS, S]))
def test_it_never_raises(amount, used, reset_us, grain_us):
    """Any numbers have a period, the expected one at least."""
    period_us, is_bucket = window(Reading(amount, used, reset_us, grain_us))
    assert period_us > 0
    assert is_bucket in {True, False, None}
