"""Which quota takes its numbers from which model, by laws on values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.cli.matching import NO_NUMBER, NO_QUOTA, Change, Known, Plan, plan
from limiter.core import definition
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError
from limiter.providers.project_limits import ModelLimits
from limiter.status import Declaration

NAMES = ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-mini", "o3", "o3-pro", "dall-e"]


def limits(rpm: int, tpm: int | None = None) -> tuple[Limit, ...]:
    return (Limit("requests", rpm), *([Limit("tokens", tpm)] if tpm else []))


def model(name: str, rpm: int = 100, tpm: int | None = None) -> ModelLimits:
    return ModelLimits(name, limits(rpm, tpm))


def known(*quotas: Quota, stored: tuple[Quota, ...] = (), central: bool = False) -> Known:
    return Known({each.name: each for each in quotas}, [Declaration(q, central) for q in stored])


class Store:
    """Hold definitions as a store does: a text for each unit."""

    def __init__(self, quotas: list[Quota], origin: str) -> None:
        self.found: dict[str, tuple[str, str, str]] = {}
        for quota in quotas:
            self.declare(quota, origin)

    def declare(self, quota: Quota, origin: str = "central") -> None:
        known = self.found.get(quota.unit)
        before = definition.read(quota.unit, *known[:2]) if known else None
        self.found[quota.unit] = ("1", definition.write(quota, before), origin)

    def declared(self) -> list[Declaration]:
        return [each for unit in self.found for each in Declaration.of(unit, self.found[unit])]


def only(found: Plan) -> Change:
    (change,) = found.changes
    return change


projects = st.lists(
    st.builds(
        ModelLimits, st.sampled_from(NAMES), st.builds(limits, st.integers(1, 9), st.integers(0, 9))
    ),
    unique_by=lambda each: each.model,
)
policies = st.lists(
    st.builds(
        Quota,
        st.sampled_from(["gpt-4o", "o3", "shared", "spare"]),
        rpm=st.integers(1, 9),
        concurrency=st.none() | st.just(2),
        models=st.lists(st.sampled_from(["gpt-4o*", "o3*", "*"]), max_size=2),
        group=st.none() | st.sampled_from(["acme", "other"]),
    ),
    unique_by=lambda each: each.name,
)


@given(projects, policies, policies, st.sampled_from(["code", "central"]), st.booleans())
def test_done_once_nothing_is_left_to_do(
    project: list[ModelLimits], file: list[Quota], stored: list[Quota], origin: str, all_: bool
) -> None:
    """What a plan has declared is found by the next one, which then changes nothing."""
    by_name, store = {each.name: each for each in file}, Store(stored, origin)
    first = plan(project, Known(by_name, store.declared()), everything=all_)
    for change in first.changes:
        if change.is_due:
            store.declare(change.quota)
    second = plan(project, Known(by_name, store.declared()), everything=all_)
    assert not any(each.is_due for each in second.changes)
    assert second.left_out == first.left_out
    told = [(each.quota, each.models) for each in first.changes if each.models]
    assert [(each.quota, each.models) for each in second.changes] == told


@given(projects, policies)
def test_every_model_is_accounted_for_once(project: list[ModelLimits], file: list[Quota]) -> None:
    """Each model is of one quota, or left out with a reason; no quota is planned twice."""
    found = plan(project, known(*file))
    told = [name for each in found.changes for name in each.models]
    told += [each.model for each in found.left_out]
    assert sorted(told) == sorted(each.model for each in project)
    names = [each.quota.name for each in found.changes]
    assert len(names) == len({*names})
    assert {*names} <= {each.name for each in file}


def test_a_model_is_of_the_quota_that_its_calls_are_counted_on() -> None:
    """By the quota's name, by a pattern, and for a snapshot by the name of its model."""
    quotas = known(Quota("gpt-4o", rpm=1), Quota("small", rpm=1, models=["*-mini"]))
    found = plan([model("gpt-4o-mini", 7), model("gpt-4o-2024-08-06", 5)], quotas)
    assert [(c.quota.name, c.models, c.quota.limits[0].amount) for c in found.changes] == [
        ("gpt-4o", ("gpt-4o-2024-08-06",), 5), ("small", ("gpt-4o-mini",), 7)
    ]  # fmt: skip


def test_several_models_of_one_quota() -> None:
    """It gets the smallest number of each limit, with the model that it is of."""
    quotas = known(Quota("o3", rpm=1, models=["o3-pro"]))
    change = only(plan([model("o3-pro", 5, 900), model("o3", 7, 800)], quotas))
    assert change.models == ("o3", "o3-pro")
    assert change.granted == ((Limit("requests", 5), "o3-pro"), (Limit("tokens", 800), "o3"))
    assert [each.amount for each in change.quota.limits] == [5, 800]


def test_models_without_a_quota() -> None:
    """They are left out; named, or with all of them, each becomes a quota of its own name."""
    project = [model("o3", 5), model("o3-pro", 7)]
    assert plan(project, known()) == Plan((), (
        ("o3", NO_QUOTA, False), ("o3-pro", NO_QUOTA, False)
    ))  # fmt: skip
    assert only(plan(project, known(), named=["o3"])).quota == Quota("o3", rpm=5)
    every = plan(project, known(), everything=True)
    assert [c.quota for c in every.changes] == [Quota("o3", rpm=5), Quota("o3-pro", rpm=7)]
    assert all(c.is_due and c.before is None for c in every.changes)


def test_models_that_are_named_are_the_only_ones() -> None:
    """The others are not looked at, not even where they share a quota; a wrong name is an error."""
    quotas = known(Quota("o3", rpm=1, models=["o3-pro"]), Quota("dall-e", rpm=1))
    project = [model("o3", 7), model("o3-pro", 5), model("dall-e", 9)]
    change = only(plan(project, quotas, named=["o3"]))
    assert (change.quota.name, change.models, change.quota.limits[0].amount) == ("o3", ("o3",), 7)
    with pytest.raises(ConfigError, match="no limits for a model 'o4'"):
        plan(project, quotas, named=["o3", "o4"])


@pytest.mark.parametrize("named", [[], ["o3"]])
def test_a_model_without_a_number(named: list[str]) -> None:
    """Its quota stays as it is, which is a failure where it was asked for by name."""
    found = plan([ModelLimits("o3", ())], known(Quota("o3", rpm=1)), named=named)
    assert found == Plan((), (("o3", NO_NUMBER, bool(named)),))


def test_which_declaration_a_quota_is_taken_from() -> None:
    """A central one before the file's, the file's before a program's; limits of its own stay."""
    ours = Quota("o3", rpm=1, priorities=[Priority("file")], concurrency=3)
    theirs = Quota("o3", rpm=2, priorities=[Priority("store")])
    for central, expected in ((True, theirs), (False, ours)):
        change = only(plan([model("o3", 5)], known(ours, stored=(theirs,), central=central)))
        assert change.quota == replace(
            expected, limits=(Limit("requests", 5), *expected.limits[1:])
        )
        assert change.before == theirs
    assert only(plan([model("o3")], known(stored=(theirs,)))).quota.priorities == theirs.priorities


def test_the_same_numbers_are_declared_where_a_program_declared_them() -> None:
    """Only what was declared centrally is left as it is: a program's may be replaced by another's."""
    quota = Quota("o3", rpm=5)
    for central in (True, False):
        change = only(plan([model("o3", 5)], known(stored=(quota,), central=central)))
        assert change.is_due is not central


def test_a_quota_that_the_numbers_do_not_go_with() -> None:
    """It is left out, with what to mend, and the others are declared."""
    quotas = known(Quota("o3", rpm=1, burst=86_400.0), Quota("dall-e", rpm=1))
    found = plan([model("o3", 2**50), model("dall-e")], quotas)
    assert only(found).quota.name == "dall-e"
    ((name, why, is_failure),) = found.left_out
    assert (name, is_failure) == ("o3", True)
    assert "A burst of" in why


def test_one_name_in_several_groups() -> None:
    """It is not guessed which one is meant; a file that names the group decides."""
    stored = tuple(Quota("o3", rpm=1, group=group) for group in ("east", "west"))
    ((_, why, is_failure),) = plan([model("o3", 5)], known(stored=stored)).left_out
    assert is_failure
    assert "in the units east, west" in why
    change = only(plan([model("o3", 5)], known(stored[1], stored=stored)))
    assert change.quota == Quota("o3", rpm=5, group="west")
    assert change.before == stored[1]


def test_a_group_is_declared_with_all_that_the_file_has_in_it() -> None:
    """A group that was declared centrally takes nothing from programs: it must be as they need it."""
    org, o3 = Quota("org", tpm=9, group="acme"), Quota("o3", rpm=1, group="acme")
    other = Quota("elsewhere", rpm=1)
    found = plan([model("o3", 5)], known(org, o3, other))
    assert [(c.quota, c.models) for c in found.changes] == [
        (Quota("o3", rpm=5, group="acme"), ("o3",)), (org, ())
    ]  # fmt: skip
    assert len(plan([model("o3", 5)], known(org, o3, stored=(org,))).changes) == 1
    stale = replace(org, models=("gpt-*",))
    assert plan([model("o3", 5)], known(org, o3, stored=(stale,))).changes[1].before == stale
    unchanged = known(org, o3, stored=(Quota("o3", rpm=5, group="acme"),), central=True)
    assert not only(plan([model("o3", 5)], unchanged)).is_due
