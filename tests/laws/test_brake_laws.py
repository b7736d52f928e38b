"""Law 11: when one process has heard "not before", nobody starts before; and then not all at once.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from limiter.core.quota import Limit
from limiter.providers.verdict import Verdict
from tests.laws.conftest import Tell
from tests.laws.story import REFUSED, SLOW_DOWN, Owner

EVERYTHING = {"rpm": 600, "tpm": 6000, "rpd": 5000, "tpd": 90_000}


def refused(wait_s: float) -> Verdict:
    return replace(REFUSED, wait_us=round(wait_s * 1e6))


def is_refused(owner: Owner, verdict: Verdict, **cost: int) -> None:
    """Make a call that the provider refuses, and that is settled as such."""
    n = owner.ask(flags=0, **cost)
    owner.report(n, verdict)
    owner.settle(n, requests=1, **{name: 0 for name in cost if name != "requests"})


def grants_of(owner: Owner, seconds: float, *, step: float = 0.01) -> int:
    before = len(owner.granted)
    for _ in range(round(seconds / step)):
        owner.story.after(step)
        owner.poll()
    return len(owner.granted) - before


# --- levels after a refusal that explains nothing --------------------------------------------------


@pytest.mark.parametrize("limits", [{"rpm": 120}, {"tpm": 6000}, {"rpm": 120, "tpm": 6000}])
@pytest.mark.parametrize("wait_s", [0, 0.5, 5, 90])
def test_calls_come_back_at_the_rate(tell: Tell, limits: dict, wait_s: float) -> None:
    """When the brake ends there is room for the refused call, and for the others at the rate."""
    story = tell(**limits)
    ann = story.owner("ann")
    is_refused(ann, refused(wait_s), tokens=50)
    for _ in range(30):
        ann.ask(tokens=50)
    story.now += round(wait_s * 1e6) - 1 if wait_s else 0
    ann.poll()
    assert len(ann.granted) == 1 + (not wait_s)
    story.now += bool(wait_s)
    ann.poll()
    assert len(ann.granted) == 2
    assert grants_of(ann, 10) == 20


def test_a_refusal_spares_the_limits_of_a_day(tell: Tell) -> None:
    """Who may come back in a second was not refused by the limit of a day: its budget is left alone."""
    story = tell(**EVERYTHING)
    ann = story.owner("ann")
    for verdict in (refused(1), replace(SLOW_DOWN, wait_us=1_000_000)):
        is_refused(ann, verdict, tokens=100)
        story.after(1)
    levels = story.levels()
    assert levels["requests/day"] >= 5000 - 2
    assert levels["tokens/day"] == 90_000
    assert levels["tokens/minute"] <= 200


def test_a_long_wait_is_one_of_a_long_limit(tell: Tell) -> None:
    """After a wait of hours there is room for the refused call of the limit that it may be about."""
    story = tell(limits=[Limit("tokens", 3600, 3600.0, headroom=0)])
    ann = story.owner("ann")
    is_refused(ann, refused(10), tokens=10)
    assert story.after(10).levels() == {"tokens/hour": 3600}
    is_refused(ann, refused(3000), tokens=10)
    assert story.after(3000).levels() == {"tokens/hour": 10}
