"""What a process knows of the length of answers, and when it asks."""

from __future__ import annotations

from limiter.core.forecasts import FRESH_US, KEYS, QUESTIONS, Forecasts
from limiter.core.sketch import OutputKey, bucket_of, tokens_of

CHAT = OutputKey("chat 10 gpt-4o", 900)
P90 = bucket_of(300)


def test_what_is_not_known_is_asked_once() -> None:
    """Any number of calls at the start are one question, and none of them waits for it."""
    known = Forecasts()
    assert [known.expected(CHAT, n) for n in range(30)] == [None] * 30
    assert known.questions() == [CHAT]
    assert known.questions() == []


def test_an_answer_is_known_until_the_next_one() -> None:
    """The newest counts; one of too few calls is no answer."""
    known = Forecasts()
    for bucket, tokens in ((P90, tokens_of(P90)), (7, 7), (0, None)):
        known.heard(CHAT, bucket, 5)
        assert known.expected(CHAT, 6) == tokens
    assert known.questions() == []


def test_an_old_answer_counts_and_is_asked_anew() -> None:
    """What was heard some time ago is better than nothing, and may be outdated."""
    known = Forecasts()
    known.heard(CHAT, P90, 0)
    assert known.expected(CHAT, FRESH_US - 1) == tokens_of(P90)
    assert known.questions() == []
    assert known.expected(CHAT, FRESH_US) == known.expected(CHAT, FRESH_US) == tokens_of(P90)
    assert known.questions() == [CHAT]


def test_each_quantile_is_a_question_of_its_own() -> None:
    """Clients with different settings do not hear each other's answers."""
    known = Forecasts()
    known.heard(CHAT, P90, 0)
    assert known.expected(CHAT._replace(permille=500), 1) is None


def test_it_stays_small() -> None:
    """Whatever keys callers come up with, few are remembered, and few are asked about at once."""
    known = Forecasts()
    for n in range(10 * KEYS):
        known.expected(OutputKey(f"chat any {n}", 900), n)
        assert len(known._known) <= KEYS
    assert len(known.questions()) == QUESTIONS
