"""The Lua and the reference model do the same, step by step, on every kind of server.

`LIMITER_SEQUENCES` sets how many sequences are tried; `make sequences` tries thousands.
"""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core import layout
from limiter.core.model import Model
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from tests.engine.lua import Lua

LEASE_US = 30_000_000
START_US = 1_700_000_000_000_000
OWNERS = ("ann", "bob", "cyd")
SEQUENCES = int(os.environ.get("LIMITER_SEQUENCES", "150"))
names = itertools.count()

DIMENSIONS = ["requests", "tokens", "images", "concurrency"]
burst = st.one_of(st.sampled_from(["full", "smooth"]), st.integers(1, 90).map(float))
one_limit = st.one_of(
    st.builds(Limit, st.sampled_from(DIMENSIONS[:3]), st.integers(1, 1000),
              st.sampled_from([1.0, 60.0, 86_400.0, 7.5]), burst),
    st.builds(Limit, st.just("concurrency"), st.integers(1, 4), st.none(), adaptive=st.booleans()),
)  # fmt: skip
priority = st.fixed_dictionaries({
    "level": st.sampled_from([0, 0, 5, 10]),
    "floor": st.sampled_from([0.0, 0.2, 0.5]),
    "share": st.sampled_from([None, None, 0.3, 0.6]),
    "strict": st.sampled_from([False, False, True]),
    "max_waiting": st.sampled_from([None, None, 0, 2]),
    "promote_after_s": st.sampled_from([None, 1.0, 30.0]),
    "lend_after_s": st.sampled_from([0.0, 10.0, 60.0]),
})  # fmt: skip
PRIORITIES = ("default", "low", "high")


def some_limits(least: int, most: int) -> st.SearchStrategy[list[Limit]]:
    return st.lists(one_limit, min_size=least, max_size=most, unique_by=lambda limit: limit.label)


quotas = st.fixed_dictionaries({
    "limits": some_limits(1, 4),
    "tenant_limits": st.one_of(st.just([]), some_limits(1, 2)),
    "priorities": st.tuples(priority, priority, priority).map(
        lambda each: [
            Priority(name, **policy) for name, policy in zip(PRIORITIES, each, strict=True)
        ]
    ),
})  # fmt: skip

amount = st.integers(0, 1200)
small = st.integers(0, 5)
cost = st.lists(st.one_of(small, small, amount), min_size=4, max_size=4)
number = st.integers(1, 12)
acquire = st.tuples(
    st.just("acquire"), st.sampled_from([0, 1, 1, 1, 1, 3, 5, 5, 9, 13]), cost,
    st.sampled_from([0, 1_000_000, 60_000_000]), st.integers(0, 2), st.sampled_from(["", "", "", "x"]),
    st.sampled_from(["", "", "t", "u", "v w"]), st.sampled_from([100, 100, 50, 300]),
)  # fmt: skip
row = st.tuples(
    st.integers(0, 5),
    st.sampled_from([0, 0, 8, 9, 10, 12, 13, 14, 15, 16, 25, 57, 64, 73, 77, 80]),
    st.one_of(st.integers(-50, 1300), small), st.sampled_from([0, 0, 1, 20]), st.sampled_from([-1, 0, 3]),
)  # fmt: skip
report = st.tuples(
    st.just("report"), number, st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 5, 6]),
    st.sampled_from([-1, -1, 0, 2_000_000, 90_000_000]), st.sampled_from(["", "", "x"]),
    st.lists(row, max_size=3), st.sampled_from([0, 0, 0, 1, 2]),
)  # fmt: skip
forecast = st.tuples(
    st.just("forecast"), st.integers(1, 4), st.sampled_from(["a", "a", "B", "chat 10 gpt-4o"]),
    st.one_of(st.just(0), st.integers(20, 25), st.integers(1, 197)), st.sampled_from([1, 500, 900, 1000]),
)  # fmt: skip
entry = st.one_of(
    acquire,
    acquire,
    st.tuples(
        st.just("settle"), number,
        st.lists(st.one_of(st.just(-1), amount), min_size=4, max_size=4),
    ),
    st.tuples(st.just("cancel"), number),
    st.tuples(st.just("renew"), number),
    st.tuples(st.just("look"), number),
    st.just(("survey",)),
    report,
    report,
    forecast,
    forecast,
    st.tuples(st.just("tell"), st.sampled_from(["", "x"])),
)  # fmt: skip
pause = st.one_of(
    st.integers(0, 1000), st.integers(0, 3_000_000), st.integers(0, 70_000_000),
    st.integers(-5_000_000, 700_000_000),
)  # fmt: skip
run = st.tuples(st.just("run"), st.sampled_from(OWNERS), pause, st.lists(entry, max_size=5))
step = st.one_of(
    run, run, run,
    st.tuples(st.just("redefine"), quotas),
    st.tuples(st.just("replay"), st.sampled_from(OWNERS)),
)  # fmt: skip


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
            case ("acquire", flags, cost, patience_us, priority, route, tenant, weight):
                again = flags == 3 and self.calls[owner] > 0
                self.calls[owner] += not again
                return layout.acquire(
                    self.calls[owner], cost[:dims], flags=flags if again or flags != 3 else 1,
                    patience_us=patience_us, priority=priority, route=route, tenant=tenant,
                    weight=weight,
                )  # fmt: skip
            case ("settle", n, actual):
                return layout.settle(n, actual[:dims])
            case ("survey",):
                return layout.survey()
            case ("tell", route):
                return layout.tell(route)
            case ("report", n, outcome, wait_us, route, rows, ago):
                first = max(0, self.numbers[owner] - ago) if ago else 0
                return layout.report(n, outcome, wait_us, route, list(map(self.row, rows)), first)
            case ("forecast", n, key, bucket, permille):
                return layout.forecast(n, key, bucket, permille)
            case (kind, n):
                return getattr(layout, kind)(n)

    def row(self, drawn: tuple[int, ...]) -> layout.Row:
        place, flags, used, slack, least = drawn
        place %= len(self.lua.definition.limits)
        num, den = self.lua.definition.limits[place].scaled
        return layout.Row(place + 1, num, flags, used * den, slack * den, least)

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

    def redefine(self, quota: Quota) -> None:
        self.model.redefine(self.lua.redefine(quota, self.now), self.now)

    def close(self) -> None:
        self.lua.client.delete(*self.lua.keys.all())
        self.lua.close()


@settings(max_examples=SEQUENCES, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(quota=quotas, steps=st.lists(step, max_size=40))
def test_lua_does_what_the_model_does(
    any_url: str, quota: dict[str, object], steps: list[tuple]
) -> None:
    """Any sequence of batches gives the same replies, levels and wake-ups in both."""
    name = f"model-{next(names)}"
    pair = Pair(any_url, Quota(name, **quota))
    try:
        for kind, *rest in steps:
            if kind == "run":
                pair.run(*rest)
            elif kind == "redefine":
                pair.redefine(Quota(name, **rest[0]))
            else:
                pair.compare(rest[0], [layout.cancel(1)])
    finally:
        pair.close()


@pytest.mark.parametrize("amount", [1, 7, 600, 2**20, 2**40, 2**50])
def test_large_numbers_stay_exact(any_url: str, name: str, amount: int) -> None:
    """Levels are exact integers in both, up to the largest that a limit may have."""
    pair = Pair(
        any_url, Quota(name, limits=[Limit("tokens", amount), Limit("tokens", amount, 86_400.0)])
    )
    for i in range(1, 20):
        asked = ("acquire", 1, [amount // i], 0, 0, "", "", 100)
        rows = [(place, 13, amount // 3 * (i % 4), 0, i % 2) for place in (0, 1)]
        told = ("report", i, 1 + i % 3, i * 1_000_000, "", rows, 0)
        pair.run("ann", 777_777 * i, [asked, told, ("settle", i, [amount * 3]), ("tell", "")])
        if i % 5 == 0:
            limits = [Limit("tokens", amount), Limit("tokens", amount - i % 2 or 1, 86_400.0)]
            pair.redefine(Quota(name, limits=limits))
    pair.close()
