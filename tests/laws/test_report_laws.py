"""Reports: each counts once, whatever gets lost; nothing is stored where nobody reports; what is expires.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core import definition, layout
from limiter.core.line import Line
from limiter.core.model import Model
from limiter.core.ops import report
from limiter.core.quota import Limit, Quota
from limiter.errors import StoreTimeout
from tests.laws.conftest import Tell
from tests.laws.story import DENIED, FAILED, REFUSED, SERVED, SLOW_DOWN, START_US, Owner

# --- a report counts once -------------------------------------------------------------------------


def everything(owner: Owner) -> tuple:
    return owner.known(), owner.story.levels()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from([SERVED, REFUSED, SLOW_DOWN, FAILED, DENIED]),
            st.sampled_from([None, 500_000]),
            st.lists(st.sampled_from(["ran", "did not run"]), max_size=3),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_a_report_that_is_sent_again_counts_once(tell: Tell, answers: list[tuple]) -> None:
    """Law 8: replies are lost, of batches that ran and of some that did not; the end is the same."""
    limits = {"limits": [Limit("tokens", 6_000_000), Limit("concurrency", 9, None, adaptive=True)]}
    ends = []
    for is_lossy in (False, True):
        story = tell(**limits)
        ann = story.owner("ann")
        for verdict, wait_us, losses, settles in answers:
            story.after(1)
            n = ann.ask(flags=0, tokens=100)
            told, first = replace(verdict, wait_us=wait_us), ann.number + 1
            for loss in losses if is_lossy else ():
                entries = [ann.reported(n, told, first=first if first <= ann.number else 0)]
                if settles:
                    entries.append(layout.settle(n, story.agreed.actual({})))
                ann.number += loss == "did not run"
                if loss == "ran":
                    ann.send(*entries)
            ann.send(ann.reported(n, told, first=first if first <= ann.number else 0))
            ann.settle(n)
        ends.append(everything(ann))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("ran", [True, False])
def test_a_client_says_that_it_reported_before(ran: bool) -> None:
    """Law 8: a lost reply makes a client send its report again, and it counts once all the same."""
    agreed = definition.read("q", "1", definition.write(Quota("q", rpm=600)))
    line, model = Line(agreed, "ann", 30_000_000, 10_000_000), Model(agreed, START_US)

    def run(now_us: int) -> layout.Reply:
        batch = line.depart(now_us)
        assert batch is not None
        return model.run(now_us, "ann", batch.number, 30_000_000, "1", batch.entries)[0]

    for i in range(4):
        now_us = START_US + 5_000_000 * i
        line.post(report(1, DENIED, ()))
        for _ in range(2):
            if ran:
                run(now_us)
            else:
                line.depart(now_us)
            line.lost(StoreTimeout("no answer"), now_us, retry=True)
            now_us += 1_000_000
        line.arrive(run(now_us), now_us)
        assert model.feedback.routes[""].denied == i + 1
