"""Laws of the four models of enforcement. Time is an argument; nothing sleeps."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.mock.enforce import MINUTE_US, Admission, Enforcer, Refusal
from limiter.mock.meters import MODELS

LIMIT = 600
GAPS_US = st.one_of(
    st.integers(0, 3_000_000), st.integers(0, 70_000_000), st.sampled_from([0, 1, MINUTE_US])
)
CALLS = st.lists(st.tuples(GAPS_US, st.integers(1, LIMIT)), min_size=1, max_size=40)
SMALL_CALLS = st.lists(st.tuples(GAPS_US, st.integers(1, LIMIT // 60)), min_size=1, max_size=40)
EVERY_MODEL = pytest.mark.parametrize("model", list(MODELS))


def accepted(model, calls, limit=LIMIT, **options):
    """Give (at_us, amount) of the calls that a fresh enforcer admits."""
    enforcer, now_us, admitted = Enforcer(model, {"tokens": limit}, **options), 0, []
    for gap_us, amount in calls:
        now_us += gap_us
        if isinstance(enforcer.admit({"tokens": amount}, now_us), Admission):
            admitted.append((now_us, amount))
    return admitted


def most_in_window(admitted, span_us):
    """Give the largest sum within any half-open window of `span_us`."""
    starts = [at_us for at_us, _ in admitted]
    return max(
        (sum(n for at, n in admitted if start <= at < start + span_us) for start in starts),
        default=0,
    )


@given(CALLS)
def test_a_bucket_admits_at_most_its_capacity_and_what_flows_in(calls):
    """Over every interval T, accepted <= L + L x T / 60 s."""
    admitted = accepted("bucket", calls)
    for first, (start_us, _) in enumerate(admitted):
        total = 0
        for at_us, amount in admitted[first:]:
            total += amount
            assert total * MINUTE_US <= LIMIT * (MINUTE_US + at_us - start_us)


@given(CALLS)
def test_a_bucket_decides_as_exact_fractions_do(calls):
    """A call is admitted if and only if the exact level covers it: no drift, nothing withheld."""
    level, now_us, expected = Fraction(LIMIT), 0, []
    for gap_us, amount in calls:
        now_us += gap_us
        level = min(Fraction(LIMIT), level + Fraction(gap_us * LIMIT, MINUTE_US))
        if level >= amount:
            level -= amount
            expected.append((now_us, amount))
    assert accepted("bucket", calls) == expected


@given(CALLS)
def test_a_sliding_log_holds_in_every_window(calls):
    """Any 60 s hold at most L, and a call that would fit is admitted."""
    admitted = accepted("sliding", calls)
    assert most_in_window(admitted, MINUTE_US) <= LIMIT
    now_us = 0
    for gap_us, amount in calls:
        now_us += gap_us
        recent = sum(n for at, n in admitted if now_us - MINUTE_US < at <= now_us)
        assert recent + amount > LIMIT or (now_us, amount) in admitted


@given(CALLS)
def test_a_fixed_window_starts_with_the_first_call_and_holds_in_each(calls):
    """Windows follow each other from the first call on; each admits L and no more."""
    start_us, now_us, used, expected = calls[0][0], 0, {}, []
    for gap_us, amount in calls:
        now_us += gap_us
        window = (now_us - start_us) // MINUTE_US
        if used.get(window, 0) + amount <= LIMIT:
            used[window] = used.get(window, 0) + amount
            expected.append((now_us, amount))
    assert accepted("fixed", calls) == expected


@pytest.mark.parametrize("model", ["fixed", "sliding"])
def test_a_window_ends_after_sixty_seconds_and_not_before(model):
    """The microsecond counts: at 60 s less one it is closed, at 60 s it is open."""
    calls = [(0, LIMIT), (MINUTE_US - 1, 1), (1, 1)]
    assert accepted(model, calls) == [(0, LIMIT), (MINUTE_US, 1)]


def test_fixed_windows_stay_aligned_after_a_pause():
    """A window that opens late ends with the raster of the first call, not 60 s after that."""
    calls = [(0, LIMIT), (MINUTE_US * 3 // 2, LIMIT), (MINUTE_US // 2, LIMIT)]
    assert len(accepted("fixed", calls)) == 3


def test_a_sliding_log_waits_for_as_many_charges_as_it_takes():
    """The wait ends when enough of the oldest charges have aged away, no sooner."""
    enforcer = Enforcer("sliding", {"tokens": 10})
    for at_us, amount in ((0, 3), (10, 3), (20, 4)):
        enforcer.admit({"tokens": amount}, at_us)
    waits = [enforcer.admit({"tokens": n}, 20).wait_us for n in (3, 4, 6, 7)]
    assert waits == [MINUTE_US + left for left in (-20, -10, -10, 0)]


@given(SMALL_CALLS)
def test_a_quantised_limit_holds_by_the_second_and_by_the_minute(calls):
    """Each second, counted from the first call, admits L/60, and each minute L."""
    admitted = accepted("quantised", calls)
    start_us = calls[0][0]
    for span_us, most in ((MINUTE_US // 60, LIMIT // 60), (MINUTE_US, LIMIT)):
        used = {}
        for at_us, amount in admitted:
            window = (at_us - start_us) // span_us
            used[window] = used.get(window, 0) + amount
        assert all(total <= most for total in used.values())


def test_a_quantised_minute_binds_when_its_seconds_round_up():
    """90 a minute is 2 in a second, yet 90 in a minute."""
    calls = [(0, 1)] + [(500_000, 1)] * 119
    assert len(accepted("quantised", calls, limit=90)) == 90


@EVERY_MODEL
@given(calls=SMALL_CALLS)
def test_a_refused_call_takes_nothing(model, calls):
    """After a refusal, in one dimension or in both, every dimension stands as before."""
    enforcer, now_us = Enforcer(model, {"requests": 60, "tokens": LIMIT}), 0
    for gap_us, amount in calls * 3:
        now_us += gap_us // 100
        before = enforcer.view(now_us)
        if isinstance(enforcer.admit({"requests": 1, "tokens": amount}, now_us), Refusal):
            assert enforcer.view(now_us) == before


@EVERY_MODEL
@given(calls=SMALL_CALLS, amount=st.integers(1, LIMIT // 60))
def test_the_wait_that_is_told_is_long_enough(model, calls, amount):
    """Who comes alone after the wait, floored to the ms, plus one ms, is admitted."""
    enforcer, now_us = Enforcer(model, {"requests": 60, "tokens": LIMIT}), 0
    for gap_us, taken in calls * 3:
        now_us += gap_us // 100
        enforcer.admit({"requests": 1, "tokens": taken}, now_us)
    refusal = enforcer.admit({"requests": 1, "tokens": amount}, now_us)
    for _ in range(2):  # a quantised call can wait for its second, and then for its minute
        if isinstance(refusal, Admission):
            return
        now_us += refusal.wait_us // 1_000 * 1_000 + 1_000
        refusal = enforcer.admit({"requests": 1, "tokens": amount}, now_us)
    assert isinstance(refusal, Admission)


@EVERY_MODEL
def test_a_call_above_the_limit_is_told_that_it_never_fits(model):
    """It has no wait, and the limit it is told is one that a call can have."""
    enforcer = Enforcer(model, {"tokens": LIMIT})
    refusal = enforcer.admit({"tokens": LIMIT + 1}, 0)
    assert isinstance(refusal, Refusal)
    assert refusal.wait_us is None
    assert isinstance(enforcer.admit({"tokens": refusal.limit}, 0), Admission)


def test_the_bucket_s_refusal_is_the_arithmetic_of_the_message():
    """Wait = (Used + Requested - Limit) x 60 / Limit, as in messages that OpenAI sent."""
    enforcer = Enforcer("bucket", {"tokens": 500_000})
    enforcer.admit({"tokens": 461_092}, 0)
    assert enforcer.admit({"tokens": 200_268}, 0) == Refusal(
        "tokens", 500_000, 461_092, 200_268, 19_363_200
    )


def test_the_dimension_that_waits_longest_is_named():
    """Of several that are closed, the refusal names the one whose wait holds."""
    enforcer = Enforcer("bucket", {"requests": 60, "tokens": 60})
    for _ in range(60):
        enforcer.admit({"requests": 1, "tokens": 1}, 0)
    assert enforcer.admit({"requests": 1, "tokens": 1}, 0).wait_us == 1_000_000
    assert enforcer.admit({"requests": 1, "tokens": 5}, 0).dimension == "tokens"


@EVERY_MODEL
@given(
    estimate=st.integers(1, 9), actual=st.integers(0, 40), later_us=st.integers(0, MINUTE_US - 1)
)
def test_settling_charges_the_difference_once(model, estimate, actual, later_us):
    """Within the window the level moves by estimate - actual, up to the limit, and only once."""
    enforcer = Enforcer(model, {"tokens": LIMIT})
    admission = enforcer.admit({"tokens": estimate}, 0)
    before = enforcer.view(later_us)["tokens"].remaining
    for _ in range(2):
        enforcer.settle(admission, {"tokens": actual}, later_us)
        after = enforcer.view(later_us)["tokens"].remaining
        assert after == min(LIMIT, before + estimate - actual)


@EVERY_MODEL
def test_overuse_becomes_debt_that_later_calls_wait_for(model):
    """A call trued up beyond the limit closes the quota until its cost has aged away."""
    enforcer = Enforcer(model, {"tokens": LIMIT})
    admission = enforcer.admit({"tokens": 1}, 0)
    enforcer.settle(admission, {"tokens": 3 * LIMIT}, 0)
    assert enforcer.meters["tokens"].room(0) < 0
    assert enforcer.view(0)["tokens"].remaining == 0
    refusal = enforcer.admit({"tokens": 1}, 0)
    assert isinstance(refusal, Refusal)
    assert isinstance(enforcer.admit({"tokens": 1}, refusal.wait_us), Admission)
    # The bucket alone earns debt back; the windows forget it with the window.
    minutes = 2 if model == "bucket" else 1
    assert refusal.wait_us == pytest.approx(minutes * MINUTE_US, rel=0.01)


@EVERY_MODEL
def test_a_refund_never_gives_more_than_the_limit(model):
    """Neither at once nor after the window that the call was made in."""
    for later_us in (0, 59_000_000, 61_000_000, 200_000_000):
        enforcer = Enforcer(model, {"tokens": LIMIT})
        admission = enforcer.admit({"tokens": LIMIT // 60}, 0)
        enforcer.settle(admission, {"tokens": 0}, later_us)
        assert enforcer.view(later_us)["tokens"].remaining == LIMIT


@EVERY_MODEL
def test_a_refusal_costs_a_request_only_if_it_is_charged(model):
    """With `charge_refusals` each refusal takes one request, never below nothing."""
    for charged, left in ((False, 118), (True, 117)):
        enforcer = Enforcer(model, {"requests": 120, "tokens": 60}, charge_refusals=charged)
        enforcer.admit({"requests": 1, "tokens": 1}, 0)
        enforcer.admit({"requests": 1, "tokens": 1}, 2_000_000)
        refused_at_us = 2_000_000
        before = enforcer.view(refused_at_us)["requests"].remaining
        assert isinstance(enforcer.admit({"requests": 1, "tokens": 61}, refused_at_us), Refusal)
        after = enforcer.view(refused_at_us)["requests"].remaining
        assert before - after == 118 - left
        for _ in range(300):
            enforcer.admit({"requests": 1, "tokens": 61}, refused_at_us)
        assert enforcer.meters["requests"].room(refused_at_us) >= 0


def test_resending_at_once_never_gets_through_when_refusals_cost():
    """A caller who resends faster than the refill is refused for as long as it goes on."""
    for charged, most in ((False, 11), (True, 1)):
        enforcer = Enforcer("bucket", {"requests": 60}, charge_refusals=charged)
        for _ in range(60):
            enforcer.admit({"requests": 1}, 0)
        came = [enforcer.admit({"requests": 1}, at) for at in range(0, 10_000_001, 100_000)]
        assert sum(isinstance(outcome, Admission) for outcome in came) <= most
        assert charged or any(isinstance(outcome, Admission) for outcome in came)


@EVERY_MODEL
@given(calls=SMALL_CALLS)
def test_the_reset_is_the_time_until_nothing_is_used(model, calls):
    """At the reset `remaining` is the limit; a millisecond before, something is still used."""
    enforcer, now_us = Enforcer(model, {"tokens": LIMIT}), 0
    for gap_us, amount in calls:
        now_us += gap_us // 10
        enforcer.admit({"tokens": amount}, now_us)
    view = enforcer.view(now_us)["tokens"]
    if view.reset_us > 1_000:
        early = enforcer.view(now_us + view.reset_us - 1_000)["tokens"]
        assert early.remaining < LIMIT
    assert enforcer.view(now_us + view.reset_us + 1)["tokens"].remaining == LIMIT


def test_a_shorter_period_is_the_same_law_faster():
    """With a period of 6 s, a bucket refills ten times as fast."""
    calls = [(0, LIMIT), (3_000_000, LIMIT // 2), (1, 1)]
    assert accepted("bucket", calls, period_us=6_000_000) == [(0, 600), (3_000_000, 300)]


@EVERY_MODEL
@given(calls=SMALL_CALLS, limit=st.integers(1, 3 * LIMIT))
def test_what_is_used_stays_used_when_the_limit_changes(model, calls, limit):
    """The level moves by new - old limit at that moment: a lower limit can leave debt."""
    enforcer, now_us = Enforcer(model, {"tokens": LIMIT}), 0
    for gap_us, amount in calls:
        now_us += gap_us // 100
        enforcer.admit({"tokens": amount}, now_us)
    used = LIMIT - enforcer.view(now_us)["tokens"].remaining
    enforcer.relimit({"tokens": limit}, now_us)
    view = enforcer.view(now_us)["tokens"]
    assert (view.limit, view.remaining) == (limit, max(0, limit - used))


@EVERY_MODEL
def test_a_lowered_limit_is_what_is_enforced(model):
    """Debt keeps the next call waiting, for as long as the refusal says and no longer."""
    enforcer, now_us = Enforcer(model, {"tokens": LIMIT}), 30_000_000
    enforcer.settle(enforcer.admit({"tokens": 1}, 0), {"tokens": LIMIT}, 0)
    enforcer.relimit({"tokens": 60}, now_us)
    refusal = enforcer.admit({"tokens": 1}, now_us)
    assert isinstance(refusal, Refusal)
    assert isinstance(enforcer.admit({"tokens": 1}, now_us + refusal.wait_us - 1), Refusal)
    assert isinstance(enforcer.admit({"tokens": 1}, now_us + refusal.wait_us), Admission)


@EVERY_MODEL
def test_a_raised_limit_is_there_at_once(model):
    """Who was refused under the old limit is admitted under the new one, at the same moment."""
    enforcer = Enforcer(model, {"tokens": 60})
    outcomes = [enforcer.admit({"tokens": 1}, 0) for _ in range(61)]
    assert isinstance(outcomes[-1], Refusal)
    enforcer.relimit({"tokens": 6_000}, 0)
    assert isinstance(enforcer.admit({"tokens": 1}, 0), Admission)


def test_a_bucket_refills_at_the_new_rate_from_the_change_on():
    """Before it at the old rate, after it at the new one: 600 a minute, then 60."""
    enforcer = Enforcer("bucket", {"tokens": 600})
    enforcer.admit({"tokens": 600}, 0)
    enforcer.relimit({"tokens": 1_200}, 30_000_000)
    assert enforcer.meters["tokens"].room(30_000_000) == 300 + 600
    enforcer.relimit({"tokens": 60}, 30_000_000)
    assert enforcer.meters["tokens"].room(30_000_000) == 300 - 540
    assert enforcer.meters["tokens"].room(90_000_000) == 300 - 540 + 60


@EVERY_MODEL
def test_a_limit_that_is_lifted_and_set_again_starts_unused(model):
    """Meanwhile nothing is counted; what was taken before goes back to the old count, not to it."""
    enforcer = Enforcer(model, {"requests": 600, "tokens": LIMIT})
    admission = enforcer.admit({"requests": 1, "tokens": 9}, 0)
    enforcer.relimit({"requests": 600}, 0)
    assert isinstance(enforcer.admit({"requests": 1, "tokens": 99 * LIMIT}, 0), Admission)
    enforcer.relimit({"requests": 600, "tokens": LIMIT}, 0)
    assert enforcer.settle(admission, {"tokens": 0}, 0) == {"tokens": -9}
    assert enforcer.meters["tokens"].room(0) == enforcer.meters["tokens"].capacity
    assert enforcer.view(0)["tokens"].remaining == LIMIT
    assert enforcer.view(0)["requests"].remaining == 598
