"""Which of several quotas is asked first, with the clock and the dice in the test's hand."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from limiter import ConfigError, WaitTimeout
from limiter.choosing import AVOID_S, Choices, is_failure


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Response:
    def __init__(self, status: int, **headers: str) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class AnswerError(Exception):
    def __init__(self, status: int, **headers: str) -> None:
        self.response = Response(status, **headers)


@pytest.fixture
def choices() -> Choices:
    return Choices(Clock(), random.Random(1))


def test_a_list_is_an_order_of_preference(choices: Choices) -> None:
    """The first name is asked first, until it fails; then it comes last for a while."""
    names = ["a", "b", "c"]
    assert choices.order(names) == names
    choices.failed("a", AnswerError(503))
    assert choices.order(names) == ["b", "c", "a"]
    assert choices.to_wait_for(names) == ["b", "c"]
    choices.clock.now += AVOID_S
    assert choices.order(names) == names


def test_where_all_failed_all_are_asked(choices: Choices) -> None:
    """Avoiding is no refusal: with nobody else left, those that failed are stood in line for."""
    for name in "ab":
        choices.avoid(name)
    assert choices.order(["a", "b"]) == choices.to_wait_for(["a", "b"]) == ["a", "b"]


def test_a_mapping_is_drawn_by_weight(choices: Choices) -> None:
    """Each name comes first as often as its weight says."""
    weights = {"a": 1, "b": 3, "c": 6.0}
    first = Counter(choices.order(weights)[0] for _ in range(10_000))
    for name, weight in weights.items():
        assert first[name] == pytest.approx(1_000 * weight, rel=0.08)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry_after": "42"}, 42), ({"retry_after": "soon"}, AVOID_S), ({}, AVOID_S),
     ({"retry_after": "-1"}, AVOID_S), ({"retry_after": "nan"}, AVOID_S)],
)  # fmt: skip
def test_an_answer_that_says_when_is_believed(
    choices: Choices, headers: dict[str, str], seconds: float
) -> None:
    """A refusal with retry-after puts the quota last until then; without it, for a fixed time."""
    choices.failed("a", AnswerError(429, **headers))
    choices.clock.now += seconds - 0.5
    assert choices.is_avoided("a")
    choices.clock.now += 0.5
    assert not choices.is_avoided("a")


@pytest.mark.parametrize(
    ("error", "fails"),
    [(AnswerError(500), True), (AnswerError(429), True), (AnswerError(401), True),
     (AnswerError(400), False), (ConnectionRefusedError(), True), (TimeoutError(), True),
     (KeyError("x"), False), (WaitTimeout("ours", wait_s=1.0), False), (ConfigError("ours"), False)],
)  # fmt: skip
def test_what_says_something_of_a_provider(error: Exception, fails: bool) -> None:
    """A caller's own mistake, or a wait of ours, is no failure of the quota's provider."""
    assert is_failure(error) is fails
