"""Drift: our level is a replica of the provider's, whoever else uses the limit, and in whatever order we hear.

Held against an exact provider (`provider.py`), on the model and on the Lua on every kind of server.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.quota import Limit
from limiter.providers.verdict import Verdict
from tests.laws.conftest import Tell
from tests.laws.fleet import Fleet, Ways, about, within
from tests.laws.provider import Provider
from tests.laws.story import REFUSED, SERVED, SLOW_DOWN, Story

TPM, LABEL = 30_000, "tokens/minute"
RATE = TPM / 60
FOREIGN = 200  # tokens of a call of others: as large as ours
WINDOW_S = 3  # and as long as answers take

# How long answers take, and how many callers it needs to use the limit to the full.
PACES = [(0.3, 16), (3, 40), (10, 80)]


def a_fleet(tell: Tell, seed: object, latency_s: float, workers: int, **ways: object) -> Fleet:
    story = tell(limits=[Limit("tokens", TPM)])
    provider = Provider(story.now, requests=10**6, tokens=TPM)
    made = Ways(**{"service": about(latency_s), **ways})
    return Fleet(story, provider, seed, made).begin(workers)


def gap(fleet: Fleet) -> float:
    """By how much our level is above the provider's."""
    fleet.provider.answer(fleet.now, "start")
    return fleet.story.levels()[LABEL] - float(fleet.provider["tokens"].left)


def longest_above(fleet: Fleet, seconds: int, allowed: float) -> float:
    """For how long at a time, at most, our level was above the provider's by more than allowed."""
    above = longest = 0.0
    for _ in range(4 * seconds):
        fleet.run_for(0.25)
        above = above + 0.25 if gap(fleet) > allowed else 0
        longest = max(longest, above)
    return longest


def most_within(grants: list[tuple[int, int]], span_us: int) -> int:
    """The most tokens that were granted within such a time: so many calls can overtake each other."""
    total = most = first = 0
    for at, tokens in grants:
        total += tokens
        while grants[first][0] < at - span_us:
            total -= grants[first][1]
            first += 1
        most = max(most, total)
    return most


# --- (a) nobody else ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["start", "end"])
@pytest.mark.parametrize(("latency_s", "workers"), PACES)
def test_nothing_is_corrected_where_nothing_differs(
    imagine: Tell, latency_s: float, workers: int, when: str
) -> None:
    """Nobody else, every call equally long under way: our count is right, and no answer changes it."""
    fleet = a_fleet(imagine, 1, latency_s, workers, when=when, up=within(20_000, 20_000))
    for _ in range(12):
        fleet.run_for(10)
        assert abs(fleet.corrections(LABEL)) <= 15
        assert fleet.guard(LABEL) <= 5
    assert fleet.provider.refused == 0
    assert fleet.rate(60) == pytest.approx(RATE, rel=0.02)


@pytest.mark.parametrize("up_us", [40_000, 1_000_000])
@pytest.mark.parametrize("when", ["start", "end"])
@pytest.mark.parametrize(("latency_s", "workers"), PACES)
def test_calls_that_overtake_each_other_change_no_more_than_they_take(
    imagine: Tell, latency_s: float, workers: int, when: str, up_us: int
) -> None:
    """Corrections never add up: they stay within what was under way, and nothing of the rate is lost.

    Nor does our level stay above the provider's: by more than what is refilled while calls travel, for
    longer than a window.
    """
    fleet = a_fleet(imagine, 2, latency_s, workers, when=when, up=within(5_000, up_us))
    travelling = RATE * up_us / 1e6 + 10
    assert longest_above(fleet, 120, travelling) <= WINDOW_S + 1.5 * latency_s
    explained = most_within(fleet.grants, up_us)
    for _ in range(12):
        fleet.run_for(10)
        assert -explained <= fleet.corrections(LABEL) + fleet.guard(LABEL) <= explained
    assert fleet.rate(180) == pytest.approx(RATE, rel=0.03)
    assert fleet.provider.refused <= 0.02 * len(fleet.grants)


def test_guards_are_released_when_the_bucket_is_full_again(imagine: Tell) -> None:
    """What is kept back for others who have left vanishes, also where few calls are made."""
    fleet = a_fleet(imagine, 3, 10, 0)

    def call() -> None:
        fleet.ask(f"w{len(fleet.grants)}")
        fleet.later(3_000_000, call)

    fleet.report = once(fleet)
    fleet.later(1, call)
    fleet.beside(RATE / 2, FOREIGN, 120).run_for(120)
    assert fleet.guard(LABEL) > 100
    fleet.run_for(240)
    assert fleet.guard(LABEL) <= 0.01 * TPM
    before = fleet.corrections(LABEL)
    fleet.run_for(120)
    assert abs(fleet.corrections(LABEL) - before) <= 0.01 * TPM


def once(fleet: Fleet):
    """Let workers make one call each."""
    report = fleet.report

    def reported(owner: str, *rest: object) -> None:
        fleet.ask, ask = lambda _: None, fleet.ask
        report(owner, *rest)
        fleet.ask = ask

    return reported


# --- (b), (c) what an answer says is corrected once -------------------------------------------------


class Exchange:
    """Calls that reach the provider at once, and their answers in any order."""

    def __init__(self, story: Story, **amounts: int) -> None:
        self.story, self.owner = story, story.owner("ann")
        self.provider = Provider(story.now, **amounts)
        self.owner.report(self.owner.ask(flags=0, tokens=0), SERVED)  # from now on there are marks

    def send(self, tokens: int) -> tuple[int, object]:
        n = self.owner.ask(flags=0, tokens=tokens)
        assert self.provider.admit(self.story.now, {"tokens": tokens}) is None
        return n, self.provider.answer(self.story.now, "start")

    def others(self, tokens: int) -> None:
        assert self.provider.admit(self.story.now, {"tokens": tokens}) is None

    @property
    def level(self) -> int:
        """Return what we count as left: the level, and what is kept back for others."""
        guard = self.story.owner("looker").known().limits[LABEL].guard
        return self.story.levels()[LABEL] + guard


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    calls=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    settled=st.booleans(),
)
def test_concurrent_answers_correct_nothing_twice(
    tell: Tell, calls: list[tuple[int, int]], order: Random, settled: bool
) -> None:
    """Others take between our calls; answers come in any order: what they took is never missing twice.

    All of it is missing, but for what answers that came within the window differed by: so much may
    be calls that overtook each other.
    """
    story = tell(tpm=10_000)
    exchange = Exchange(story, tokens=10_000)
    sent, told = [], []
    for foreign, tokens in calls:
        exchange.others(foreign)
        sent.append((exchange.send(tokens), tokens))
        told.append(foreign)
    ours, heard = sum(tokens for _, tokens in calls), list(accumulate(told))
    order.shuffle(sent)
    known: list[int] = []
    for (n, answer), tokens in sent:
        exchange.owner.report(n, answer)
        known.append(heard[n - 2])
        most, least = max(known), min(known)
        assert 0 <= exchange.level - (10_000 - ours - most) <= 10 + most - least
        if settled:
            exchange.owner.settle(n, tokens=tokens)


def test_the_first_answer_corrects_what_others_used(tell: Tell) -> None:
    """It is believed at once, whatever the others still say; by answers of before it is not undone."""
    exchange = Exchange(tell(tpm=10_000), tokens=10_000)
    early = [exchange.send(10) for _ in range(3)]
    exchange.others(5000)
    late = exchange.send(10)
    exchange.owner.report(*late)
    assert exchange.level == 10_000 - 40 - 5000
    for each in early:
        exchange.owner.report(*each)
    assert exchange.level == 10_000 - 40 - 5000


def test_what_did_not_fit_is_not_made_up_for(tell: Tell) -> None:
    """A call that was never sent is missing; until answers say so the bucket is full: they raise nothing.

    Nor do answers to other calls of then raise it when it is not full any more.
    """
    exchange = Exchange(tell(tpm=6000), tokens=6000)
    story, ann = exchange.story, exchange.owner
    ann.ask(flags=0, tokens=500)
    early = [exchange.send(10) for _ in range(12)]
    for n, answer in early[:6]:
        story.after(1)
        ann.report(n, answer)
    assert exchange.level == 6000
    assert exchange.send(3000)
    for n, answer in early[6:]:
        story.after(1)
        ann.report(n, answer)
    assert exchange.level == pytest.approx(3000 + 600, abs=20)


def test_first_answers_take_nothing_for_others_use(tell: Tell) -> None:
    """Calls of before any answer have no mark: what was refilled since they were sent is no drift."""
    story = tell(tpm=6000)
    ann = story.owner("ann")
    provider = Provider(story.now, tokens=6000)
    sent = []
    for _ in range(60):
        n = ann.ask(flags=0, tokens=100)
        assert provider.admit(story.now, {"tokens": 100}) is None
        sent.append((n, provider.answer(story.now, "start")))
    story.after(10)
    for n, answer in reversed(sent):
        ann.report(n, answer)
        ann.settle(n, tokens=100)
        assert story.levels() == {LABEL: 1000}


def test_a_level_read_at_the_end_is_compared_with_ours_then(tell: Tell) -> None:
    """What was used beyond the estimate is settled before: it is no drift, and is not counted twice."""
    story = tell(tpm=6000)
    ann, provider = story.owner("ann"), Provider(story.now, tokens=6000)
    for _ in range(3):
        n = ann.ask(flags=0, tokens=100)
        assert provider.admit(story.now, {"tokens": 400}) is None
        answer = provider.answer(story.now, "end")
        ann.send(layout.settle(n, (400,)), replace_n(ann.reported(n, answer)))
    assert story.levels() == {LABEL: 6000 - 1200}


def replace_n(report: layout.Report) -> layout.Report:
    return report._replace(n=0)


def test_a_window_is_never_taken_for_a_bucket(tell: Tell) -> None:
    """Of a window what is left bounds our level; that it is full again does not raise it."""
    story = tell(tpm=6000)
    ann = story.owner("ann")
    n = ann.ask(flags=0, tokens=100)
    for remaining, level in ((1000, 1000), (5900, 1000), (900, 900)):
        (seen,) = Provider(story.now, tokens=6000).answer(story.now, "end").seen
        window = replace(seen, remaining=remaining, full_us=None, is_bucket=False)
        for _ in range(3):
            ann.report(n, replace(SERVED, seen=(window,)))
        assert story.levels() == {LABEL: level}


# --- (d) when others leave ------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["start", "end"])
@pytest.mark.parametrize(("latency_s", "workers"), PACES)
def test_the_whole_rate_comes_back_when_others_leave(
    imagine: Tell, latency_s: float, workers: int, when: str
) -> None:
    """From three windows after that on the fleet gets all of it, and nothing is kept back for long."""
    fleet = a_fleet(imagine, 4, latency_s, workers, when=when)
    fleet.beside(RATE / 2, FOREIGN, 180).run_for(180)
    assert fleet.rate(60) < 0.75 * RATE
    window_s = WINDOW_S + 1.5 * latency_s
    refused = fleet.run_for(3 * window_s).provider.refused
    fleet.run_for(120)
    assert fleet.rate(120) >= 0.95 * RATE
    assert fleet.provider.refused == refused
    fleet.run_for(10 * window_s)
    assert fleet.guard(LABEL) <= 0.01 * TPM


# --- (e) beside others ----------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["start", "end"])
@pytest.mark.parametrize(("latency_s", "workers"), PACES)
def test_few_calls_are_refused_beside_others(
    imagine: Tell, latency_s: float, workers: int, when: str
) -> None:
    """Others use half of the limit, in calls as large as ours that come at random.

    They get it, we use the rest, and after the first two minutes few of our calls are refused.
    """
    fleet = a_fleet(imagine, 5, latency_s, workers, when=when)
    fleet.beside(RATE / 2, FOREIGN, 600).run_for(120)
    check_beside_others(fleet, 300, 0.05)
    assert longest_above(fleet, 60, RATE * 0.04 + FOREIGN) <= WINDOW_S + 1.5 * latency_s


def check_beside_others(fleet: Fleet, seconds: int, part: float) -> None:
    """At most such a part of our calls is refused, of theirs a tenth, and nothing is left over."""
    refused, made, foreign = fleet.provider.refused, len(fleet.grants), fleet.foreign
    turned_away = fleet.foreign_refused
    fleet.run_for(seconds)
    assert fleet.provider.refused - refused <= part * (len(fleet.grants) - made)
    theirs, turned_away = fleet.foreign - foreign, fleet.foreign_refused - turned_away
    assert turned_away <= 0.1 * (theirs / FOREIGN + turned_away)
    assert fleet.rate(seconds) + theirs / seconds >= 0.95 * RATE


def test_a_fleet_lives_beside_others(tell: Tell) -> None:
    """The laws above in short, on every engine: nobody else, others who use a half, and nobody again."""
    fleet = a_fleet(tell, 7, 0.3, 16).run_for(70)
    assert fleet.provider.refused == 0
    assert abs(fleet.corrections(LABEL)) <= most_within(fleet.grants, 40_000)
    fleet.beside(RATE / 2, FOREIGN, 80).run_for(20)
    check_beside_others(fleet, 60, 0.1)
    refused = fleet.run_for(10).provider.refused
    assert fleet.run_for(40).rate(40) >= 0.95 * RATE
    assert fleet.provider.refused == refused


def test_beside_others_who_take_it_all_we_wait(imagine: Tell) -> None:
    """Others who want the whole limit get nearly all of it; we are neither refused all the time nor stuck."""
    fleet = a_fleet(imagine, 6, 1, 16)
    fleet.beside(RATE * 1.2, FOREIGN, 600).run_for(300)
    refused, made = fleet.provider.refused, len(fleet.grants)
    fleet.run_for(300)
    assert made < len(fleet.grants)
    assert fleet.provider.refused - refused <= 0.4 * (len(fleet.grants) - made)


def test_two_limits_are_followed_each_by_itself(tell: Tell) -> None:
    """Others who use requests do not lower the tokens, and the other way round."""
    story = tell(rpm=600, tpm=60_000)
    ann, provider = story.owner("ann"), Provider(story.now, requests=600, tokens=60_000)
    ann.report(ann.ask(flags=0, requests=0, tokens=0), SERVED)
    assert provider.admit(story.now, {"requests": 200, "tokens": 0}) is None
    n = ann.ask(flags=0, tokens=100)
    assert provider.admit(story.now, {"requests": 1, "tokens": 100}) is None
    ann.report(n, provider.answer(story.now, "start"))
    assert story.levels() == {"requests/minute": 399, "tokens/minute": 59_900}


def test_what_is_told_of_one_quota_is_not_taken_for_another(tell: Tell) -> None:
    """A call for an organisation and a model is answered with the model's levels: the other stays."""
    story = tell(group={"a": {"tpm": 30_000}, "b": {"tpm": 90_000}, "org": {"tpm": 100_000}})
    ann, both = story.owner("ann"), ("a", "org")
    provider = Provider(story.now, tokens=30_000)
    ann.report(ann.ask(flags=0, quotas=both, tokens=0), SERVED, both)
    assert provider.admit(story.now, {"tokens": 5000}) is None  # others
    n = ann.ask(flags=0, quotas=both, tokens=1000)
    assert provider.admit(story.now, {"tokens": 1000}) is None
    ann.report(n, provider.answer(story.now, "start"), both)
    levels = {"a: tokens/minute": 24_000, "b: tokens/minute": 90_000, "org: tokens/minute": 99_000}
    assert story.levels() == levels
    same = ("b", "org")
    story.redefine_quota("org", tpm=90_000)
    n = ann.ask(flags=0, quotas=same, tokens=1000)
    other = Provider(story.now, tokens=90_000)
    assert other.admit(story.now, {"tokens": 50_000}) is None
    ann.report(n, other.answer(story.now, "start"), same)  # of which of both?
    assert story.levels()["b: tokens/minute"] == 89_000


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [REFUSED, SLOW_DOWN])
def test_what_we_lower_ourselves_is_not_used_by_others(tell: Tell, verdict: Verdict) -> None:
    """After a refusal without arithmetic the level is low; answers bring it back, and no guard is kept."""
    story = tell(tpm=6_000_000)
    ann, provider = story.owner("ann"), Provider(story.now, tokens=6_000_000)

    def call() -> None:
        n = ann.ask(flags=0, tokens=1000)
        if ann.result.status != Status.GRANTED:
            return
        assert provider.admit(story.now, {"tokens": 1000}) is None
        ann.report(n, provider.answer(story.now, "start"))
        ann.settle(n, tokens=1000)
        assert ann.known().limits[LABEL].guard == 0

    for _ in range(5):
        call()
        story.after(1)
    refused = ann.ask(flags=0, tokens=1000)
    ann.report(refused, replace(verdict, wait_us=1_000_000))
    ann.cancel(refused)
    assert story.levels()[LABEL] <= 1000
    for _ in range(15):
        story.after(1)
        call()
    assert story.levels()[LABEL] >= 0.99 * 6_000_000


def test_a_refusal_tells_what_others_used(tell: Tell) -> None:
    """Headers of a refused call say what the provider counts without it: that is taken over, once."""
    exchange = Exchange(tell(tpm=10_000), tokens=10_000)
    exchange.others(9000)
    calls = [exchange.owner.ask(flags=0, tokens=2000) for _ in range(3)]
    answer = exchange.provider.answer(exchange.story.now, "start")
    for n in calls:
        exchange.owner.report(n, replace(REFUSED, seen=answer.seen, when="start"))
    for n in calls:
        exchange.owner.settle(n, tokens=0)
    assert exchange.level == 1000
