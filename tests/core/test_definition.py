"""Definitions: what stands in the store says what was declared, and places never move."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.core import definition
from limiter.core.definition import Definition
from limiter.core.exact import SCALED_MAX, decimal
from limiter.core.policy import UNSAID
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError
from tests.core import strategies


def agreed(*quotas: Quota) -> Definition:
    """Declare one after the other in their unit."""
    found: Definition | None = None
    for version, quota in enumerate(quotas, 1):
        text = definition.write(quota, found)
        found = definition.read(quota.unit, str(version), text)
    assert found is not None
    return found


GROUP = agreed(
    Quota("b", rpm=20, tpm=1_000, group="acme", tenants={"x": 3, "y": 0.5}, models=["b-*"]),
    Quota("a", rpm=10, concurrency=4, group="acme", tenants={"x": 2}, models=["a-*"],
          tenant_limits=[Limit("images", 5)], priorities=[Priority("batch", -1, floor=0.5)]),
)  # fmt: skip


# --- round trips -------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.sampled_from([None, "acme"]).flatmap(lambda group: strategies.quotas("q", group)))
def test_what_is_written_can_be_read(quota: Quota) -> None:
    """A definition gives back each quota as it was declared, and writing it again changes nothing."""
    found = agreed(quota)
    back = found.quota("q")
    assert (back.limits, back.tenant_limits) == (quota.limits, quota.tenant_limits)
    assert (back.models, back.tenants, back.group) == (quota.models, quota.tenants, quota.group)
    plain = {Priority("default")}
    assert {*back.priorities} | plain == {*quota.priorities} | plain
    assert definition.write(back) == definition.write(back, found) == found.text
    assert definition.read(found.name, "1", found.text) == found
    assert hash(definition.read(found.name, "1", found.text)) == hash(found)


@settings(deadline=None)
@given(strategies.quotas())
def test_a_script_finds_integers(quota: Quota) -> None:
    """What a script calculates with is an integer below 2^53; what it reads is never null."""
    data = json.loads(agreed(quota).text)
    numbers = ("dim", "num", "den", "capacity", "ceiling", "level", "strict", "max_waiting",
               "promote_us", "lend_us", "timeout_us")  # fmt: skip
    rows = [*data["limits"], *data["own"], *data["priorities"]]
    rows += [share for each in data["priorities"] for share in each["shares"] or []]
    read = [row[key] for row in rows for key in numbers if key in row]
    read += [floor for each in data["priorities"] for floor in each["floors"] or []]
    assert all(type(number) is int and UNSAID * 1000 <= number < 2**53 for number in read)
    assert "null" not in json.dumps(data["priorities"])
    assert all(each["per"] or each["num"] == 0 for each in data["limits"])


def test_the_json_of_a_quota() -> None:
    """This is what the scripts read of a quota that has everything."""
    text = agreed(
        Quota("q", rpm=60, concurrency=4, burst=10.0, models=["m"], tenants={"x": 2},
              tenant_limits=[Limit("tokens", 600, burst=1.0)],
              priorities=[Priority("batch", -5, 0.5, 0.25, strict=True, max_waiting=9, timeout=1.5,
                                   promote_after_s=30, lend_after_s=2)])
    ).text  # fmt: skip
    requests = {"dim": 1, "num": 1000, "den": 10**9, "capacity": 10, "ceiling": 60, "amount": 60,
                "label": "requests/minute", "per": 60.0, "burst": 10.0, "headroom": 0.25,
                "quota": "q"}  # fmt: skip
    slots = requests | {"dim": 2, "num": 0, "den": 1, "capacity": 4, "ceiling": 4, "amount": 4,
                        "label": "concurrency", "per": None, "burst": "full"}  # fmt: skip
    tokens = requests | {"dim": 3, "num": 1000, "den": 10**8, "ceiling": 600, "amount": 600,
                         "label": "tokens/minute", "burst": 1.0}  # fmt: skip
    default = {"name": "default", "level": 0, "strict": 0, "max_waiting": -1, "promote_us": 0,
               "lend_us": 10_000_000, "timeout_us": -1, "floor": 0.0, "share": -1, "floors": False,
               "shares": False, "retired": False}  # fmt: skip
    batch = {"name": "batch", "level": -5, "strict": 1, "max_waiting": 9, "promote_us": 30_000_000,
             "lend_us": 2_000_000, "timeout_us": 1_500_000, "floor": 0.5, "share": 0.25,
             "floors": [5, 2], "retired": False,
             "shares": [{"num": 1, "den": 4_000_000, "capacity": 2},
                        {"num": 0, "den": 1, "capacity": 1}]}  # fmt: skip
    assert json.loads(text) == {
        "group": False, "dims": ["requests", "concurrency", "tokens"], "limits": [requests, slots],
        "own": [tokens | {"headroom": 0.25}], "priorities": [default, batch],
        "quotas": {"q": {"models": ["m"], "tenants": {"x": 2.0}}},
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"dims":[],"limits":[],"models":[]}',
     GROUP.text.replace('"dim":1', '"dim":99'), GROUP.text.replace('"amount":20', '"amount":0'),
     GROUP.text.replace('"quotas":{', '"quotas":[],"_":{'),
     GROUP.text.replace('"name":"batch"', '"name":"?"')],
)  # fmt: skip
def test_what_is_no_definition_is_refused(text: str) -> None:
    """Whatever else stands in the key ends in one message, which says what to do."""
    assert text != GROUP.text
    with pytest.raises(
        ConfigError, match=r"definition of 'acme' in the store cannot be read.*anew"
    ):
        definition.read("acme", "1", text)


def test_a_cost_of_before_counts_when_the_limits_are_known() -> None:
    """Calls that wait while limits are learned are charged by them: their costs know all of it."""
    before = agreed(Quota("q"))
    told = [Limit("requests", 500), Limit("tokens", 30_000)]
    after = definition.read("q", "2", definition.learn(before, "q", told))
    asked = {"tokens": 300}
    assert before.cost(asked)[: len(after.dims)] == after.cost(asked)
    assert [after.cost(asked)[place] for place in after.places] == [1, 300]


# --- places ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(strategies.quotas(), min_size=2, max_size=4))
def test_places_never_move(history: list[Quota]) -> None:
    """Over any redeclarations dims and priorities keep their index; `default` is the first one."""
    before = agreed(history[0])
    for step in range(2, len(history) + 1):
        after = agreed(*history[:step])
        assert after.dims[: len(before.dims)] == before.dims
        names = [policy.name for policy in after.priorities]
        assert names[: len(before.priorities)] == [policy.name for policy in before.priorities]
        assert len(set(names)) == len(names)
        assert names[0] == "default"
        before = after
    told = next((quota for quota in reversed(history) if quota.priorities), history[0])
    declared = {priority.name for priority in told.priorities} | {"default"}
    assert {p.name for p in before.priorities if not p.retired} == declared
    assert set(before.limits) == set(history[-1].limits)


def test_a_priority_that_nobody_declares_is_retired() -> None:
    """It stays with its last policy over the new limits, is not known, and can come back."""
    batch = Priority("batch", -5, floor=0.5)
    gone = agreed(
        Quota("q", rpm=60, burst=10.0, priorities=[batch]),
        Quota("q", tpm=60, burst=20.0, priorities=[Priority("default")]),
    )
    policy = gone.priorities[1]
    assert (policy.priority, policy.retired, policy.floors) == (batch, True, (10,))
    assert gone.quota("q").priorities == ()
    with pytest.raises(
        ConfigError, match=r"'batch' of the quota 'q' is not declared.*is 'default'"
    ):
        gone.priority_index("batch")
    text = definition.write(Quota("q", rpm=60, priorities=[Priority("chat"), batch]), gone)
    back = definition.read("q", "3", text)
    assert [back.priority_index(name) for name in ("default", "batch", "chat")] == [0, 1, 2]


def test_default_has_the_policy_that_was_declared_last() -> None:
    """`default` is the first, whatever its place in a declaration, and plain when left out."""
    mine = Priority("default", 7)
    named = agreed(Quota("q", rpm=5, priorities=[Priority("batch"), mine]))
    assert named.priorities[0].priority == mine
    text = definition.write(Quota("q", rpm=5, priorities=[Priority("batch")]), named)
    assert definition.read("q", "2", text).priorities[0].priority == Priority("default")


def test_an_unknown_priority_is_answered_with_those_there_are() -> None:
    """The message lists what is declared, and says how to declare the one that is missing."""
    with pytest.raises(ConfigError) as caught:
        GROUP.priority_index("chat")
    assert str(caught.value) == (
        "The priority 'chat' of the group 'acme' is not declared; there are 'default', 'batch'. "
        "Declare it with priorities=[Priority('chat')], or as [quotas.a.priorities.chat] in "
        "limiter.toml."
    )


# --- policies ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(strategies.quotas())
def test_floors_and_shares_are_never_above_their_part(quota: Quota) -> None:
    """Each floor and each share is at most its exact part of the limit, one for each limit."""
    for policy in agreed(quota).priorities:
        floor, part = decimal(policy.priority.floor), policy.priority.share
        assert (policy.floors is None) == (floor == 0)
        assert (policy.shares is None) == (part is None)
        for limit, units in zip(
            quota.limits, policy.floors or (), strict=policy.floors is not None
        ):
            assert units <= limit.capacity * floor < units + 1
        for limit, share in zip(
            quota.limits, policy.shares or (), strict=policy.shares is not None
        ):
            assert Fraction(share.num, share.den) <= limit.rate * decimal(part)
            assert share.capacity <= max(limit.per is None, limit.capacity * decimal(part))
            assert share.den * max(limit.ceiling, share.capacity) <= SCALED_MAX


@given(strategies.rates)
def test_a_rate_has_steps(limit: Limit) -> None:
    """The scripts' numbers are the exact rate, in a thousand steps as far as a debt stays exact."""
    num, den = limit.scaled
    assert Fraction(num, den) == limit.rate
    assert limit.ceiling * den <= SCALED_MAX
    assert num >= 1000 or limit.ceiling * den * 2 > SCALED_MAX // 1024


# --- groups ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    strategies.quotas("a", "acme"), strategies.quotas("b", "acme"), strategies.quotas("b", "acme")
)
def test_a_declaration_in_a_group_leaves_the_others_alone(a: Quota, old: Quota, new: Quota) -> None:
    """Only the declared quota is replaced; priorities stay, and the newest of a name counts."""
    found = agreed(a, old, new)
    assert found.quotas == ("a", "b")
    for quota in (a, new):
        back = found.quota(quota.name)
        assert (back.limits, back.tenant_limits) == (quota.limits, quota.tenant_limits)
        assert (back.models, back.tenants) == (quota.models, quota.tenants)
    newest = {p.name: p for quota in (a, old, new) for p in quota.priorities}
    newest.setdefault("default", Priority("default"))
    assert {p.name: p.priority for p in found.priorities if not p.retired} == newest


@settings(deadline=None)
@given(strategies.quotas("a", "acme"), strategies.quotas("b", "acme"))
def test_members_declare_in_any_order(a: Quota, b: Quota) -> None:
    """Whoever comes first, the limits of a group are the same and in the same order."""
    one, other = agreed(a, b), agreed(b, a)
    assert (one.labels, one.limits) == (other.labels, other.limits)
    assert (one.own_labels, one.own) == (other.own_labels, other.own)
    for each in (one, other):
        named = [each.dims[place] for place in (*each.places, *each.own_places)]
        rows = json.loads(each.text)
        assert named == [each.dims[row["dim"] - 1] for row in (*rows["limits"], *rows["own"])]


def test_a_group_names_things_by_quota() -> None:
    """Dims, labels and places of a group tell whose they are; limits are as their quota has them."""
    assert GROUP.dims == ("b/requests", "b/tokens", "a/requests", "a/concurrency", "a/images")
    assert GROUP.labels == ("a: requests/minute", "a: concurrency", "b: requests/minute",
                            "b: tokens/minute")  # fmt: skip
    assert GROUP.places == (2, 3, 0, 1)
    assert (GROUP.own_labels, GROUP.own_places) == (("a: images/minute",), (4,))
    assert [limit.dimension for limit in GROUP.limits] == [
        "requests", "concurrency", "requests", "tokens",
    ]  # fmt: skip
    assert GROUP.priorities[1].floors == (4, 2, 9, 497)
    assert GROUP.models == ("a-*", "b-*")


def test_a_name_that_changes_its_kind_starts_anew() -> None:
    """A quota that becomes a group keeps nothing but the places, and the other way round."""
    alone = Quota("acme", rpm=5, priorities=[Priority("batch")])
    changed = agreed(alone, Quota("a", rpm=5, group="acme"))
    assert changed.grouped
    assert changed.quotas == ("a",)
    assert changed.dims == ("requests", "a/requests")
    assert changed.priorities[1].retired
    text = definition.write(Quota("b", rpm=5, group="acme"), changed)
    assert definition.read("acme", "3", text).priorities[1].retired
    back = agreed(Quota("a", rpm=5, group="acme"), alone)
    assert (back.quotas, back.labels) == (("acme",), ("requests/minute",))


# --- costs -------------------------------------------------------------------------------------


def test_a_call_is_one_request_unless_it_says() -> None:
    """A quota orders amounts by dim, with defaults; what it does not limit is left out."""
    found = agreed(Quota("q", rpm=5, tpm=5, concurrency=5))
    assert found.cost({"tokens": 7, "images": 3}) == found.cost({"tokens": 7}, ["q"]) == (1, 7, 1)
    assert found.actual({"tokens": 7}) == found.actual({"tokens": 7}, ["q"]) == (-1, 7, -1)
    assert found.by_name((1, 7, 0)) == {"requests": 1, "tokens": 7}
    assert found.route(["q"]) == ""
    assert found.labels_of(["q"]) == ((0, 1, 2), found.labels)


def test_in_a_group_amounts_count_for_the_quotas_that_are_named() -> None:
    """Each named quota takes the amount, with its defaults; the others take nothing."""
    given, used = {"tokens": 7, "images": 2}, {"requests": 3}
    assert GROUP.cost(given, ["a"]) == (0, 0, 1, 1, 2)
    assert GROUP.cost(given, ["b"]) == (1, 7, 0, 0, 0)
    assert GROUP.cost(given, ["b", "a"]) == GROUP.cost(given) == (1, 7, 1, 1, 2)
    assert GROUP.actual(used, ["a"]) == (-1, -1, 3, -1, -1)
    assert GROUP.actual(used, ["a", "b"]) == (3, -1, 3, -1, -1)
    assert GROUP.by_name((1, 7, 1, 0, 0)) == {"requests": 1, "tokens": 7}


def test_a_route_is_the_set_of_quotas() -> None:
    """Calls on the same quotas take the same route, in whatever order they name them."""
    assert GROUP.route(["b", "a", "b"]) == GROUP.route(("a", "b")) == GROUP.route() == "a\nb"
    assert GROUP.route(["b"]) == "b"


def test_labels_are_plain_where_they_are_clear() -> None:
    """One quota's limits go by their plain labels; those of several say whose they are."""
    assert GROUP.labels_of(["b"]) == ((2, 3), ("requests/minute", "tokens/minute"))
    assert GROUP.labels_of(["a", "b"]) == ((0, 1, 2, 3), GROUP.labels)


def test_a_tenant_weighs_what_the_first_quota_says_that_knows_it() -> None:
    """Weights are hundredths; a tenant that nobody names weighs 100."""
    assert [GROUP.weight(["a", "b"], tenant) for tenant in "xyz"] == [200, 50, 100]
    assert [GROUP.weight(["b", "a"], tenant) for tenant in "xyz"] == [300, 50, 100]
    assert GROUP.weight(["a"], "y") == GROUP.weight(["?"], "x") == 100
    assert agreed(Quota("q", rpm=5, tenants={"x": 0.01})).weight(["q"], "x") == 1


@pytest.mark.parametrize("ask", ["cost", "actual", "route", "labels_of", "quota"])
def test_a_quota_that_is_not_in_the_group_is_named(ask: str) -> None:
    """Nobody calls for free by naming a quota that the group does not have."""
    given = [{}, ["c"]] if ask in ("cost", "actual") else ["c"] if ask == "quota" else [["c"]]
    with pytest.raises(
        ConfigError, match=r"'c' does not belong to the group 'acme'; there are 'a'"
    ):
        getattr(GROUP, ask)(*given)
