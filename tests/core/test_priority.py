"""Priorities, tenants and quotas as callers write them: what is kept, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import limiter
from limiter.core.exact import SCALED_MAX, below, decimal, to_us
from limiter.core.priority import Priority, Tenants, check_tenant, hundredths
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError
from tests.core import strategies

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("key", "wrong", "says"),
    [
        *[("name", v, "1 to 48 lower-case letters") for v in ("", "Batch", "a b", "x" * 49, 7)],
        *[("level", v, "whole number from -1000 to 1000") for v in (1001, True, 1.0, "1", None)],
        *[("floor", v, "from 0 to below 1") for v in (1, 1.0, -0.1, NAN, INF, "0.1", True, None)],
        *[("share", v, "above 0, at most 1") for v in (0, 1.01, NAN, -INF, "1", True)],
        *[("strict", v, "is True or False") for v in (1, 0, "yes", None)],
        *[("max_waiting", v, "whole number from 0") for v in (-1, 1.0, True, "9", 10**10)],
        *[("timeout", v, "from 0 to") for v in (-1, NAN, INF, "5", True, 1e9, 10**400)],
        *[("promote_after_s", v, "above 0") for v in (0, -1, NAN, INF, "5", False)],
        *[("lend_after_s", v, "from 0 to") for v in (-1, NAN, INF, "5", True, None)],
    ],
)
def test_a_wrong_policy_says_what_to_write(key: str, wrong: object, says: str) -> None:
    """Every value out of range is refused, by a message with the field's name and its range."""
    with pytest.raises(ConfigError, match=says) as caught:
        Priority(**{"name": "batch", key: wrong})
    assert "priority" in str(caught.value)
    assert key in str(caught.value)


def test_the_ends_of_every_range_are_in_it() -> None:
    """The least and the largest value that a message names can be written."""
    Priority("a", -1000, 0, 1, max_waiting=0, timeout=0, promote_after_s=1e-6, lend_after_s=0)
    Priority("-_9" * 16, 1000, 0.999, 1e-9, max_waiting=10**9, timeout=400 * 86_400)


@settings(deadline=None)
@given(strategies.spans_s)
def test_spans_are_whole_microseconds(span: float) -> None:
    """A span that is whole microseconds is kept as it is, and any other one becomes such a one."""
    for field in ("timeout", "lend_after_s"):
        assert getattr(Priority("p", **{field: span}), field) == span
    kept = Priority("p", promote_after_s=span + 1e-9).promote_after_s
    assert to_us(kept) == max(1, to_us(span))
    assert Priority("p", timeout=kept).timeout == kept


def test_equal_values_are_written_alike() -> None:
    """Whole numbers, floats and a negative zero make the same priority, to the letter."""
    assert repr(Priority("p", floor=-0.0, share=1, timeout=2)) == repr(
        Priority("p", floor=0, share=1.0, timeout=2.0)
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"priorities": [Priority("a"), Priority("a", 5)]}, "the priority 'a' twice"),
        ({"priorities": Priority("a")}, "priorities= is a list"),
        ({"priorities": ["batch"]}, r"as \[Priority\('batch'"),
        ({"tenants": ["search"]}, "tenants= is a mapping"),
        ({"tenants": {"": 1.0}}, "A tenant needs a name"),
        ({"tenants": {"a\n": 1.0}}, "200 printable characters"),
        ({"tenants": {7: 1.0}}, "200 printable characters"),
        *[({"tenants": {"s": v}}, "weight of the tenant 's' must be a number from 0.01 to 100")
          for v in (0, 0.009, 101, NAN, INF, "2", True, None)],
        ({"tenant_limits": [Limit("a", 1), Limit("a", 2)]}, "tenant limit 'a/minute' twice"),
        ({"tenant_limits": Limit("a", 1)}, "tenant_limits= is a list"),
        ({"limits": ["tokens"]}, "^limits= is a list"),
        ({"limits": [Limit("requests", 9)]}, "limit 'requests/minute' twice"),
        *[({"group": v}, "A group's name is a text of 1 to 200") for v in ("", 7, "a\n", "x" * 201)],
        ({"group": "a{b}"}, "A group's name must hold no braces"),
        ({"priorities": [Priority("a", share=1e-9)]}, "of 'requests/minute' is too small: raise"),
    ],
)  # fmt: skip
def test_a_wrong_quota_says_what_to_write(settings: dict[str, object], says: str) -> None:
    """What is there twice, out of range or of another kind is refused and named."""
    with pytest.raises(ConfigError, match=says):
        Quota("q", rpm=5, **settings)


def test_a_quota_is_a_value() -> None:
    """It can be hashed, compared, pickled and replaced, and not be changed."""
    quota = Quota("q", rpm=5, priorities=[Priority("a")], tenants={"x": 2, "y": 1},
                  tenant_limits=[Limit("tokens", 5)], group="acme")  # fmt: skip
    same = Quota("q", rpm=5, priorities=(Priority("a"),), tenants={"y": 1.0, "x": 2.0},
                 tenant_limits=(Limit("tokens", 5),), group="acme")  # fmt: skip
    assert quota == same
    assert hash(quota) == hash(same)
    assert pickle.loads(pickle.dumps(quota)) == quota
    assert replace(quota, group=None).tenants == {"x": 2.0, "y": 1.0}
    assert quota != Quota("q", rpm=5)
    assert repr(quota.tenants) == "{'x': 2.0, 'y': 1.0}"
    with pytest.raises(TypeError):
        quota.tenants["x"] = 3.0  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        Priority("a").level = 5  # type: ignore[misc]


def test_a_quota_without_a_group_is_its_own_unit() -> None:
    """One line serves a group, or the quota that is in none."""
    assert Quota("q", rpm=5).unit == "q"
    assert Quota("q", rpm=5, group="acme").unit == "acme"


def test_tenants_are_checked_as_the_api_needs_it() -> None:
    """A tenant is a short printable text, or "" for none; weights become hundredths."""
    assert [check_tenant(name) for name in ("", "search", "Ö" * 200)] == ["", "search", "Ö" * 200]
    for wrong in ("x" * 201, "a\tb", None, 5):
        with pytest.raises(ConfigError, match="A tenant's name is a text"):
            check_tenant(wrong)
    assert [hundredths(weight) for weight in (0.01, 1, 0.29, 100)] == [1, 100, 29, 10_000]
    assert len(Tenants({"a": 1})) == 1


@settings(deadline=None)
@given(strategies.rates | strategies.slots, strategies.parts)
def test_a_part_of_a_limit_is_never_above_it(limit: Limit, part: float) -> None:
    """A share grants no more than its exact part of rate and burst, and its products stay exact."""
    share, exact = limit.share(part), decimal(part)
    assert Fraction(share.num, share.den) <= limit.rate * exact
    assert share.den * limit.ceiling <= SCALED_MAX
    if limit.per is None:
        assert (share.num, share.den) == (0, 1)
        assert share.capacity == max(1, limit.amount * exact // 1)
    else:
        assert share.num > 0
        assert share.capacity == limit.capacity * exact // 1
    assert limit.floor(part) == limit.capacity * exact // 1


def test_parts_are_what_the_caller_wrote() -> None:
    """0.3 of 10 is 3, though the double 0.3 is a little less; 0.07 of 100 is 7."""
    assert Limit("concurrency", 10, None).floor(0.3) == 3
    assert Limit("concurrency", 100, None).share(0.07).capacity == 7
    assert Limit("requests", 60, 60.0, 10.0).share(0.3)[:2] == (3, 10_000_000)


@settings(deadline=None)
@given(st.fractions(0, 1000), st.integers(1, 10**6))
def test_below_is_the_nearest_fraction_that_is_not_above(exact: Fraction, largest: int) -> None:
    """No fraction with so small a denominator lies between the result and the exact number."""
    found = below(exact, largest)
    assert found <= exact
    assert found.denominator <= largest
    near = exact.limit_denominator(largest)
    assert not found < near <= exact


def test_priority_is_exported() -> None:
    """`from limiter import Priority` is all that a caller needs."""
    assert limiter.Priority is Priority
