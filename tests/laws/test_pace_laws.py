"""Pace: a limit that nobody knows is found out; the growth that a provider refuses is slowed down.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

import pytest

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.quota import Limit
from limiter.providers.verdict import Outcome, Verdict
from tests.laws.conftest import Tell
from tests.laws.fleet import Fleet, Ways, about
from tests.laws.provider import Slots
from tests.laws.story import FAILED, REFUSED, SERVED, SLOW_DOWN, Owner, Story


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


def test_slow_down_below_a_million_begins_no_ramp(tell: Tell) -> None:
    """A rate that was cut below that grows as it did: within minutes, not by a half in fifteen."""
    story = tell(tpm=6000, adaptive=True)
    ann = story.owner("ann")
    for verdict in (REFUSED, REFUSED, SLOW_DOWN):
        ann.call(verdict, tokens=1)
        story.after(60)
    assert paces(ann) == {"tokens/minute": 0.25}
    saturated(ann, 180, tokens=50)
    assert paces(ann) == {"tokens/minute": 1}


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


def saturated(owner: Owner, seconds: int, every_s: float = 1.0, **cost: int) -> None:
    """Let calls wait all the time, each answered as soon as it is granted."""
    story, answered = owner.story, len(owner.granted)
    for _ in range(round(seconds / every_s)):
        while owner.reply.waiting < 3:
            owner.ask(**cost)
        story.after(every_s)
        owner.poll()
        for n in owner.granted[answered:]:
            owner.send(owner.reported(n, SERVED), layout.settle(n, story.agreed.actual({})))
        answered = len(owner.granted)


def slowed_down(story: Story) -> Owner:
    """Slow down to 8/27 of 9 million a minute: 44,000 a second."""
    ann = story.owner("ann")
    for _ in range(3):
        ann.call(SLOW_DOWN, tokens=1)
        story.after(1)
    assert paces(ann) == {"tokens/minute": pytest.approx(8 / 27, rel=0.01)}
    return ann


def test_a_ramp_grows_by_half_in_a_quarter_of_an_hour(tell: Tell) -> None:
    """OpenAI: "no more than 50 % every 15 minutes"."""
    ann = slowed_down(tell(tpm=9_000_000))
    before = paces(ann)["tokens/minute"]
    saturated(ann, 15 * 60, 7, tokens=300_000)
    assert 1.4 * before <= paces(ann)["tokens/minute"] <= 1.501 * before


def test_a_ramp_ends_at_the_full_rate(imagine: Tell) -> None:
    """Over any quarter of an hour it grows by no more than a half, up to all of the rate."""
    ann = slowed_down(imagine(tpm=9_000_000))
    known = [paces(ann)["tokens/minute"]]
    for _ in range(4 * 15):
        saturated(ann, 60, 2, tokens=250_000)
        known.append(paces(ann)["tokens/minute"])
        assert known[-2] <= known[-1] <= 1.501 * known[-16:][0]
        assert known[-1] <= 1
    assert known[-1] == 1


def test_a_ramp_waits_for_those_who_want_more(tell: Tell) -> None:
    """While nobody waits the pace does not grow: what is not used proves nothing."""
    story = tell(tpm=9_000_000)
    ann = story.owner("ann")
    ann.call(SLOW_DOWN, tokens=1)
    slow = paces(ann)
    story.after(60)
    for _ in range(30):
        busy(ann, 60, tokens=1000)
    assert paces(ann) == slow


@pytest.mark.parametrize("verdict", [SLOW_DOWN, REFUSED])
def test_calls_that_were_under_way_cut_once(tell: Tell, verdict: Verdict) -> None:
    """Ten calls are refused at once: the pace is cut once for all of them, and again for a later one."""
    slots = Limit("concurrency", 64, None, adaptive=True)
    story = tell(limits=[Limit("tokens", 9_000_000, adaptive=True), slots])
    ann = story.owner("ann")
    calls = [ann.ask(tokens=1) for _ in range(30)]
    if verdict is REFUSED:
        for n in calls[:12]:
            ann.send(ann.reported(n, SERVED), layout.settle(n, (1, 1)))
    calls = [n for n in calls if ann.status_of(n) == Status.GRANTED]
    assert len(calls) > (10 if verdict is REFUSED else 0)
    story.after(1)
    found = []
    for n in calls:
        ann.report(n, verdict)
        found.append([(each.num, each.slots) for each in ann.known().limits.values()])
        story.after(0.1)
    assert found == [found[0]] * len(calls)
    assert found[0][0][0] < story.agreed.limits[0].scaled[0]
    for n in range(1, 31):
        ann.cancel(n)
    story.after(60)
    ann.report(ann.ask(flags=0, tokens=1), verdict)
    assert ann.known().limits["tokens/minute"].num < found[0][0][0]


# --- an adaptive rate -----------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [50, 3000])
def test_an_adaptive_rate_recovers(tell: Tell, tokens: int) -> None:
    """After an hour of refusals the full rate is back within minutes, however large the calls are."""
    story = tell(tpm=6000, adaptive=True)
    ann = story.owner("ann")
    for _ in range(12):
        ann.call(REFUSED, tokens=1)
        story.after(300)
        ann.poll()
    assert paces(ann) == {"tokens/minute": 0.01}
    saturated(ann, 60 * 60 if tokens > 100 else 15 * 60, tokens=tokens)
    assert paces(ann) == {"tokens/minute": 1}


# --- adaptive slots -------------------------------------------------------------------------------


def slots(story: Story) -> int:
    return story.owner("looker").known().limits["concurrency"].slots


def test_slots_begin_with_one(tell: Tell) -> None:
    """One call goes ahead; each that is served while others wait lets one more out, up to the ceiling."""
    story = tell(limits=[Limit("concurrency", 5, None, adaptive=True)])
    ann = story.owner("ann")
    for _ in range(40):
        ann.ask()
    assert ann.granted == [1]
    found = []
    for n in range(1, 21):
        ann.send(ann.reported(n, SERVED), layout.settle(n, (1,)))
        found.append((slots(story), ann.reply.held))
    assert found[:5] == [(2, 2), (3, 3), (4, 4), (5, 5), (5, 5)]
    assert set(found[5:]) == {(5, 5)}


def test_slots_do_not_grow_for_a_lonely_caller(tell: Tell) -> None:
    """Who makes one call after the other uses one slot: there is no proof that more would do."""
    story = tell(limits=[Limit("concurrency", 50, None, adaptive=True)])
    ann = story.owner("ann")
    for _ in range(50):
        ann.call(SERVED)
    assert slots(story) == 2


def test_slots_do_not_grow_for_another_limit(tell: Tell) -> None:
    """Calls that wait for tokens want no slots."""
    story = tell(limits=[Limit("tokens", 60), Limit("concurrency", 50, None, adaptive=True)])
    ann = story.owner("ann")
    for _ in range(3):
        ann.call(SERVED, tokens=0)
    assert slots(story) == 2
    ann.settle(ann.ask(tokens=60))
    saturated(ann, 60, tokens=1)
    assert slots(story) == 2


def test_slots_are_cut_to_eight_tenths_of_what_was_busy(tell: Tell) -> None:
    """What counts is how many calls were under way, not how many might have been; one is left."""
    story = tell(limits=[Limit("concurrency", 50, None, adaptive=True)])
    ann = story.owner("ann")
    calls = [ann.ask() for _ in range(30)]
    for n in calls:
        if n in ann.granted:
            ann.send(ann.reported(n, SERVED), layout.settle(n, (1,)))
    assert slots(story) >= 15
    calls = [ann.ask(flags=0) for _ in range(10)]
    for left in (8, 6, 4, 3, 2, 1, 1):
        ann.report(calls[-1], REFUSED)
        assert slots(story) == left
        for n in calls:
            ann.cancel(n)
        story.after(1)
        calls = [ann.ask(flags=0) for _ in range(left)]
    assert story.levels() == {"concurrency": 0}


def test_other_errors_leave_the_slots(tell: Tell) -> None:
    """A failure says nothing of how many calls may be made at a time."""
    story = tell(limits=[Limit("concurrency", 50, None, adaptive=True)])
    ann = story.owner("ann")
    for verdict in (FAILED, Verdict(Outcome.REJECTED, 400), SLOW_DOWN):
        ann.report(ann.ask(flags=0), verdict)
        ann.cancel(ann.calls)
        assert slots(story) == 1
    assert story.levels() == {"concurrency": 1}


@pytest.mark.parametrize("wait_s", [None, 1.0])
@pytest.mark.parametrize(("hidden", "refused"), [(1, 0.07), (4, 0.07), (20, 0.02), (100, 0.005)])
def test_a_hidden_number_of_slots_is_found(
    imagine: Tell, hidden: int, refused: float, wait_s: float | None
) -> None:
    """Of what the provider serves at a time 85 % are used and more, and few calls are refused."""
    story = imagine(limits=[Limit("concurrency", 1000, None, adaptive=True)])
    provider = Slots(hidden, wait_s)
    fleet = Fleet(story, provider, 1, Ways(service=about(2))).begin(2 * hidden + 4).run_for(60)
    check_slots(fleet, provider, 120, refused)


def check_slots(fleet: Fleet, provider: Slots, seconds: int, refused: float) -> None:
    served, turned_away, used = provider.served, provider.refused, provider.used_us(fleet.now)
    fleet.run_for(seconds)
    used = provider.used_us(fleet.now) - used
    assert used >= 0.85 * provider.amount * seconds * 1e6
    assert provider.refused - turned_away <= refused * (provider.served - served)


def test_a_hidden_number_of_slots_that_changes_is_followed(imagine: Tell) -> None:
    """From twenty to five in half a minute, and back in two."""
    story = imagine(limits=[Limit("concurrency", 1000, None, adaptive=True)])
    provider = Slots(20, None)
    fleet = Fleet(story, provider, 2, Ways(service=about(1))).begin(40).run_for(30)
    check_slots(fleet, provider, 30, 0.05)
    provider.amount = 5
    fleet.run_for(30)
    assert slots(story) <= 6
    check_slots(fleet, provider, 30, 0.1)
    provider.amount = 20
    fleet.run_for(120)
    assert slots(story) >= 15
