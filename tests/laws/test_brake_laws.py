"""Law 11: when one process has heard "not before", nobody starts before; and then not all at once.

Told to the model and to the Lua on every kind of server. Time is an argument.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core.layout import Status
from limiter.core.quota import Limit
from limiter.providers.verdict import MINUTE_US, Seen, Verdict
from tests.laws.conftest import Tell
from tests.laws.story import DENIED, FAILED, HIGH, LOW, REFUSED, SERVED, SLOW_DOWN, Owner

EVERYTHING = {"rpm": 600, "tpm": 6000, "rpd": 5000, "tpd": 90_000}


def refused(wait_s: float) -> Verdict:
    return replace(REFUSED, wait_us=round(wait_s * 1e6))


def failed(wait_s: float) -> Verdict:
    return replace(FAILED, wait_us=round(wait_s * 1e6))


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


# --- nobody starts before -------------------------------------------------------------------------

ROUTES = (("a",), ("b",), ("a", "org"), ("b", "org"), ("a", "b", "org"))
waits = st.sampled_from([0.0, 0.25, 1.0, 3.0, 20.0])
step = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(ROUTES), st.integers(1, 30),
              st.sampled_from([None, None, 0.0, 2.0])),
    st.tuples(st.just("report"), st.integers(0, 30),
              st.sampled_from([SERVED, REFUSED, REFUSED, SLOW_DOWN, FAILED, DENIED]), waits),
    st.tuples(st.just("end"), st.integers(0, 30)),
    st.tuples(st.just("pass_time"), st.sampled_from([0.0, 0.1, 1.0, 5.0, -1.0, -3600.0])),
)  # fmt: skip


class Fleet:
    """Follow who asked for what, and which brakes hold."""

    def __init__(self, owner: Owner) -> None:
        self.owner, self.story = owner, owner.story
        self.brakes: dict[tuple[str, ...], int] = {}
        self.failing: set[tuple[str, ...]] = set()  # routes of which the last answer was a failure
        self.routes: dict[int, tuple[str, ...]] = {}
        self.latest = self.story.now
        owner.poll()

    def until(self, quotas: tuple[str, ...]) -> int:
        return max((at for held, at in self.brakes.items() if set(held) <= set(quotas)), default=0)

    def ask(self, quotas: tuple[str, ...], tokens: int, patience_s: float | None) -> None:
        self.routes[self.owner.calls + 1] = quotas
        self.owner.ask(quotas=quotas, patience_s=patience_s, tokens=tokens)
        result, left_us = self.owner.result, self.until(quotas) - self.latest
        if result.status in (Status.WAITING, Status.REFUSED):
            assert result.wait_us >= left_us
        if patience_s is not None and left_us > patience_s * 1e6:
            assert result.status in (Status.REFUSED, Status.OPEN)

    def report(self, which: int, verdict: Verdict, wait_s: float) -> None:
        if not self.owner.granted:
            return
        n = self.owner.granted[which % len(self.owner.granted)]
        quotas = self.routes[n]
        if verdict is not SERVED and (verdict is not FAILED or quotas in self.failing):
            until = self.latest + round(wait_s * 1e6)
            self.brakes[quotas] = max(self.brakes.get(quotas, 0), until)
        (self.failing.add if verdict in (FAILED, DENIED) else self.failing.discard)(quotas)
        self.owner.report(n, replace(verdict, wait_us=round(wait_s * 1e6)), quotas)

    def end(self, which: int) -> None:
        if self.owner.granted:
            self.owner.settle(self.owner.granted[which % len(self.owner.granted)])

    def pass_time(self, seconds: float) -> None:
        self.story.after(seconds)
        self.owner.poll()
        self.latest = max(self.latest, self.story.now)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, max_size=40))
def test_nobody_starts_before(tell: Tell, steps: list[tuple]) -> None:
    """Whatever happens: no call that takes from all quotas of a refused one's route starts before."""
    story = tell(group={"a": {"tpm": 600}, "b": {"rpm": 60, "tpm": 90}, "org": {"tpm": 900}})
    fleet, seen = Fleet(story.owner("ann")), 0
    for kind, *what in steps:
        getattr(fleet, kind)(*what)
        for n in fleet.owner.granted[seen:]:
            assert fleet.until(fleet.routes[n]) <= fleet.latest
        seen = len(fleet.owner.granted)
        for quotas in fleet.brakes:
            left_us = max(0, fleet.until(quotas) - fleet.latest)
            assert fleet.owner.known(quotas).brake_us == left_us


def test_all_owners_are_held(tell: Tell) -> None:
    """One process hears of it, and the calls of all others wait: the one that asks, and the one in line."""
    story = tell(tpm=600)
    ann, bob, cyd = map(story.owner, ("ann", "bob", "cyd"))
    first = ann.ask(tokens=600)
    bob.ask(tokens=1)
    ann.report(first, refused(30))
    ann.settle(first, tokens=0)
    cyd.ask(tokens=1)
    assert (cyd.result.status, cyd.result.wait_us) == (Status.WAITING, 30_000_000)
    assert bob.look(1).wait_us == 30_000_000
    story.now += 30_000_000 - 1
    ann.poll()
    assert not bob.granted + cyd.granted
    story.now += 1
    ann.poll()
    assert bob.granted == cyd.granted == [1]


def test_a_longer_wait_wins(tell: Tell) -> None:
    """A shorter wait that is heard later does not shorten the brake, a success does not release it."""
    story = tell(rpm=600)
    ann = story.owner("ann")
    calls = [ann.ask(flags=0) for _ in range(4)]
    for n, verdict in zip(calls, (refused(10), refused(1), SERVED, refused(30)), strict=True):
        ann.report(n, verdict)
        assert ann.known().brake_us == (30_000_000 if n == calls[-1] else 10_000_000)


def test_a_new_definition_does_not_release_the_brake(tell: Tell) -> None:
    """Who declares a quota anew in mid-brake waits like everybody."""
    story = tell(rpm=600)
    ann = story.owner("ann")
    is_refused(ann, refused(10))
    story.redefine(rpm=900, tpm=100)
    ann.ask()
    assert ann.result.wait_us >= 10_000_000
    assert grants_of(ann, 9.9, step=0.1) == 0
    assert grants_of(ann, 0.2, step=0.1) == 1


def test_one_failure_holds_back_nobody_else(tell: Tell) -> None:
    """A 503 with a wait among successes is that call's alone; when the next one fails it is everybody's."""
    story = tell(rpm=600)
    ann = story.owner("ann")
    for _ in range(3):
        ann.call(failed(30))
        assert ann.known().brake_us == 0
        ann.call(SERVED)
    ann.call(failed(30))
    ann.call(failed(20))
    assert ann.known().brake_us == 20_000_000


def test_the_timer_knows_the_end_of_the_brake(tell: Tell) -> None:
    """Law 5: somebody runs at the moment at which it ends, and not before."""
    story = tell(rpm=600)
    ann = story.owner("ann")
    is_refused(ann, refused(10))
    ann.ask()
    assert (ann.reply.next_us, ann.reply.mine) == (10_000_000, True)


def test_priorities_keep_their_order(tell: Tell) -> None:
    """Law 4: when the brake ends, who is above goes first, whoever came first."""
    story = tell(tpm=600, priorities=[HIGH, LOW])
    ann = story.owner("ann")
    is_refused(ann, refused(10), tokens=10)
    low = [ann.ask(priority="low", tokens=10) for _ in range(2)]
    high = [ann.ask(priority="high", tokens=10) for _ in range(2)]
    grants_of(ann, 14, step=1)
    assert ann.granted[1:] == high + low


# --- other routes of a group ----------------------------------------------------------------------


def test_other_routes_go_on(tell: Tell) -> None:
    """A brake is for calls that take from all quotas of the refused one, and for no others."""
    story = tell(group={"a": {"tpm": 600}, "b": {"tpm": 600}, "org": {"tpm": 900}})
    ann = story.owner("ann")
    n = ann.ask(quotas=("a", "org"), tokens=10)
    for _ in range(2):
        ann.report(n, failed(60), ("a", "org"))
    for quotas, free in ((("a",), True), (("org",), True), (("b", "org"), True),
                         (("a", "org"), False), (("a", "b", "org"), False)):  # fmt: skip
        ann.ask(flags=0, quotas=quotas, tokens=10)
        assert (ann.result.status == Status.GRANTED) is free, quotas


def test_who_is_held_keeps_nothing_from_others(tell: Tell) -> None:
    """Law 5: a head that the brake holds has no use for what it needs: those behind it get it."""
    story = tell(
        group={"a": {"tpm": 600}, "b": {"tpm": 600}, "org": {"tpm": 100}},
    )
    ann, bob = story.owner("ann"), story.owner("bob")
    n = ann.ask(quotas=("a", "org"), tokens=40)
    for _ in range(2):
        ann.report(n, failed(60), ("a", "org"))
    held = ann.ask(quotas=("a", "org"), tokens=100)
    for _ in range(6):
        bob.ask(flags=0, quotas=("b", "org"), tokens=10)
        assert bob.result.status == Status.GRANTED
    bob.ask(quotas=("b", "org"), tokens=20)
    assert bob.reply.next_us == 12_000_000
    grants_of(bob, 12, step=1)
    assert len(bob.granted) == 7
    grants_of(bob, 60, step=1)
    bob.ask(flags=0, quotas=("b", "org"), tokens=10)  # from now on it does keep what it needs
    assert bob.result.status == Status.REFUSED
    grants_of(bob, 60, step=1)
    assert ann.granted == [n, held]


# --- who waits knows for how long -----------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    limit=st.tuples(st.integers(1, 500), st.sampled_from([1.0, 60.0]),
                    st.sampled_from(["full", "smooth", 2.0])),
    line=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 3_000_000)), min_size=1, max_size=15),
    wait_s=st.sampled_from([0.5, 30.0, 200.0]),
)  # fmt: skip
def test_a_wait_is_told_at_most(
    tell: Tell, limit: tuple, line: list[tuple[int, int]], wait_s: float
) -> None:
    """A bucket that is full while the brake holds is not refilled: what the line waits for it is known."""
    amount, per, burst = limit
    story = tell(limits=[Limit("tokens", amount, per, burst, headroom=0)])
    ann = story.owner("ann")
    first = ann.ask(flags=0, tokens=1 if amount * (burst == "full") > 1 else 0)
    ann.report(first, refused(wait_s))
    told: dict[int, int] = {}
    for tokens, pause_us in [*line, (0, 10**9)]:
        end = story.now + pause_us
        while 0 <= ann.reply.next_us <= end - story.now:
            story.now += ann.reply.next_us
            before = len(ann.granted)
            ann.poll()
            assert all(story.now <= told[n] for n in ann.granted[before:])
        story.now = end
        n = ann.ask(tokens=tokens % (amount + 1))
        told[n] = story.now + ann.result.wait_us + ann.result.ahead + 1
    assert not ann.reply.waiting


# --- the refusal's own arithmetic -----------------------------------------------------------------


def by_numbers(dimension: str, limit: int, used: int, requested: int) -> Verdict:
    """Refuse as OpenAI does: "Limit L, Used U, Requested R", and the wait cut down to the ms."""
    wait_us = (used + requested - limit) * MINUTE_US // limit // 1000 * 1000
    seen = Seen(dimension, limit, MINUTE_US, limit - used, used * MINUTE_US // limit,
                -(-MINUTE_US // limit), True)  # fmt: skip
    return replace(REFUSED, wait_us=wait_us, refused_by=seen, when="start")


@pytest.mark.parametrize(
    ("limit", "used", "requested"),
    [(600, 600, 1), (600, 590, 40), (30_000, 29_850, 900), (30_000, 12_345, 29_999),
     (500_000, 461_092, 200_268), (7, 7, 3)],
)  # fmt: skip
def test_a_refused_call_fits_when_the_provider_said(
    tell: Tell, limit: int, used: int, requested: int
) -> None:
    """Limit L, Used U: room for R comes at (U + R − L) / rate, in the very microsecond."""
    story = tell(tpm=limit)
    ann, bob = story.owner("ann"), story.owner("bob")
    is_refused(ann, by_numbers("tokens", limit, used, requested), tokens=requested)
    bob.ask(tokens=requested)
    fits_us = -(-(used + requested - limit) * MINUTE_US // limit)
    story.now += fits_us - 1
    bob.poll()
    assert not bob.granted
    story.now += 1
    bob.poll()
    assert bob.granted == [1]
    assert story.levels() == {"tokens/minute": 0}


def test_a_refused_request_fits_when_the_provider_said(tell: Tell) -> None:
    """The same of requests, though a refused one stays counted."""
    story = tell(rpm=500, tpm=30_000)
    ann = story.owner("ann")
    is_refused(ann, by_numbers("requests", 500, 500, 1), tokens=10)
    ann.ask(tokens=10)
    story.now += 120_000 - 1
    ann.poll()
    assert len(ann.granted) == 1
    story.now += 1
    ann.poll()
    assert len(ann.granted) == 2
    assert story.levels()["tokens/minute"] == 29_990  # it was not the tokens


def test_concurrent_refusals_count_once(tell: Tell) -> None:
    """Law: ten calls are refused at once, each with its arithmetic: the level is what they all say."""
    story = tell(tpm=6000)
    ann = story.owner("ann")
    calls = [ann.ask(flags=0, tokens=100) for _ in range(11)]
    ann.report(calls[0], SERVED)
    for n in calls:
        ann.cancel(n)
    calls = [ann.ask(flags=0, tokens=100) for _ in range(10)]
    for n in calls:
        ann.report(n, by_numbers("tokens", 6000, 5950, 100))
        ann.settle(n, tokens=0)
    assert story.levels() == {"tokens/minute": 50}
    assert ann.known().brake_us == 500_000


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
