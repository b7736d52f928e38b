"""Whether and when a failed call is repeated: decisions, with clock and dice in the test's hand."""

from __future__ import annotations

import math
import pickle

import pytest

from limiter import CallFailed, ConfigError, Retry, WaitTimeout
from limiter.providers import Outcome, Verdict
from limiter.retrying import Course

FAILED = Verdict(Outcome.FAILED, 500, "boom", "The server\nfell over.", again=True)
REFUSED = Verdict(
    Outcome.REFUSED, 429, "rate_limit_exceeded", "Wait.", again=True, wait_us=2_000_000
)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def begun(retry: Retry, jitter: float = 1.0, stood_s: float = 0.0) -> Course:
    """Make a course whose first attempt was granted after some time in the line."""
    course = Course(retry, Clock(), lambda: jitter)
    course.asks()
    course.clock.now += stood_s
    course.granted()
    return course


@pytest.mark.parametrize("jitter", [0.0, 0.3, 1.0])
def test_a_pause_is_any_part_of_a_growing_whole(jitter: float) -> None:
    """Full jitter: from 0 to backoff, doubled each time, never above its most."""
    course = begun(Retry(attempts=8, backoff=0.5, backoff_max=3.0), jitter)
    pauses = []
    for _ in range(5):
        pauses.append(course.pause_s(FAILED))
        course.asks()
        course.granted()
    assert pauses == [jitter * most for most in (0.5, 1.0, 2.0, 3.0, 3.0)]
    assert Retry().pause_s(10_000, jitter) == jitter * 30.0


def test_who_waits_behind_a_brake_makes_no_pause() -> None:
    """A refusal that says how long is the line's business; a failure that does is jittered too."""
    course = begun(Retry())
    assert course.pause_s(REFUSED) == 0.0
    failed = Verdict(Outcome.FAILED, 503, "x", "", again=True, wait_us=2_000_000)
    assert course.pause_s(failed) == 0.5
    refused = Verdict(Outcome.REFUSED, 429, "x", "", again=True)
    assert course.pause_s(refused) == 0.5


def test_attempts_end() -> None:
    """The first one is counted, too."""
    course = begun(Retry(attempts=2))
    assert course.pause_s(FAILED) is not None
    course.granted()
    assert course.pause_s(FAILED) is None
    assert begun(Retry(attempts=1)).pause_s(FAILED) is None


@pytest.mark.parametrize(
    ("verdict", "left", "is_over"),
    [(FAILED, 0.6, False), (FAILED, 0.5, True), (REFUSED, 2.1, False), (REFUSED, 2.0, True),
     (FAILED, -1.0, True)],
)  # fmt: skip
def test_time_ends(verdict: Verdict, left: float, *, is_over: bool) -> None:
    """What could not begin within the time is not begun; time counts from when it was sent."""
    course = begun(Retry(within=10.0), stood_s=100.0)
    course.clock.now += 10.0 - left
    assert (course.pause_s(verdict) is None) is is_over


def test_a_repeat_stands_in_line_for_what_is_left() -> None:
    """Of the whole time, and of the call's own patience, which all its attempts share."""
    course = begun(Retry(within=10.0), stood_s=3.0)
    course.clock.now += 4.0
    assert course.pause_s(FAILED) is not None
    assert course.asking(None) == {"repeats": True, "timeout": 6.0}
    assert course.asking(math.inf)["timeout"] == 6.0
    assert course.asking(5.0)["timeout"] == 2.0
    course.clock.now += 1.5
    course.granted()
    assert course.waits_s == [1.5]
    assert course.pause_s(FAILED) is not None
    assert course.asking(5.0)["timeout"] == 0.5
    assert course.asking(1.0)["timeout"] == 0.0
    course.clock.now += 100
    assert course.asking(None)["timeout"] == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"attempts": 0}, "attempts= is a whole number"), ({"attempts": 2.0}, "attempts= is a whole"),
     ({"attempts": True}, "attempts= is a whole"), ({"within": -1}, "within= is seconds"),
     ({"within": math.inf}, "within= is seconds"), ({"backoff": math.nan}, "backoff= is seconds"),
     ({"backoff_max": "1"}, "backoff_max= is seconds"), ({"backoff": False}, "backoff= is sec")],
)  # fmt: skip
def test_wrong_numbers_are_refused(settings: dict, message: str) -> None:
    """At once, with what to write."""
    with pytest.raises(ConfigError, match=message):
        Retry(**settings)


def test_what_retry_may_be() -> None:
    """A value, or whether at all."""
    assert Retry.of(True) == Retry()
    assert Retry.of(Retry(attempts=2)) == Retry(attempts=2)
    assert Retry.of(None) is Retry.of(False) is None
    for wrong in (3, "yes", Retry):
        with pytest.raises(ConfigError, match="retry= is a Retry"):
            Retry.of(wrong)


def test_a_failure_says_what_how_often_and_what_to_do() -> None:
    """Numbers as attributes; a message for people; it crosses processes without its response."""
    course = begun(Retry(attempts=2))
    course.pause_s(FAILED)
    course.clock.now += 0.25
    course.granted()
    course.pause_s(FAILED)
    error = course.failure("gpt-4o", FAILED, object())
    assert str(error) == (
        "The call on 'gpt-4o' failed for good. The last answer was 500 boom: The server fell over. "
        "It was tried 2 times, with waits of 0.25 s; Retry(attempts=2) allows no more. Come again "
        "later, or look at what the provider says."
    )
    assert (error.attempts, error.waits_s, error.status, error.code) == (2, (0.25,), 500, "boom")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.verdict) == (CallFailed, str(error), FAILED)
    assert again.response is None
    assert error.response is not None


def test_a_failure_says_why_the_line_did_not_help() -> None:
    """The reason has advice of its own; where there was no answer, the exception is named."""
    course = begun(Retry())
    course.pause_s(FAILED)
    lost = Verdict(Outcome.FAILED, 0, "ConnectError", "", again=True)
    error = course.failure("q", lost, None, WaitTimeout("Too late. Wait longer.", wait_s=1.0))
    assert str(error) == (
        "The call on 'q' failed for good. There was no answer: ConnectError. It was tried once; "
        "the next was not let go: Too late. Wait longer."
    )
