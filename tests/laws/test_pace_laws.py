"""Pace: a limit that nobody knows is found out; the growth that a provider refuses is slowed down.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

import pytest

from limiter.core.quota import Limit
from tests.laws.conftest import Tell
from tests.laws.story import REFUSED, SERVED, SLOW_DOWN, Owner


@pytest.mark.parametrize("rpm", [1, 7, 60, 500, 600, 10_000, 2**30])
def test_any_rate_can_be_halved(tell: Tell, rpm: int) -> None:
    """A refusal halves the pace of an adaptive limit, whatever its numbers: also those in lowest terms."""
    story = tell(rpm=rpm, adaptive=True)
    ann = story.owner("ann")
    full = story.agreed.limits[0].scaled[0]
    ann.report(ann.ask(), REFUSED)
    assert ann.known().limits["requests/minute"].num == full // 2
    assert full >= 1000


# --- slow_down ------------------------------------------------------------------------------------


def paces(owner: Owner) -> dict[str, float]:
    """At which part of its rate each limit is used."""
    known = owner.known().limits
    return {
        limit.label: known[limit.label].num / limit.scaled[0]
        for limit in owner.story.agreed.limits
        if limit.per
    }


def busy(owner: Owner, seconds: int, **cost: int) -> None:
    """Make a call a second."""
    for _ in range(seconds):
        owner.story.after(1)
        owner.call(SERVED, **cost)


def test_a_ramp_begins_at_two_thirds_of_what_was_used(tell: Tell) -> None:
    """6 million tokens a minute may be used and 3 are: after slow_down it is 2 million."""
    story = tell(tpm=6_000_000, rpm=10_000, rpd=100_000)
    ann = story.owner("ann")
    busy(ann, 130, tokens=50_000)
    ann.call(SLOW_DOWN, tokens=50_000)
    found = paces(ann)
    assert found["tokens/minute"] == pytest.approx(1 / 3, rel=0.05)
    assert (found["requests/minute"], found["requests/day"]) == (1, 1)
    levels = story.levels()
    assert levels["tokens/minute"] <= 50_000
    assert levels["requests/day"] > 99_000


def test_no_ramp_below_a_million_tokens_a_minute(tell: Tell) -> None:
    """From 1 million TPM on growth is limited (OpenAI): nobody is slowed down below that."""
    story = tell(limits=[Limit("tokens", 4_000_000, headroom=0), Limit("tokens", 600_000, 30.0)])
    ann = story.owner("ann")
    busy(ann, 130, tokens=100)
    ann.call(SLOW_DOWN, tokens=100)
    found = paces(ann)
    assert found["tokens/minute"] == pytest.approx(1 / 4, rel=0.01)
    assert found["tokens/30s"] == pytest.approx(1_000_000 / 1_200_000, rel=0.01)


def test_a_ramp_begins_lower_where_nothing_is_known(tell: Tell) -> None:
    """Where nobody knows what was used, each slow_down takes a third of the pace."""
    story = tell(tpm=9_000_000)
    ann = story.owner("ann")
    for part in (2 / 3, 4 / 9, 8 / 27):
        ann.call(SLOW_DOWN, tokens=1)
        story.after(1)
        assert paces(ann)["tokens/minute"] == pytest.approx(part, rel=0.01)


def test_requests_stand_for_tokens_that_are_not_limited(tell: Tell) -> None:
    """Where only requests are limited these are slowed down, not below a tenth."""
    story = tell(rpm=6000)
    ann = story.owner("ann")
    busy(ann, 130)
    ann.call(SLOW_DOWN)
    assert paces(ann) == {"requests/minute": pytest.approx(0.1, rel=0.01)}


def test_a_days_budget_has_no_pace(tell: Tell) -> None:
    """A refusal does not take a day's budget from an adaptive quota."""
    story = tell(rpm=600, rpd=10_000, adaptive=True)
    ann = story.owner("ann")
    ann.call(REFUSED)
    assert paces(ann) == {"requests/minute": 0.5, "requests/day": 1}
    assert story.levels()["requests/day"] == 9999
