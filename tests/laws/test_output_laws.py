"""What a fleet knows of the length of answers, as stories: told once, for good, and within bounds."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from limiter.core import layout
from limiter.core.layout import Status
from limiter.core.outputs import SKETCHES
from limiter.core.quota import Quota
from limiter.core.sketch import DAY_US, FULL, LEAST, bucket_of, tokens_of
from tests.engine.test_model import Pair
from tests.laws.conftest import Tell
from tests.laws.story import Owner, Story

KEY = "chat 10 gpt-4o"
BATCH = 200


def ends(owner: Owner, *lengths: int, key: str = KEY) -> None:
    """Let calls end whose answers were so long."""
    n = owner.ask()
    for at in range(0, len(lengths), BATCH):
        told = lengths[at : at + BATCH]
        owner.send(*(layout.forecast(n, key, bucket_of(each), 900) for each in told))
    owner.settle(n)


def look(owner: Owner, key: str = KEY, permille: int = 900) -> tuple[int, int]:
    """Ask; return how many answers are known, and the quantile in tokens (0: not known)."""
    total, bucket = owner.send(layout.forecast(0, key, 0, permille))[0].levels
    return total, tokens_of(bucket) if bucket else 0


def begin(tell: Tell) -> tuple[Story, Owner]:
    story = tell(concurrency=100)
    return story, story.owner("ann")


def test_to_ask_tells_nothing(tell: Tell) -> None:
    """A question leaves no trace, whoever puts it, about whatever key."""
    story, ann = begin(tell)
    ends(ann, *[7] * LEAST)
    for _ in range(3):
        assert look(ann) == look(story.owner("bob")) == (LEAST, 7)
        assert look(ann, "another") == (0, 0)


def test_a_quantile_is_told_from_twenty_answers_on(tell: Tell) -> None:
    """Before that it would be chance; it is what the fleet has seen, not what one process has."""
    story, ann = begin(tell)
    ends(ann, *range(1, LEAST))
    assert look(ann) == (LEAST - 1, 0)
    bob = story.owner("bob")
    ends(bob, 100)
    assert look(bob) == look(ann) == (LEAST, LEAST - 2)
    assert look(ann, permille=500) == (LEAST, LEAST // 2)


def test_an_answer_is_told_what_it_changed(tell: Tell) -> None:
    """Whoever tells a length hears the quantile with it in: no question needs to follow."""
    _, ann = begin(tell)
    ends(ann, *[7] * (LEAST - 1))
    told = ann.send(layout.forecast(ann.ask(), KEY, 7, 900))
    assert told[0] == (Status.DONE, 0, 0, (LEAST, 7))


def test_an_answer_counts_once(tell: Tell) -> None:
    """Law 8: told again, behind the settling that went with it, it is not counted."""
    _, ann = begin(tell)
    n = ann.ask()
    batch = (layout.forecast(n, KEY, 7, 900), layout.settle(n, ()))
    assert [each.status for each in ann.send(*batch)] == [Status.DONE, Status.DONE]
    assert [each.status for each in ann.send(*batch)] == [Status.GONE, Status.GONE]
    assert look(ann)[0] == 1


def test_keys_and_quantiles_are_apart(tell: Tell) -> None:
    """What is told of one key changes no other."""
    _, ann = begin(tell)
    ends(ann, *[7] * 50)
    ends(ann, *[900] * 30, key="chat 12 gpt-4o")
    assert look(ann) == (50, 7)
    assert look(ann, "chat 12 gpt-4o") == (30, tokens_of(bucket_of(900)))


def test_old_answers_fade(tell: Tell) -> None:
    """Never more than a thousand are counted; what changed is known after as many new ones."""
    _, ann = begin(tell)
    for _ in range(8):
        ends(ann, *[100] * 300)
        assert look(ann)[0] < FULL
    ends(ann, *[500] * FULL)
    assert look(ann, permille=500)[1] == tokens_of(bucket_of(500))
    assert look(ann)[0] < FULL


def test_no_more_than_so_many_keys_are_kept(tell: Tell) -> None:
    """A new key takes the place of the one with the fewest answers, the first by name of several."""
    _, ann = begin(tell)
    names = [f"k{n:02}" for n in range(SKETCHES)]
    for name in names:
        ends(ann, 7, 7, key=name)
    ends(ann, 7, key="k40")
    ends(ann, 7, key="new")
    assert [name for name in names if look(ann, name) == (0, 0)] == ["k00"]
    ends(ann, 7, key="k00")
    assert look(ann, "new") == (0, 0)  # it had one answer, all others two
    assert [name for name in names if look(ann, name) == (0, 0)] == []


def test_names_are_in_the_order_of_their_bytes(tell: Tell) -> None:
    """Whatever language the server was started in: upper case goes before lower case."""
    _, ann = begin(tell)
    for name in ["b", "a", "B", "ab", *(f"z{n}" for n in range(SKETCHES - 4))]:
        ends(ann, 7, key=name)
    for new, gone in (("x1", "B"), ("x2", "a"), ("x3", "ab"), ("x4", "b")):
        ends(ann, 7, 7, key=new)
        assert look(ann, gone) == (0, 0), gone


def test_what_nobody_uses_gives_way(tell: Tell) -> None:
    """Each day without an answer halves what a key weighs against the others, and nothing else."""
    story, ann = begin(tell)
    for n in range(SKETCHES):
        ends(ann, *[7] * 40, key=f"k{n:02}")
    story.after(3 * 86_400)
    for n in range(SKETCHES):
        if n != 9:
            ends(ann, *[7] * 10, key=f"k{n:02}")
    ends(ann, 7, key="new")
    assert look(ann, "k09") == (0, 0)
    assert look(ann, "k10") == (50, 7)


def test_what_was_learned_outlasts_limits(tell: Tell) -> None:
    """Another definition of the quota, and a long silence, leave it as it is."""
    story, ann = begin(tell)
    ends(ann, *[7] * LEAST)
    story.redefine(rpm=5)
    assert look(ann) == (LEAST, 7)
    story.after(5 * 86_400)
    assert look(ann) == (LEAST, 7)


@pytest.mark.parametrize("seed", range(3))
def test_the_lua_counts_as_the_model_does(any_url: str, name: str, seed: int) -> None:
    """Through thousands of answers under more keys than are kept, over days."""
    draw = random.Random(seed)
    pair = Pair(any_url, Quota(name, concurrency=5))
    keys = [draw.choice("aAbBé") * draw.randint(1, 3) + str(n) for n in range(SKETCHES + 20)]
    few, totals = draw.sample(keys, 3), []

    def told() -> tuple:
        n, bucket = draw.choice([pair.calls["ann"]] * 3 + [99]), round(draw.gauss(60, 20))
        key = draw.choice(few if draw.random() < 0.9 else keys)
        permille = draw.choice([1, 500, 900, 1000])
        return ("forecast", n, key, draw.choice([0] + [min(197, max(1, bucket))] * 4), permille)

    for at in range(60):
        if at % 10 == 0:  # after days its reservation has lapsed
            pair.now += draw.randint(0, 3 * DAY_US)
            pair.run("ann", 0, [("acquire", 1, [1], 0, 0, "", "", 100)])
        reply = pair.run("ann", 20_000_000, [told() for _ in range(draw.randint(100, 250))])
        totals += [each.levels[0] for each in reply.results]
    pair.close()
    assert len(pair.model.outputs) == SKETCHES
    assert max(totals) == FULL - 1


@pytest.fixture
def lua(any_url: str, name: str) -> Iterator[Story]:
    story = Story(Quota(name, concurrency=100, headroom=0), any_url)
    yield story
    story.close()


def kept_h(story: Story) -> tuple[int, int]:
    """Return for how many hours the lengths and the definition will be kept."""
    keys, client = story.engine.keys, story.engine.client
    return client.pttl(keys.outputs) // 3_600_000, client.pttl(keys.quota) // 3_600_000


def test_it_is_kept_for_as_long_as_the_definition(lua: Story) -> None:
    """A week without a call, and it is forgotten; a call renews it."""
    ann = lua.owner("ann")
    ends(ann, 7)
    assert kept_h(lua)[0] >= 7 * 24 - 1
    lua.engine.client.pexpire(lua.engine.keys.outputs, 60_000)
    ends(ann, 7)
    assert kept_h(lua)[0] == 0
    ends(lua.after(601).owner("ann"), 7)
    assert kept_h(lua)[0] >= 7 * 24


@pytest.mark.parametrize("lost", ["state", "holds", "outputs"])
def test_a_key_that_is_evicted_costs_what_it_held(lua: Story, lost: str) -> None:
    """Without the state the lengths are still known; without them learning begins anew."""
    ann = lua.owner("ann")
    ends(ann, *[7] * LEAST)
    lua.engine.client.delete(getattr(lua.engine.keys, lost))
    known = 0 if lost == "outputs" else LEAST
    assert look(ann)[0] == known
    ends(ann, 7)
    assert look(ann)[0] == known + 1
    assert kept_h(lua)[0] >= 7 * 24 - 1
