"""Laws of the perfect line, by hand-computed cases and by hypothesis."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.perfect_line import Bucket, Call, fleet, lower_bound, perfect_line, workload


def exact(*units: float, service_s: float = 0.0, arrives_s: float = 0.0) -> Call:
    return Call(units, units, service_s, arrives_s)


def test_a_full_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    """Four calls of 5 before a bucket of 10 that gains 1 a second start at 0, 0, 5 and 10 s."""
    line = perfect_line([Bucket(10, 1)], [exact(5, service_s=2)] * 4)
    assert line.granted_s == pytest.approx((0, 0, 5, 10))
    assert line.makespan_s == pytest.approx(12)


def test_the_initial_level_counts_even_below_zero() -> None:
    """A bucket 3 in debt lets a call of 2 in after 5 s."""
    assert perfect_line([Bucket(10, 1, level=-3)], [exact(2)]).granted_s == pytest.approx((5,))


def test_a_small_call_never_overtakes_a_big_one() -> None:
    """The call of 1 would fit at 1 s, and waits behind the call of 10 until 11 s."""
    line = perfect_line([Bucket(10, 1)], [exact(10), exact(10), exact(1)])
    assert line.granted_s == pytest.approx((0, 10, 11))


def test_what_an_estimate_took_too_much_is_back_the_moment_the_call_ends() -> None:
    """10 taken, 2 used: at 1 s there are 1 + 8, so a call of 8 need not wait until 8 s."""
    line = perfect_line([Bucket(10, 1)], [Call((10,), (2,), 1.0), exact(8)])
    assert line.granted_s == pytest.approx((0, 1))


def test_a_refund_that_does_not_suffice_shortens_the_wait() -> None:
    """10 taken, 8 used: 1 + 2 at 1 s, so a call of 8 starts at 6 s."""
    line = perfect_line([Bucket(10, 1)], [Call((10,), (8,), 1.0), exact(8)])
    assert line.granted_s == pytest.approx((0, 6))


def test_a_refund_never_raises_the_level_above_capacity() -> None:
    """After 20 idle seconds and a refund of 8 the bucket still holds 10, not 18."""
    calls = [Call((10,), (2,), 20.0), exact(10, arrives_s=20), exact(5, arrives_s=20)]
    assert perfect_line([Bucket(10, 1)], calls).granted_s == pytest.approx((0, 20, 25))


def test_an_estimate_that_was_too_low_becomes_debt() -> None:
    """2 taken, 12 used: 9 - 10 at 1 s, so a call of 5 that came at 2 s starts at 7 s."""
    line = perfect_line([Bucket(10, 1)], [Call((2,), (12,), 1.0), exact(5, arrives_s=2)])
    assert line.granted_s == pytest.approx((0, 7))


def test_debt_that_falls_due_while_the_head_waits_delays_it() -> None:
    """The head would fit at 4 s; at 3 s a call turns out to have used 5 more: 9 s."""
    line = perfect_line([Bucket(10, 1)], [Call((10,), (15,), 3.0), exact(4)])
    assert line.granted_s == pytest.approx((0, 9))


def test_a_call_above_the_capacity_waits_for_a_full_bucket_and_leaves_debt() -> None:
    """15 from a bucket of 10 leaves -5; a call of 1 then waits 6 s."""
    assert perfect_line([Bucket(10, 1)], [exact(15), exact(1)]).granted_s == pytest.approx((0, 6))


def test_a_call_takes_from_all_buckets_or_from_none() -> None:
    """The second bucket holds the second call back until 4 s; the first one is full again then."""
    line = perfect_line([Bucket(2, 1), Bucket(4, 1)], [exact(2, 4)] * 2 + [exact(2, 0)])
    assert line.granted_s == pytest.approx((0, 4, 6))


def test_a_worker_asks_again_when_its_call_has_ended() -> None:
    """One worker with calls of 2 s starts them at 0, 2 and 4 s, however full the bucket is."""
    line = perfect_line([Bucket(100, 1)], [exact(1, service_s=2)] * 3, workers=1)
    assert line.granted_s == pytest.approx((0, 2, 4))
    assert line.makespan_s == pytest.approx(6)


def test_what_would_wait_for_ever_is_said() -> None:
    """A bucket without refill that is empty raises instead of hanging."""
    with pytest.raises(ValueError, match="never fits"):
        perfect_line([Bucket(10, 0)], [exact(10), exact(1)])


def test_calls_out_of_order_are_refused() -> None:
    """The line is first come, first served: arrivals must not decrease."""
    with pytest.raises(ValueError, match="order of their arrival"):
        perfect_line([Bucket(10, 1)], [exact(1, arrives_s=1), exact(1)])


def test_lower_bound_is_the_slowest_bucket_after_its_burst() -> None:
    """(30 - 10)/1 = 20 s and (60 - 10)/5 = 10 s: 20 s."""
    assert lower_bound([Bucket(10, 1), Bucket(10, 5)], [exact(15, 30)] * 2) == pytest.approx(20)
    assert lower_bound([Bucket(100, 1)], [exact(15)]) == 0
    assert lower_bound([Bucket(10, 0)], [exact(15)]) == float("inf")


units = st.integers(1, 20)
calls_of_one = st.builds(
    lambda estimate, actual, service, arrives: Call((estimate,), (actual,), service, arrives),
    units,
    units,
    st.integers(0, 40).map(lambda n: n / 8),
    st.integers(0, 80).map(lambda n: n / 8),
)
lines = st.lists(calls_of_one, min_size=1, max_size=25).map(
    lambda calls: sorted(calls, key=lambda call: call.arrives_s)
)
buckets = st.builds(Bucket, st.integers(20, 40), st.integers(1, 8))
workers = st.none() | st.integers(1, 4)


@settings(max_examples=150, deadline=None)
@given(buckets, lines, workers)
def test_never_over_grants(bucket: Bucket, calls: list[Call], n_workers: int | None) -> None:
    """In every interval, granted - given back <= capacity + rate * length."""
    granted_s = perfect_line([bucket], calls, n_workers).granted_s
    for first in range(len(calls)):
        for last in range(first, len(calls)):
            begins, ends = granted_s[first], granted_s[last]
            taken = sum(call.estimate[0] for call in calls[first : last + 1])
            back = sum(
                max(0, call.estimate[0] - call.actual[0])
                for call, at_s in zip(calls, granted_s, strict=True)
                if begins <= at_s + call.service_s <= ends
            )
            assert taken - back <= bucket.capacity + bucket.rate_per_s * (ends - begins) + 1e-6


@settings(max_examples=150, deadline=None)
@given(buckets, lines, workers)
def test_first_come_first_served(bucket: Bucket, calls: list[Call], n_workers: int | None) -> None:
    """Nobody starts before it came or before the one ahead, nor beyond the number of workers."""
    line = perfect_line([bucket], calls, n_workers)
    ends_s = [at + call.service_s for at, call in zip(line.granted_s, calls, strict=True)]
    assert all(sooner <= later for sooner, later in pairwise(line.granted_s))
    assert all(at >= call.arrives_s for at, call in zip(line.granted_s, calls, strict=True))
    assert line.makespan_s == max(ends_s)
    for i, at_s in enumerate(line.granted_s):
        busy = sum(end > at_s for end in ends_s[:i])
        assert n_workers is None or busy < n_workers


@settings(max_examples=150, deadline=None)
@given(buckets, st.lists(units, min_size=1, max_size=40))
def test_exact_estimates_take_cost_over_rate(bucket: Bucket, costs: list[int]) -> None:
    """From a full bucket the n-th call starts when (cost so far - capacity)/rate is reached."""
    line = perfect_line([bucket], [exact(cost) for cost in costs])
    due = [max(0.0, (sum_ - bucket.capacity) / bucket.rate_per_s) for sum_ in accumulate(costs)]
    assert line.granted_s == pytest.approx(due)
    assert line.makespan_s == pytest.approx(lower_bound([bucket], [exact(c) for c in costs]))


@settings(max_examples=150, deadline=None)
@given(buckets, lines, workers)
def test_no_line_beats_cost_over_rate(
    bucket: Bucket, calls: list[Call], n_workers: int | None
) -> None:
    """With estimates that are not too low, the makespan is at least cost/rate after the burst."""
    high = [Call((max(c.estimate[0], c.actual[0]),), c.actual, c.service_s) for c in calls]
    assert perfect_line([bucket], high, n_workers).makespan_s >= lower_bound([bucket], high) - 1e-6


def test_too_high_estimates_cost_time_and_exact_ones_next_to_none() -> None:
    """A fleet of 128 workers: the same calls take longer the more their estimates are too high."""
    limits = fleet(6_000, 2_400_000, 12)
    calls = {times: list(workload(1_500, 7, too_high=times)) for times in (1.0, 2.0, 4.0)}
    took = {times: perfect_line(limits, drawn, 128).makespan_s for times, drawn in calls.items()}
    assert took[1.0] < took[2.0] < took[4.0]
    # What exact estimates lose is the last call's own time, 1.2 s at most, and the first burst's
    # end, when a call waits behind a bigger one.
    assert took[1.0] - lower_bound(limits, calls[1.0]) < 2.0
