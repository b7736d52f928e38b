"""Numbers as callers write them: checked, and made exact for integer arithmetic.

Pure. Whoever turns a caller's number into a script's does it here, so that one message says what
to write and one bound holds everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from limiter.errors import ConfigError

DAY_S = 86_400.0
LONGEST_S = 400 * DAY_S
_US = 1_000_000

# A level is kept in units of 1/den, so that one microsecond refills a whole number of them. The
# largest level, debt or cost stays below 2^50: eight of them still add up exactly in a double.
SCALED_MAX = 2**50


def below(exact: Fraction, largest: int) -> Fraction:
    """Return the largest fraction not above `exact` with a denominator of at most `largest`.

    The two last convergents of the continued fraction enclose `exact`; one of them is it.
    """
    if exact.denominator <= largest:
        return exact
    p0, q0, p1, q1 = 0, 1, 1, 0
    n, d = exact.numerator, exact.denominator
    while (q2 := q0 + (n // d) * q1) <= largest:
        p0, q0, p1, q1, n, d = p1, q1, p0 + (n // d) * p1, q2, d, n % d
    k = (largest - q0) // q1
    return max(f for f in (Fraction(p0 + k * p1, q0 + k * q1), Fraction(p1, q1)) if f <= exact)


def decimal(written: float) -> Fraction:
    """Return the number that the caller wrote: 0.3 is 3/10, not the double a little below it."""
    return Fraction(repr(float(written)))


def whole(value: object, what: str, *, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`, or say what to write."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{what} must be a whole number from {low} to {high}, got {value!r:.40}.")
    return value


def number(value: object, what: str, span: str, inside: Callable[[float], bool]) -> float:
    """Return a number that is `inside` the span, or say what to write.

    Comparisons keep NaN and infinity out; `+ 0.0` makes one zero of two.
    """
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not inside(value):  # type: ignore[arg-type] # it is a number by then
        raise ConfigError(f"{what} must be a number {span}, got {value!r:.40}.")
    return float(value) + 0.0  # type: ignore[arg-type] # the same


def positive(value: object, what: str, *, high: float) -> float:
    """Return a number above 0, at most `high`, or say what to write."""
    return number(value, what, f"above 0, at most {high:g}", lambda v: 0 < v <= high)


def seconds(value: object, what: str, *, least_us: int = 0) -> float:
    """Return a span of whole microseconds, at least `least_us` and at most 400 days."""
    if least_us:
        checked = positive(value, what, high=LONGEST_S)
    else:
        checked = number(value, what, f"from 0 to {LONGEST_S:g}", lambda v: 0 <= v <= LONGEST_S)
    return max(least_us, to_us(checked)) / _US


def to_us(span_s: float) -> int:
    """Return seconds as whole microseconds; undoes the division in `seconds` exactly."""
    return round(span_s * _US)
