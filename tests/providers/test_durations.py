"""Times are read exactly as providers write them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.mock.wire import go_duration
from limiter.providers.durations import count, moment_us, number, span

NOT_NUMBERS = ["", "-1", "+5", "1e3", "nan", "inf", "٣", "²", "1_000", "0x10", "5 6", "9" * 99]


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("0s", 0),
        ("6ms", 6_000),
        ("120ms", 120_000),
        ("8.64s", 8_640_000),
        ("12.967s", 12_967_000),
        ("17.379s", 17_379_000),
        ("1m13.588s", 73_588_000),
        ("20m52.666s", 1_252_666_000),
        ("6m0s", 360_000_000),
        ("14m24s", 864_000_000),
        ("1h2m3s", 3_723_000_000),
        ("24h0m0s", 86_400_000_000),
        ("1d", 86_400_000_000),
        ("11.354999999s", 11_354_999),
        ("17.399999999s", 17_399_999),
        ("250us", 250),
        ("1.5µs", 1),
        ("250μs", 250),
        ("999ns", 0),
        (" 6ms ", 6_000),
    ],
)
def test_go_durations_are_exact(text: str, us: int):
    """A Go duration is read to the microsecond, and known to be cut down to the millisecond."""
    assert span(text) == (us, 1_000)


@given(st.integers(0, 86_400_000))
def test_a_duration_is_read_as_it_was_written(ms: int):
    """Writing and reading a duration of whole milliseconds loses nothing."""
    assert span(go_duration(ms * 1_000)) == (ms * 1_000, 1_000)


@pytest.mark.parametrize(
    ("text", "us", "grain_us"), [("2", 2_000_000, 1_000_000), ("7.66", 7_660_000, 1_000)]
)
def test_bare_numbers_are_seconds(text: str, us: int, grain_us: int):
    """They are exact to a second if whole, else to a millisecond."""
    assert span(text) == (us, grain_us)


@pytest.mark.parametrize(
    "text", [*NOT_NUMBERS, "s", "1x", "-6ms", "1s2", "1 s", "1.s", ".5s", "9" * 12 + "h", "6MS"]
)
def test_what_is_no_duration_is_none(text: str):
    """Signs, gaps, exponents, other digits, unknown units and ages of the world are no duration."""
    assert span(text) is None


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_is_no_number_is_none(text: str):
    """A count and a number are ASCII digits from 0 on."""
    assert count(text) is None
    assert number(text) is None


def test_numbers_are_read():
    """A count is whole; a number may have a fraction; spaces around them are none of it."""
    assert (count("0"), count(" 42 "), count("1.5")) == (0, 42, None)
    assert (number("0"), number(" 1.5 ")) == (0.0, 1.5)


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "1994-11-06T08:49:37Z",
        "1994-11-06T08:49:37",
        "1994-11-06T09:49:37.000+01:00",
    ],
)
def test_a_moment_is_read_in_each_of_its_forms(text: str):
    """HTTP's three dates and RFC 3339 in any zone are the same moment."""
    assert moment_us(text) == 784_111_777_000_000


def test_unix_times_are_moments():
    """A number too large for a span is a Unix time, in seconds or in milliseconds."""
    assert moment_us("1788220800") == moment_us("1788220800000") == 1_788_220_800_000_000
    assert moment_us("43") is None


@pytest.mark.parametrize(
    "text", ["", "soon", "99", "2025-13-01T00:00:00Z", "Sun, 99 Nov 1994 08:49:37 GMT", "x" * 99]
)
def test_what_is_no_moment_is_none(text: str):
    """Nothing is raised for a date that is none."""
    assert moment_us(text) is None


@given(st.text() | st.text("0123456789.hmsuµnd:-TZ+ ,GMTSunov", max_size=40))
def test_nothing_is_raised(text: str):
    """Whatever the text, it is read or it is None."""
    for read in (count, number, span, moment_us):
        read(text)
