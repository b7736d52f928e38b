"""A project's rate limits as limits of quotas: what is read, and what a quota keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError
from limiter.providers.project_limits import ModelLimits, read, renumbered, smallest
from tests.core import strategies

ENTRY = {"object": "project.rate_limit", "id": "rl-m", "model": "m"}
NUMBERS = {
    "max_requests_per_1_minute": 500,
    "max_tokens_per_1_minute": 30_000,
    "max_requests_per_1_day": 10_000,
    "max_images_per_1_minute": 5,
}
DAY_S = 86_400.0

granted = strategies.distinct(
    st.builds(
        Limit,
        st.sampled_from(["requests", "tokens", "images"]),
        st.integers(1, 2**40),
        st.sampled_from([60.0, DAY_S]),
    )
)


def test_each_number_is_a_limit_of_its_dimension_and_period() -> None:
    """Requests and tokens and images by the minute, requests by the day; the rest is left out."""
    beyond = {"max_audio_megabytes_per_1_minute": 7, "batch_1_day_max_input_tokens": 900}
    assert read({**ENTRY, **NUMBERS, **beyond}) == ModelLimits("m", (
        Limit("requests", 500), Limit("tokens", 30_000), Limit("requests", 10_000, DAY_S),
        Limit("images", 5),
    ))  # fmt: skip


@pytest.mark.parametrize("nothing", [0, None, -1, True, "500", 1.5, 2**50 + 1])
@pytest.mark.parametrize("key", NUMBERS)
def test_what_is_no_amount_is_no_limit(key: str, nothing: object) -> None:
    """Zero, a missing number and whatever no limit can have leave out that limit alone."""
    whole = read({**ENTRY, **NUMBERS})
    found = read({**ENTRY, **NUMBERS, key: nothing})
    assert len(found.limits) == 3
    assert {*found.limits} < {*whole.limits}
    assert read({**ENTRY, **dict.fromkeys(NUMBERS, nothing)}) == ModelLimits("m", ())


@pytest.mark.parametrize(
    "entry",
    [{}, {**ENTRY, "object": "model"}, {**ENTRY, "model": None}, {**ENTRY, "model": ""}, NUMBERS],
)
def test_what_is_no_entry_is_told_from_one_without_limits(entry: dict[str, object]) -> None:
    """Another list's entries are not taken for models that have no limit."""
    assert read(entry) is None


@given(st.lists(granted, min_size=1, max_size=4))
def test_several_models_get_the_smallest_of_each_number(lists: list[list[Limit]]) -> None:
    """No model is granted more than its own; each number is one that some model has."""
    models = [ModelLimits(f"m{i}", tuple(limits)) for i, limits in enumerate(lists)]
    found = smallest(models)
    assert len(found) == len({each.limit.label for each in found})
    own = {each.model: each.limits for each in models}
    assert all(each.limit in own[each.model] for each in found)
    amounts = {each.limit.label: each.limit.amount for each in found}
    for limit in (limit for limits in lists for limit in limits):
        assert amounts[limit.label] <= limit.amount


def test_of_equal_numbers_the_first_models_is_told() -> None:
    """Who reads a report finds the first model in it."""
    models = [ModelLimits(name, (Limit("requests", 5),)) for name in "abc"]
    assert [each.model for each in smallest(models)] == ["a"]


@given(strategies.quotas(), granted)
def test_a_quota_keeps_all_but_the_amounts(quota: Quota, limits: list[Limit]) -> None:
    """Name, models, priorities, tenants, group, bursts and the limits that nobody names stay."""
    try:
        found = renumbered(quota, limits)
    except ConfigError:
        return  # a burst of seconds, or a share, that does not go with the new amount
    assert replace(found, limits=quota.limits) == quota
    amounts = {limit.label: limit.amount for limit in limits}
    assert [each.label for each in found.limits][: len(quota.limits)] == [
        each.label for each in quota.limits
    ]
    for before, after in zip(quota.limits, found.limits, strict=False):
        assert replace(after, amount=before.amount) == before
        assert after.amount == amounts.get(before.label, before.amount)
    assert {each.label for each in found.limits} == {*amounts, *(e.label for e in quota.limits)}
    assert renumbered(found, limits) == found


def test_a_limit_that_is_new_is_as_its_neighbours() -> None:
    """It has the burst and headroom of the quota's other limits of its period, if there are any."""
    quota = Quota("q", rpm=5, concurrency=2, burst=2.0, headroom=1.0)
    new = [Limit("tokens", 600), Limit("requests", 1000, DAY_S)]
    assert renumbered(quota, new).limits[2:] == (
        Limit("tokens", 600, burst=2.0, headroom=1.0), Limit("requests", 1000, DAY_S)
    )  # fmt: skip


def test_an_amount_that_does_not_go_with_the_quota_is_an_error() -> None:
    """A burst of many seconds bounds the amount; the quota is not bent to fit."""
    with pytest.raises(ConfigError, match="A burst of"):
        renumbered(Quota("q", rpm=5, burst=86_400.0), [Limit("requests", 2**50)])
