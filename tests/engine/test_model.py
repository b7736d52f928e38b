"""The Lua and the reference model do the same, step by step, on every kind of server."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core import layout
from limiter.core.model import Model
from limiter.core.quota import Limit, Quota
from tests.engine.lua import Lua

LEASE_US = 30_000_000
START_US = 1_700_000_000_000_000
OWNERS = ("ann", "bob", "cyd")
names = itertools.count()

burst = st.one_of(st.sampled_from(["full", "smooth"]), st.integers(1, 90).map(float))
amounts = st.integers(1, 1000)
limits = st.lists(
    st.one_of(
        st.builds(Limit, st.sampled_from(["requests", "tokens", "images"]), amounts,
                  st.sampled_from([1.0, 60.0, 86_400.0, 7.5]), burst),
        st.builds(Limit, st.just("concurrency"), st.integers(1, 4), st.none()),
    ),
    min_size=1, max_size=4, unique_by=lambda limit: limit.label,
)  # fmt: skip
amount = st.integers(0, 1200)
small = st.integers(0, 5)
cost = st.lists(st.one_of(small, amount), min_size=4, max_size=4)
number = st.integers(1, 12)
entry = st.one_of(
    st.tuples(st.just("acquire"), st.sampled_from([0, 1, 1, 1, 3]), cost),
    st.tuples(st.just("settle"), number, st.lists(st.one_of(st.just(-1), amount), min_size=4, max_size=4)),
    st.tuples(st.just("cancel"), number),
    st.tuples(st.just("renew"), number),
)  # fmt: skip
pause = st.one_of(
    st.integers(0, 1000), st.integers(0, 70_000_000), st.integers(-5_000_000, 700_000_000)
)
step = st.one_of(
    st.tuples(st.just("run"), st.sampled_from(OWNERS), pause, st.lists(entry, max_size=5)),
    st.tuples(st.just("run"), st.sampled_from(OWNERS), pause, st.lists(entry, max_size=5)),
    st.tuples(st.just("redefine"), limits),
    st.tuples(st.just("replay"), st.sampled_from(OWNERS)),
)


class Pair:
    """Run everything twice, on the Lua and on the model, and compare."""

    def __init__(self, url: str, quota: Quota) -> None:
        self.now = START_US
        self.lua = Lua(url, quota, START_US)
        self.model = Model(self.lua.definition, START_US)
        self.numbers = dict.fromkeys(OWNERS, 0)
        self.calls = dict.fromkeys(OWNERS, 0)
        self.lua.run(START_US, "observer", 0, 0, self.lua.definition.version, [])

    def run(self, owner: str, pause_us: int, entries: list[tuple]) -> layout.Reply:
        self.now += pause_us
        self.numbers[owner] += 1
        return self.compare(owner, [self.written(owner, entry) for entry in entries])

    def written(self, owner: str, entry: tuple) -> layout.Entry:
        dims = len(self.lua.definition.dims)
        match entry:
            case ("acquire", flags, cost):
                self.calls[owner] += 1
                n = self.calls[owner] - (flags >= 2)
                return layout.acquire(n, cost[:dims], flags=flags)
            case ("settle", n, actual):
                return layout.settle(n, actual[:dims])
            case ("cancel", n):
                return layout.cancel(n)
            case (_, n):
                return layout.renew(n)

    def compare(self, owner: str, entries: list[layout.Entry]) -> layout.Reply:
        batch = (
            self.now,
            owner,
            self.numbers[owner],
            LEASE_US,
            self.lua.definition.version,
            entries,
        )
        expected, actual = self.model.run(*batch), self.lua.run(*batch)
        assert actual == expected
        return actual[0]

    def redefine(self, limits: list[Limit]) -> None:
        definition = self.lua.redefine(Quota(self.lua.definition.name, limits=limits), self.now)
        self.model.redefine(definition)


@settings(max_examples=150, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(limits=limits, steps=st.lists(step, max_size=25))
def test_lua_does_what_the_model_does(
    any_url: str, limits: list[Limit], steps: list[tuple]
) -> None:
    """Any sequence of batches gives the same replies, levels and wake-ups in both."""
    pair = Pair(any_url, Quota(f"model-{next(names)}", limits=limits))
    try:
        for kind, *rest in steps:
            if kind == "run":
                pair.run(*rest)
            elif kind == "redefine":
                pair.redefine(*rest)
            else:
                pair.compare(rest[0], [layout.cancel(1)])
    finally:
        pair.lua.close()


@pytest.mark.parametrize("amount", [1, 7, 600, 2**20, 2**40])
def test_large_numbers_stay_exact(any_url: str, name: str, amount: int) -> None:
    """Levels are exact integers in both, up to the largest that a limit may have."""
    pair = Pair(
        any_url, Quota(name, limits=[Limit("tokens", amount), Limit("tokens", amount, 86_400.0)])
    )
    for i in range(1, 20):
        pair.run("ann", 777_777 * i, [("acquire", 1, [amount // i]), ("settle", i, [amount * 3])])
    pair.lua.close()
