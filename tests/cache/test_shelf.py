"""The Lua and the shelf do the same, step by step, on every kind of server.

The scripts go by the server's clock: so leases are long, and what ends is ended by hand, in both.
`LIMITER_SEQUENCES` sets how many sequences are tried.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter import scripts
from limiter.cache import layout
from limiter.cache.shelf import FAILURES_MAX, GONE, HIT, LEAD, PASS, WAIT, Shelf

SEQUENCES = int(os.environ.get("LIMITER_SEQUENCES", "150"))
LONG_MS = 3_600_000  # nothing ends within a test but by `expire`
MOST = 24
KEYS = ("n-a:1", "n-b:2")
ANSWERS = (b"x" * 18 + b"one", b"y" * 18 + b"two", b"z" * 18 + b"too long", b"x")
names = itertools.count()

key = st.sampled_from([*KEYS[:1] * 4, *KEYS])
who = st.integers(1, 3).map("id{}".format)
claim = st.tuples(
    st.just("claim"), key, who, st.sampled_from(["", "c1", "c2"]), st.sampled_from([0, 0, -5, 10]),
    st.sampled_from([b"", b"", *(each[:18] for each in ANSWERS)]),
)  # fmt: skip
leave = st.tuples(
    st.just("leave"),
    key,
    who | st.just("holder"),
    st.sampled_from(["failed", "failed", "left", "alive"]),
)
step = st.one_of(
    claim, claim, claim, leave, leave,
    st.tuples(st.just("look"), key),
    st.tuples(st.just("fill"), key, st.sampled_from(ANSWERS)),
    st.tuples(st.just("drop"), key),
    st.tuples(st.just("expire"), key, st.sampled_from(["answer", "flight"])),
)  # fmt: skip


class Pair:
    """Run everything twice, on the Lua and on the shelf, and compare."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.shelf, self.now_ms, self.mark = Shelf(), 1_000_000, f"{next(names)}"

    def close(self) -> None:
        if found := [*self.client.scan_iter(f"limiter:cache:1:*{self.mark}*")]:
            self.client.delete(*found)
        self.client.close()

    def run(self, script: str, key: str, *arguments: Any) -> Any:
        found = [layout.answer(key), layout.flight(key)]
        found = found[1:] if script == "leave" else found
        return self.client.eval(
            scripts.load(f"cache/{script}").source, len(found), *found, *arguments
        )

    def woken(self, run: Any) -> tuple[Any, list[str]]:
        """Return a script's reply, and the channels on which it published."""
        hearing = self.client.pubsub()
        hearing.subscribe("c1", "c2")
        for _ in range(2):
            assert hearing.get_message(timeout=10)["type"] == "subscribe"
        reply = run()
        self.client.publish("c1", "over")
        heard = []
        while (message := hearing.get_message(timeout=10))["data"] != b"over":
            heard.append(message["channel"].decode())
        hearing.close()
        return reply, sorted(heard)

    def step(self, kind: str, name: str, *rest: Any) -> None:
        key, shelf, now = f"{name}{self.mark}", self.shelf, self.now_ms
        match kind:
            case "claim":
                id_, channel, rank, seen = rest
                told = (id_, channel, rank, LONG_MS, MOST, seen)
                self.equal(shelf.claim(now, key, *told), self.run("claim", key, *told))
            case "leave":
                id_, how = rest
                if id_ == "holder" and (flight := shelf._flights.get(key)):
                    id_ = flight.holder or id_
                reply, woken = shelf.leave(now, key, id_, how, LONG_MS)
                run = lambda: self.run("leave", key, id_, how, LONG_MS, key)
                assert ([reply], sorted(woken)) == self.woken(run)
            case "fill":
                woken = shelf.fill(now, key, rest[0], LONG_MS)
                run = lambda: self.run("fill", key, rest[0], LONG_MS, key)
                assert ([1], sorted(woken)) == self.woken(run)
            case "look":
                stored = self.client.get(layout.answer(key)) or b""
                assert shelf.look(now, key, MOST)[0] == (b"" if len(stored) > MOST else stored)
            case "drop":
                shelf.drop(key)
                self.client.delete(layout.answer(key))
            case "expire":
                self.client.pexpireat(getattr(layout, rest[0])(key), 1)
                if rest[0] == "answer":
                    shelf.drop(key)
                else:
                    shelf._flights.pop(key, None)
        self.same_state(key)

    def equal(self, expected: Any, actual: Any) -> None:
        """Compare replies, but for times, which end after the test in both."""
        assert actual[0] == expected[0]
        if expected[0] == HIT:
            assert actual[1] == expected[1]
        if expected[0] in (HIT, WAIT):
            assert 0 < actual[-1] <= LONG_MS
            assert 0 < expected[-1] <= LONG_MS

    def same_state(self, key: str) -> None:
        """Compare what is kept; all of it ends by itself."""
        flight = self.shelf._flights.get(key)
        expected = {} if flight is None else {f"w:{name}": "1" for name in flight.waiting}
        if flight and flight.holder is not None:
            expected |= {"holder": flight.holder, "rank": str(flight.rank)}
        if flight and flight.failures:
            expected["failures"] = str(flight.failures)
        found = self.client.hgetall(layout.flight(key))
        assert {name.decode(): told.decode() for name, told in found.items()} == expected
        stored = self.shelf._answers.get(key, (None, 0))[0]
        assert self.client.get(layout.answer(key)) == stored
        for each in (layout.answer(key), layout.flight(key)):
            assert self.client.pttl(each) > 0 or not self.client.exists(each)


@pytest.fixture
def pair(any_url: str) -> Any:
    made = Pair(any_url)
    yield made
    made.close()


@settings(max_examples=SEQUENCES,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(steps=st.lists(step, min_size=4, max_size=30))
def test_lua_does_what_the_shelf_does(any_url: str, steps: list[tuple[Any, ...]]) -> None:
    """Any sequence gives the same replies, wake-ups and contents in both."""
    pair = Pair(any_url)
    try:
        for each in steps:
            pair.step(*each)
    finally:
        pair.close()


FOREIGN = {
    "string": ("SET", "x"), "empty string": ("SETRANGE", "0", ""), "list": ("RPUSH", "x"),
    "set": ("SADD", "x"), "zset": ("ZADD", "1", "x"), "hash": ("HSET", "holder", "x"),
    "stream": ("XADD", "*", "a", "b"),
    "odd hash": ("HSET", "holder", "id1", "rank", "y", "failures", "z", "w:", "1"),
    "numbers": ("HSET", "failures", "1.5", "rank", "inf", "holder", "id1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("place", ["answer", "flight"])
def test_foreign_values_under_our_names_are_no_error(pair: Pair, name: str, place: str) -> None:
    """Whatever type is under our names, each script runs, and in the end an answer is had."""
    key = f"{KEYS[0]}{pair.mark}"
    at = getattr(layout, place)(key)
    for script, *told in (
        ("claim", "id1", "c1", 20, LONG_MS, MOST, ""), ("leave", "id1", "failed", LONG_MS, key),
        ("leave", "id1", "left", LONG_MS, key), ("leave", "id1", "alive", LONG_MS, key),
    ):  # fmt: skip
        pair.client.delete(at)
        command, *rest = FOREIGN[name]
        pair.client.execute_command(command, at, *rest)
        assert pair.run(script, key, *told)[0] in range(5)
    pair.client.execute_command("DEL", at)
    pair.client.execute_command(FOREIGN[name][0], at, *FOREIGN[name][1:])
    assert pair.run("fill", key, ANSWERS[0], LONG_MS, key) == [1]
    assert pair.run("claim", key, "id2", "", 0, LONG_MS, MOST, "")[:2] == [HIT, ANSWERS[0]]


def test_a_flight_without_an_end_is_given_one(pair: Pair) -> None:
    """A holder or failures that would be there for ever are believed for a lease."""
    key = f"{KEYS[0]}{pair.mark}"
    for fields, reply in (({"holder": "gone"}, WAIT), ({"failures": 2}, PASS)):
        pair.client.delete(layout.flight(key))
        pair.client.hset(layout.flight(key), mapping=fields)
        found = pair.run("claim", key, "id1", "", 0, LONG_MS, MOST, "")
        assert found[0] == reply
        assert 0 < pair.client.pttl(layout.flight(key)) <= LONG_MS


def test_the_shelf_goes_by_its_time() -> None:
    """Answers, leases and failures end to the millisecond, as the server's do."""
    shelf = Shelf()
    ask = ("k", "ann", "", 0, 500, MOST, b"")
    assert shelf.claim(0, *ask) == [LEAD]
    assert shelf.claim(499, "k", "bob", "c", 0, 500, MOST, b"") == [WAIT, 1]
    assert shelf.leave(499, "k", "ann", "alive", 500) == (1, [])
    assert shelf.claim(998, "k", "bob", "c", 0, 500, MOST, b"") == [WAIT, 1]
    assert shelf.claim(999, "k", "bob", "c", 0, 500, MOST, b"") == [LEAD]
    assert shelf.leave(999, "k", "ann", "failed", 500) == (0, [])
    assert shelf.fill(1000, "k", b"x", 10) == []
    assert [shelf.look(now, "k", MOST) for now in (1000, 1009, 1010)] == [
        (b"x", 10), (b"x", 1), (b"", GONE),
    ]  # fmt: skip
    for n in range(FAILURES_MAX):
        assert shelf.claim(2000 + n, *ask) == [LEAD]
        assert shelf.leave(2000 + n, "k", "ann", "failed", 500)[0] == 1
    assert shelf.claim(2500, *ask) == [PASS]
    assert shelf.claim(2501, *ask) == [LEAD]


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 40)), max_size=60))
def test_the_shelf_is_bounded(steps: list[tuple[int, int | None]]) -> None:
    """It keeps what was asked for or stored last, and no more bytes than it may."""
    shelf = Shelf(most_bytes=100)
    kept: dict[str, int] = {}
    for n, size in steps:
        key = f"k{n}"
        was = kept.pop(key, None)
        if size is None:
            assert len(shelf.look(0, key, 999)[0]) == (was or 0)
            kept |= {} if was is None else {key: was}
        else:
            shelf.fill(0, key, b"x" * size, 10)
            kept[key] = size
        while sum(kept.values()) > 100:
            del kept[next(iter(kept))]
        assert shelf.keys() == list(kept)
