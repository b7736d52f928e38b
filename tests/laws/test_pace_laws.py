"""Pace: a limit that nobody knows is found out; the growth that a provider refuses is slowed down.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

import pytest

from tests.laws.conftest import Tell
from tests.laws.story import REFUSED


@pytest.mark.parametrize("rpm", [1, 7, 60, 500, 600, 10_000, 2**30])
def test_any_rate_can_be_halved(tell: Tell, rpm: int) -> None:
    """A refusal halves the pace of an adaptive limit, whatever its numbers: also those in lowest terms."""
    story = tell(rpm=rpm, adaptive=True)
    ann = story.owner("ann")
    full = story.agreed.limits[0].scaled[0]
    ann.report(ann.ask(), REFUSED)
    assert ann.known().limits["requests/minute"].num == full // 2
    assert full >= 1000
