"""What an answer tells becomes rows for the script, and limits to learn."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from limiter import Limit, Quota
from limiter.core import definition, layout, ops
from limiter.core.line import Line
from limiter.core.quota import PROBE
from limiter.core.told import UNSURE_BURST_S, Lessons, matching, rows, to_learn
from limiter.providers import Outcome, Seen, Verdict

DAY_US = 86_400_000_000
SERVED = Verdict(Outcome.SERVED, when="start")
HALF = Seen("requests", 600, remaining=300, full_us=30_000_000, slack_us=1000, is_bucket=True)


def agreed(quota: Quota) -> definition.Definition:
    return definition.read(quota.unit, "1", definition.write(quota))


def row(seen: Seen, *, rpm: int = 600, **verdict: object) -> layout.Row:
    told = replace(SERVED, seen=(seen,), **verdict)
    return rows(agreed(Quota("q", rpm=rpm)), (), told)[0]


def test_what_is_used_is_the_time_to_full_at_the_rate() -> None:
    """600 per minute, full in 30 s: 300 are used, to the fraction that the reset tells."""
    num, den = agreed(Quota("q", rpm=600)).limits[0].scaled
    assert row(HALF) == layout.Row(
        1, num, layout.AT_START + layout.TOLD + layout.MAY_RAISE, 300 * den, 1000 * num, num // 10
    )
    finer = replace(HALF, full_us=30_000_100, remaining=299)
    assert row(finer).used == 300 * den + 100 * num


def test_a_part_of_a_limit_may_be_used_while_it_is_there() -> None:
    """Declared less than the provider grants: what others used beyond our part says nothing."""
    den = agreed(Quota("q", rpm=200)).limits[0].scaled[1]
    part = row(HALF, rpm=200)
    assert part.used == (200 - 300) * den  # 300 are left, and ours are 200
    assert not part.flags & layout.MAY_RAISE
    scarce = row(replace(HALF, remaining=50, full_us=55_000_000), rpm=200)
    assert scarce.used == (200 - 50) * den


def test_of_a_window_only_what_is_left_counts() -> None:
    """No bucket: our level is at most what is left, and never raised by it."""
    window = replace(HALF, full_us=None, is_bucket=False)
    found, quota = row(window), Quota("q", rpm=600)
    limit = quota.limits[0]
    assert found.flags == layout.TOLD + layout.AT_END
    assert found.used == (limit.capacity - 300) * limit.scaled[1]
    assert not row(replace(window, remaining=None)).flags & layout.TOLD


@pytest.mark.parametrize("explained", [True, False])
def test_a_refused_call_is_not_in_its_own_refusal(*, explained: bool) -> None:
    """Headers of a 429 tell levels without the call; only its text explains why it was refused."""
    tokens = replace(HALF, dimension="tokens")
    by = replace(tokens, remaining=0, full_us=60_000_000) if explained else None
    told = replace(SERVED, seen=(HALF, tokens), outcome=Outcome.REFUSED, refused_by=by)
    requests, found = rows(agreed(Quota("q", rpm=600, tpm=600)), (), told)
    assert found.flags & layout.UNCOUNTED
    assert not found.flags & layout.MAY_RAISE
    assert bool(found.flags & layout.EXPLAINS) is explained
    assert not requests.flags & (layout.UNCOUNTED + layout.EXPLAINS)  # it counts all the same


def test_of_several_quotas_an_amount_tells_which_is_meant() -> None:
    """A call for two quotas of a group: what is told is of the one whose limit is equal, or of none."""
    group = definition.read("g", "1", definition.write(Quota("a", rpm=600, group="g")))
    for other, told in ((900, [True, False]), (600, [False, False])):
        both = definition.read("g", "2", definition.write(Quota("b", rpm=other, group="g"), group))
        for verdict in (replace(SERVED, seen=(HALF,)), replace(SERVED, refused_by=HALF)):
            for quotas in (("a", "b"), ("b", "a"), ()):
                found = rows(both, quotas, verdict)
                assert [bool(each.flags & layout.TOLD) for each in found] == told
            assert rows(both, ("b",), verdict)[0].flags & layout.TOLD


def test_a_limit_is_told_by_dimension_and_period() -> None:
    """A day's requests say nothing of a minute's; of several that fit the equal one, then the least."""
    minute = Limit("requests", 600)
    day = replace(HALF, period_us=DAY_US)
    assert matching(minute, [day]) is None
    project, other = replace(HALF, amount=500, scope="project"), replace(HALF, amount=900)
    assert matching(minute, [other, project]) == project
    assert matching(minute, [project, other, HALF]) == HALF


def test_a_quota_without_numbers_learns_them_all() -> None:
    """Each limit that is told is taken, with the burst that its shape allows; doubtful ones are not."""
    quota = Quota("q")
    tokens = replace(HALF, dimension="tokens", amount=9000, is_bucket=None)
    window = replace(HALF, dimension="images", amount=50, is_bucket=False)
    doubtful = replace(HALF, dimension="audio", remaining=600, full_us=0)
    daily = replace(HALF, dimension="input_tokens", period_us=DAY_US, is_bucket=None)
    learned = to_learn(quota, quota, [HALF, tokens, window, doubtful, daily])
    assert [(each.label, each.amount, each.burst) for each in learned] == [
        ("requests/minute", 600, "full"), ("tokens/minute", 9000, UNSURE_BURST_S),
        ("images/minute", 50, "smooth"), ("input_tokens/day", 600, "full"),
    ]  # fmt: skip
    assert quota.limits == (PROBE,)


def test_a_window_stays_one() -> None:
    """One answer that contradicts a bucket is believed for good; a doubt is settled by proof."""
    quota = Quota("q")
    for first, then, burst in (
        (False, True, "smooth"), (None, True, "full"), (True, None, "full"), (True, False, "smooth"),
    ):  # fmt: skip
        known = quota.limited_by(to_learn(quota, quota, [replace(HALF, is_bucket=first)]))
        again = to_learn(known, quota, [replace(HALF, is_bucket=then)])
        now = {limit.label: limit for limit in (*known.limits, *again)}
        assert now["requests/minute"].burst == burst


def test_a_declared_limit_follows_what_is_less() -> None:
    """Less than declared is followed, and back; more than declared never is."""
    quota = agreed(Quota("q", rpm=600, concurrency=4))
    less = to_learn(quota.members[0], quota.declared[0], [replace(HALF, amount=300)])
    assert [(limit.label, limit.amount) for limit in less] == [("requests/minute", 300)]
    halved = definition.read("q", "2", definition.learn(quota, "q", less))
    assert (halved.limits[0].amount, halved.declared[0].limits[0].amount) == (300, 600)
    assert definition.write(Quota("q", rpm=600, concurrency=4), halved) == halved.text
    back = to_learn(halved.members[0], halved.declared[0], [replace(HALF, amount=900)])
    assert definition.learn(halved, "q", back) == quota.text


def test_a_redeclaration_keeps_what_was_told() -> None:
    """Numbers that somebody declares anew are held under what the provider told before."""
    quota = agreed(Quota("q", rpm=600))
    lower = to_learn(quota.members[0], quota.declared[0], [replace(HALF, amount=300)])
    halved = definition.read("q", "2", definition.learn(quota, "q", lower))
    anew = definition.read("q", "3", definition.write(Quota("q", rpm=500), halved))
    assert (anew.limits[0].amount, anew.declared[0].limits[0].amount) == (300, 500)
    small = definition.read("q", "4", definition.write(Quota("q", rpm=200), halved))
    assert (small.limits[0].amount, small.declared[0].limits[0].amount) == (200, 200)
    learns = definition.read("q", "5", definition.write(Quota("q"), halved))
    assert learns.limits == (PROBE,)


def test_contradicting_answers_are_taken_over_ever_more_rarely() -> None:
    """The first changes are followed at once; a pause doubles with each that follows soon."""
    lessons = Lessons()
    taken = [now_us for now_us in range(0, 120_000_000, 50_000) if lessons.may_take(now_us)]
    pauses = [b - a for a, b in itertools.pairwise(taken)]
    assert pauses[:3] == [250_000, 500_000, 1_000_000]
    assert pauses == sorted(pauses)
    assert lessons.may_take(taken[-1] + 200_000_000)
    assert lessons.may_take(taken[-1] + 200_000_000 + 250_000)


def test_an_answer_from_before_a_change_teaches_nothing() -> None:
    """Its headers were written when its call was let in: it tells the limits of then."""
    line = Line(agreed(Quota("q")), "owner", 30_000_000, 10_000_000)
    verdict = replace(SERVED, seen=(HALF,))
    before, since = (ops.report(1, verdict, (), version) for version in ("0", "1"))
    assert ops.pupil(line, before, 0) is None
    assert ops.pupil(line, since, 0) == "q"
