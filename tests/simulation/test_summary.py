"""What a replay sums up to: quantiles, counts, the line, and how spans are written."""

from __future__ import annotations

import pytest

from limiter.simulation import table
from limiter.simulation.record import Ending
from limiter.simulation.summary import line, quantile, waits


def test_waits_are_of_calls_that_were_granted() -> None:
    """Who gave up or was refused is counted, and is in no quantile; all that waited were in line."""
    found = waits([
        (0, 0, Ending.GRANTED), (1_000_000, 4_000_000, Ending.GRANTED),
        (2_000_000, 9_000_000, Ending.TIMED_OUT), (3_000_000, 0, Ending.REFUSED),
    ])  # fmt: skip
    assert (found.calls, found.granted, found.timed_out, found.refused) == (4, 2, 1, 1)
    assert found.wait_s == {"p50": 0, "p90": 4, "p99": 4, "max": 4}
    assert found.longest_line == 2
    assert waits([(0, 0, Ending.REFUSED)]).wait_s == {}


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_a_value_that_occurred(share: float, value: int) -> None:
    """A quantile is the least value that the share of all does not exceed."""
    assert quantile(range(1, 101), share) == value
    assert quantile([7], share) == 7


def test_a_line_grows_and_shrinks() -> None:
    """Who leaves at the moment at which another comes is not counted together with it."""
    outcomes = [(0, 10, Ending.GRANTED), (5, 10, Ending.GRANTED), (10, 5, Ending.TIMED_OUT)]
    assert line(outcomes) == [(0, 1), (5, 2), (10, 2), (15, 0)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.000_001, "0.001 ms"), (0.0994, "99 ms"), (0.1, "0.10 s"), (9.99, "9.99 s"), (12.34, "12.3 s"), (599, "599.0 s"),
     (600, "10:00"), (4_454, "1:14:14")],
)  # fmt: skip
def test_spans_are_written_for_people(seconds: float, text: str) -> None:
    """Short spans have their fractions, long ones minutes and hours."""
    assert table.span(seconds) == text
