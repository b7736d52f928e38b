"""How rows become calls: estimates, service, and what is drawn."""

from __future__ import annotations

from collections import Counter

import pytest

from limiter.core import definition
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError
from limiter.simulation import quotas, workload
from limiter.simulation.trace import Arrival, Survey
from limiter.simulation.workload import START_US, Call, Estimate, Workload

QUOTA = Quota("q", rpm=100, tpm=10_000, limits=[Limit("output_tokens", 5_000)], concurrency=3)
AGREED = definition.read("q", "1", definition.write(QUOTA))
ROW = Arrival(5_000_000, 100, 40)


def made(work: Workload, *rows: Arrival, names: tuple[str, ...] = ("default",)) -> list[Call]:
    quota = workload.with_priorities(QUOTA, names)
    agreed = definition.read("q", "1", definition.write(quota))
    return list(workload.calls(rows, agreed, work, names))


@pytest.mark.parametrize(
    ("estimate", "output_tokens"),
    [(Estimate(), 40), (Estimate("max", 500), 500), (Estimate("factor", 1.26), 51)],
)
def test_an_estimate_is_reserved_and_the_truth_settled(
    estimate: Estimate, output_tokens: int
) -> None:
    """A call reserves a request, a slot and its input with the estimate; it settles what it used."""
    assert AGREED.dims == ("requests", "tokens", "concurrency", "output_tokens")
    (call,) = made(Workload(estimate=estimate), ROW)
    assert call.cost == (1, 100 + output_tokens, 1, output_tokens)
    assert call.actual == (-1, 140, -1, 40)
    assert call.at_us == START_US


def test_a_call_is_served_as_long_as_its_tokens_take() -> None:
    """Service is ttft + output / pace, unless the row tells."""
    work = Workload(ttft_s=0.5, tokens_per_s=20.0)
    told = Arrival(0, 1, 1, service_us=7)
    assert [call.service_us for call in made(work, ROW, told)] == [2_500_000, 7]
    with pytest.raises(ConfigError, match="days, a year is the most"):
        made(work, Arrival(0, 0, 2**50))


@pytest.mark.parametrize("wrong", [{"ttft_s": float("nan")}, {"tokens_per_s": 0.0}])
def test_a_workload_checks_its_numbers(wrong: dict[str, float]) -> None:
    """What cannot be a time or a pace is refused."""
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is a number"):
        Workload(**wrong)


def test_draws_are_repeatable_and_apart() -> None:
    """A seed draws the same again; priorities do not change with the tenants."""
    rows, names = [ROW] * 4_000, ("a", "b")
    work = Workload(mix={"a": 0.3, "b": 0.7}, tenants=3)
    first = made(work, *rows, names=names)
    assert first == made(work, *rows, names=names)
    alone = made(Workload(mix={"a": 0.3, "b": 0.7}), *rows, names=names)
    assert [call.priority for call in alone] == [call.priority for call in first]
    assert {call.tenant for call in alone} == {""}
    assert Counter(call.priority for call in first)[0] == pytest.approx(1_200, rel=0.1)
    tenants = Counter(call.tenant for call in first)
    assert tenants["t1"] / tenants["t3"] == pytest.approx(3, rel=0.2)
    both = Counter((call.priority, call.tenant) for call in first)
    assert both[0, "t1"] / tenants["t1"] == pytest.approx(both[0, "t3"] / tenants["t3"], rel=0.2)
    uniform = Counter(call.tenant for call in made(Workload(tenants=3, spread="uniform"), *rows))
    assert uniform["t1"] / uniform["t3"] == pytest.approx(1, rel=0.1)


def test_what_a_row_names_is_not_drawn() -> None:
    """A row's own priority and tenant stand."""
    row = Arrival(0, 1, 1, "b", "ann")
    (call,) = made(Workload(mix={"a": 1.0}, tenants=9), row, names=("a", "b"))
    assert (call.priority, call.tenant) == (1, "ann")


def test_a_quota_ranks_its_own_priorities() -> None:
    """Priorities of a quota rank by level, its policies and timeouts hold, and weights reach calls."""
    own = [Priority("low", level=-1), Priority("high", level=2, timeout=3.0)]
    quota = Quota("q", rpm=1, priorities=own, tenants={"ann": 2.5}, group="g")
    assert workload.priorities(quota, ["", "low"], {}) == ("high", "default", "low")
    assert workload.priorities(quota, ["low"], {"high": 1.0}) == ("high", "low")
    with pytest.raises(ConfigError, match="'other' has no rank"):
        workload.priorities(quota, ["other"], {})
    alone = workload.with_priorities(quota, ("high", "low"))
    assert (alone.group, alone.priorities) == (None, tuple(own))
    agreed = definition.read("q", "1", definition.write(alone))
    rows = [Arrival(0, 1, 1, "high", "ann"), Arrival(0, 1, 1, "low")]
    high, low = workload.calls(rows, agreed, Workload(), ("high", "low"))
    assert (high.timeout_us, low.timeout_us) == (3_000_000, None)
    assert (high.index, low.index) == (agreed.priority_index("high"), agreed.priority_index("low"))
    assert (high.weight, low.weight) == (250, 100)
    (patient, _) = workload.calls(rows, agreed, Workload(timeout_s=9), ("high", "low"))
    assert patient.timeout_us == 9_000_000


def test_a_priority_without_a_rank_is_refused() -> None:
    """A trace's priority must be ranked by the mix or the quota."""
    assert workload.priorities(QUOTA, ["", "b"], {"a": 1.0, "b": 1.0}) == ("a", "b")
    assert workload.priorities(QUOTA, [""], {}) == ("default",)
    with pytest.raises(ConfigError, match="--priority-mix b,default"):
        workload.priorities(QUOTA, ["b"], {})


def test_a_load_is_a_share_of_the_mean() -> None:
    """Limits follow the trace's mean by dimension and period; slots, and what has no mean, stay."""
    survey = Survey("t", calls=60, input_tokens=500, output_tokens=100, last_us=60_000_000)
    day = Limit("requests", 1, 86_400.0)
    quota = Quota("q", rpm=1, tpm=1, concurrency=7, limits=[day, Limit("images", 9)])
    found = {each.label: each.amount for each in quotas.at_load(quota, survey, 0.5).limits}
    assert found == {"requests/minute": 30, "tokens/minute": 300, "requests/day": 43_200,
                     "images/minute": 9, "concurrency": 7}  # fmt: skip
    doubled = {each.label: each.amount for each in quotas.scaled(quota, 2).limits}
    assert doubled == {"requests/minute": 2, "tokens/minute": 2, "requests/day": 2,
                       "images/minute": 18, "concurrency": 7}  # fmt: skip
