"""The laws of one question, against a store that is a script of replies, or a shelf with a clock.

No I/O and no clock: waits take what the test says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.cache.control import Control, cache_control
from limiter.cache.entry import HEAD_BYTES, Entry, write
from limiter.cache.looking import Ask, Claimant, Found, Look, Wait
from limiter.cache.policy import Question
from limiter.cache.settings import Settings
from limiter.cache.shelf import GONE, HIT, LEAD, PASS, WAIT, Shelf
from limiter.errors import ConfigError

KEY = "n-team:" + "a" * 64
MOST = 2**20
LEASE_MS = 5000
NOTHING = (b"", GONE)


def stored(data: Any = "old", lifetime_ms: int = 10_000, fresh_ms: int = 8000) -> bytes:
    return write(KEY, Entry("value", data, lifetime_ms, fresh_ms, 7), 1024, MOST)


def question(told: Any = None, **more: Any) -> Question:
    return Question(KEY, "chat", "/", {}, False, False, Control.of(told), **more)


def serve(entry: Entry) -> Any:
    return entry.data


class Story:
    """One question, the replies that it is given, and what it did."""

    def __init__(self, *replies: Any, told: Any = None, waits: bool = True, serve: Any = serve,
                 **more: Any) -> None:  # fmt: skip
        self.counts: dict[str, int] = {}
        self.done: list[tuple[Any, ...]] = []
        self.waited_s: list[float] = []
        who = Claimant("me", "channel", LEASE_MS, MOST, waits)
        self.steps = Look(question(told, **more), who, serve, self.count).steps()
        self.replies = iter(replies)

    def count(self, name: str, n: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + n

    def run(self, takes: Callable[[float], float] = lambda seconds: seconds) -> Found:
        answer: Any = None
        for _ in range(1000):
            try:
                wanted = self.steps.send(answer)
            except StopIteration as stop:
                return stop.value
            match wanted:
                case Wait(seconds):
                    self.waited_s.append(seconds)
                    answer = takes(seconds)
                case Ask("drop", arguments):
                    self.done.append(("drop", *arguments))
                    answer = None
                case Ask(verb, arguments):
                    self.done.append((verb, *arguments))
                    answer = next(self.replies)
        raise AssertionError("it never ends")

    @property
    def verbs(self) -> list[str]:
        return [each[0] for each in self.done]


def test_a_hit_is_one_packet() -> None:
    """What is there and fresh is served, and its bytes are counted once."""
    story = Story((stored(), 9000))
    found = story.run()
    assert (found.how, found.served, found.age_s, found.leads) == ("hit", "old", 1.0, False)
    assert story.verbs == ["look"]
    assert story.counts == {"bytes_served": len(stored())}


def test_nothing_there_is_a_task() -> None:
    """One who finds nothing and nobody leads."""
    story = Story(NOTHING, [LEAD])
    assert story.run() == Found("lead", leads=True)
    assert story.verbs == ["look", "claim"]
    assert story.counts == {"misses": 1}


@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=30))
def test_a_lost_wake_up_costs_a_bounded_time(leases: list[int]) -> None:
    """Woken or not, one who waits asks again, after a quarter of a second at first, after two at most."""
    story = Story(NOTHING, *([WAIT, left_ms] for left_ms in leases), [HIT, stored(), 10_000])
    assert story.run().how == "join"
    bounds = [min(2.0, 0.25 * 2**n) for n in range(len(leases))]
    assert all(0 < s <= bound for s, bound in zip(story.waited_s, bounds, strict=True))


@given(patience_ms=st.integers(0, 30_000), share=st.floats(0.1, 1))
def test_patience_is_kept(patience_ms: int, share: float) -> None:
    """Nobody is told to wait longer than what is left of it, whether waits are cut short or not."""
    passed_s = 0.0

    def takes(seconds: float) -> float:
        nonlocal passed_s
        assert passed_s + seconds <= patience_ms / 1000 + 1e-9
        took_s = max(0.001, seconds * share)
        passed_s += took_s
        return took_s

    story = Story(NOTHING, *[[WAIT, LEASE_MS]] * 999, patience_s=patience_ms / 1000)
    assert story.run(takes).how == "alone"
    assert passed_s >= patience_ms / 1000
    assert story.counts == {"misses": 1}


def test_without_patience_nobody_waits() -> None:
    """A patience of nothing is a look and a claim."""
    story = Story(NOTHING, [WAIT, LEASE_MS], patience_s=0.0)
    assert story.run().how == "alone"
    assert story.waited_s == []


class World:
    """A shelf with a clock that only waits move."""

    def __init__(self) -> None:
        self.shelf, self.now_ms = Shelf(), 0.0

    def ask(self, id_: str, told: Any = None, *, serve: Any = serve, waits: bool = True,
            during: Callable[[], object] = lambda: None, **more: Any) -> tuple[Found, float]:  # fmt: skip
        """Run one question; return how it ended, and the seconds that it took."""
        began = self.now_ms
        who = Claimant(id_, f"c-{id_}", LEASE_MS, MOST, waits)
        steps = Look(question(told, **more), who, serve, lambda *_: None).steps()
        answer: Any = None
        while True:
            try:
                wanted = steps.send(answer)
            except StopIteration as stop:
                return stop.value, (self.now_ms - began) / 1000
            if isinstance(wanted, Wait):
                self.now_ms += wanted.seconds * 1000
                during()
                answer = wanted.seconds
            elif wanted.verb == "drop":
                self.shelf.drop(*wanted.arguments)
            else:
                answer = getattr(self.shelf, wanted.verb)(int(self.now_ms), *wanted.arguments)

    def fill(self, data: Any = "new", **more: Any) -> None:
        answer = stored(data, **more)
        self.shelf.fill(int(self.now_ms), KEY, answer, more.get("lifetime_ms", 10_000))

    def fail(self, id_: str, how: str = "failed") -> None:
        assert self.shelf.leave(int(self.now_ms), KEY, id_, how, LEASE_MS)[0] == 1


def test_a_leader_that_crashed_is_replaced_after_its_lease() -> None:
    """No wake-up comes, and yet one of those who wait leads once the lease is over, not before."""
    world = World()
    assert world.ask("ann")[0].how == "lead"
    found, took_s = world.ask("bob")
    assert found.how == "lead"
    assert LEASE_MS / 1000 <= took_s <= LEASE_MS / 1000 + 0.01


def test_a_leader_that_lives_is_waited_for() -> None:
    """As long as it takes, if it says that it lives and nobody's patience ends."""
    world = World()
    world.ask("ann")

    def work() -> None:
        if world.now_ms < 60_000:
            world.fail("ann", "alive")
        else:
            world.fill()

    found, took_s = world.ask("bob", during=work)
    assert (found.how, found.served) == ("join", "new")
    assert took_s >= 60


def test_after_two_failures_nobody_waits() -> None:
    """The second one is the last that others wait for; after a lease it is tried anew."""
    world = World()
    for name in ("ann", "bob"):
        assert world.ask(name)[0].how == "lead"
        world.fail(name)
    assert [world.ask(name) for name in "cde"] == [(Found("alone"), 0.0)] * 3
    world.now_ms += LEASE_MS
    assert world.ask("fay")[0].how == "lead"


def test_one_who_gives_up_is_no_failure() -> None:
    """However many do, the next one leads, and others wait for him."""
    world = World()
    for n in range(5):
        assert world.ask(f"a{n}")[0].how == "lead"
        world.fail(f"a{n}", "left")


def test_a_more_urgent_call_does_not_wait_for_a_less_urgent_one() -> None:
    """It leads instead; equal ones and less urgent ones wait for it."""
    world = World()
    assert world.ask("batch", rank=0)[0].how == "lead"
    assert world.ask("chat", rank=10)[0].how == "lead"
    for rank in (10, 0):
        assert world.ask("late", rank=rank, patience_s=0.1)[0].how == "alone"
    assert world.shelf.leave(0, KEY, "batch", "failed", LEASE_MS) == (0, [])


def test_refresh_never_reads() -> None:
    """It asks the store nothing, and may store what it gets."""
    story = Story(told="refresh")
    assert story.run() == Found("alone")
    assert story.done == []


def test_no_store_never_touches() -> None:
    """It is not even a question; the block's word holds where the call has none."""
    asked = ("POST", "https://h/v1/messages", "/v1/messages", {}, {"model": "m"})
    assert Settings().question(*asked, told="no-store") is None
    with cache_control("no-store"):
        assert Settings().question(*asked) is None
        assert Settings().question(*asked, told="refresh") is not None
        with cache_control(60):
            found = Settings().question(*asked)
    assert found is not None
    assert found.control == Control(ttl_s=60.0)
    assert Settings().question(*asked) is not None


@pytest.mark.parametrize("told", ["never", "", "0", "-1", 0, float("nan"), float("inf"), True])
def test_other_words_are_refused(told: Any) -> None:
    """A control is one of two words, or seconds above 0."""
    with pytest.raises(ConfigError, match="no-store"):
        Control.of(told)
    with pytest.raises(ConfigError), cache_control(told):
        pass


@given(age_ms=st.integers(0, 9999), ttl_s=st.floats(0.001, 20))
def test_seconds_bound_the_age(age_ms: int, ttl_s: float) -> None:
    """What is older than the call allows is no answer for it, though it is for others."""
    head = stored(fresh_ms=10_000)[:HEAD_BYTES]
    story = Story((stored(fresh_ms=10_000), 10_000 - age_ms), [LEAD], told=ttl_s)
    is_young = age_ms <= ttl_s * 1000
    assert story.run().how == ("hit" if is_young else "lead")
    assert is_young or story.done[-1][-1] == head  # what it has seen is not given to it again
    assert "drop" not in story.verbs


def test_what_is_stale_is_served_and_refreshed_by_one() -> None:
    """All get the old answer at once; one of them gets a new one, which the next ones have."""
    world = World()
    world.fill("old", lifetime_ms=100_000, fresh_ms=1000)
    assert world.ask("ann")[0].how == "hit"
    world.now_ms += 2000
    found = [world.ask(name) for name in ("ann", "bob", "cyd")]
    assert [(each.how, each.served, took_s) for each, took_s in found] == [("stale", "old", 0)] * 3
    assert [each.leads for each, _ in found] == [True, False, False]
    world.fill("new")
    assert world.ask("dan")[0].served == "new"


def test_a_stale_answer_is_served_while_its_refreshing_fails() -> None:
    """… and the third one does not try."""
    world = World()
    world.fill("old", lifetime_ms=100_000, fresh_ms=1000)
    world.now_ms += 2000
    for name, leads in (("ann", True), ("bob", True), ("cyd", False)):
        found, _ = world.ask(name)
        assert (found.how, found.leads) == ("stale", leads)
        if leads:
            world.fail(name)


@pytest.mark.parametrize("fresh_ms", [8000, 0])
def test_a_newer_answer_is_preferred_to_a_stale_one(fresh_ms: int) -> None:
    """When it came between the look and the claim; its bytes are counted, and not the old one's."""
    newer = stored("a newer one", fresh_ms=fresh_ms)
    story = Story((stored(), 1000), [HIT, newer, 9999])
    found = story.run()
    assert (found.how, found.served, found.leads) == (
        "hit" if fresh_ms else "stale", "a newer one", False,
    )  # fmt: skip
    assert story.counts == {"bytes_served": len(newer)}


CORRUPT = (
    b"x" * 30,
    b"?",
    stored()[:-1],
    stored() + b"x",
    stored("for another").replace(b"a", b"b"),
)


@given(st.lists(st.sampled_from(CORRUPT), min_size=1, max_size=5))
def test_corrupt_values_are_dropped_and_asked_anew(values: list[bytes]) -> None:
    """Each is deleted and counted; after them it is as if nothing had been there."""
    story = Story((values[0], 500), *([HIT, each, 500] for each in values[1:]), [LEAD])
    assert story.run().how == "lead"
    assert story.verbs.count("drop") == story.counts["corrupt"] == len(values)


def test_an_endless_stream_of_corrupt_values_ends_alone() -> None:
    """Somebody else writes there: the call goes on without a cache, after a few tries."""
    story = Story((b"damaged", 500), *[[HIT, b"damaged", 500]] * 30)
    assert story.run() == Found("alone")
    assert len(story.done) < 30
    assert story.counts["misses"] == 1


def test_an_endless_stream_of_answers_that_will_not_do_ends_alone() -> None:
    """As of one who serves none of them."""
    answers = [[HIT, stored(str(n)), 500] for n in range(30)]
    story = Story(NOTHING, *answers, serve=lambda _: None)
    assert story.run() == Found("alone")
    assert "corrupt" not in story.counts


def test_a_value_that_never_ends_is_not_ours() -> None:
    """Ours have an expiry: one without is deleted, however whole."""
    story = Story((stored(), -1), [LEAD])
    assert story.run().how == "lead"
    assert story.verbs == ["look", "drop", "claim"]


def test_a_value_that_ended_just_now_is_not_there() -> None:
    """Between its reading and that of its time: nothing is wrong with it, and nothing is deleted."""
    story = Story((stored(), GONE), [LEAD])
    assert story.run().how == "lead"
    assert story.verbs == ["look", "claim"]
    assert "corrupt" not in story.counts


def test_an_answer_that_cannot_be_read_is_as_a_damaged_one() -> None:
    """What a caller's reading raises is no failure of the store; the next answer takes its place."""

    def fail(_entry: Entry) -> Any:
        raise KeyError("choices")

    story = Story((stored(), 500), [LEAD], serve=fail)
    assert story.run().how == "lead"
    assert story.verbs == ["look", "drop", "claim"]
    assert story.counts == {"corrupt": 1, "misses": 1}


def test_an_answer_that_will_not_do_is_replaced() -> None:
    """It stays for others until then, and is not offered again."""
    story = Story((stored(), 500), [LEAD], serve=lambda _: None)
    assert story.run().how == "lead"
    assert story.verbs == ["look", "claim"]
    assert story.done[-1][-1] == stored()[:HEAD_BYTES]


def test_without_single_flight_nobody_claims() -> None:
    """All go alone, and a hit is a hit."""
    story = Story(NOTHING, waits=False)
    assert story.run().how == "alone"
    assert story.verbs == ["look"]
    assert Story((stored(), 9000), waits=False).run().how == "hit"


@pytest.mark.parametrize(("reply", "how"), [([LEAD], "lead"), ([PASS], "alone")])
def test_who_claims_says_who_he_is(reply: list[Any], how: str) -> None:
    """The claim names the question, its rank and its lease; a stale one's has no channel to be woken on."""
    story = Story(NOTHING, reply, rank=7)
    assert story.run().how == how
    assert story.done[-1] == ("claim", KEY, "me", "channel", 7, LEASE_MS, MOST, b"")
    stale = Story((stored(), 100), reply)
    assert stale.run().leads is (how == "lead")
    assert stale.done[-1][3] == ""
