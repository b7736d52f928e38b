"""What stands in Redis for one unit, and the arrays that costs become under it.

Pure. A unit is what has one line and one state: a quota, or a group of quotas. Its definition is
JSON; its `dims` and `priorities` only ever grow, so that an array of costs or the index of a
priority that was stored under an older definition still means the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, NamedTuple

from limiter.core import placed
from limiter.core.placed import read_limit, write_limit
from limiter.core.policy import Policy
from limiter.core.priority import DEFAULT, EVEN, Priority, hundredths
from limiter.core.quota import PROBE, Limit, Quota
from limiter.errors import ConfigError

_DEFAULT_COST = {"requests": 1, "concurrency": 1}
# What providers limit, and calls are estimated in. A quota that learns counts it from the beginning:
# calls that wait while its limits are learned must have a cost in what these turn out to be in.
LEARNABLE = ["requests", "tokens", "input_tokens", "output_tokens"]
_NOBODYS = "\0"  # is the name of no dimension, so nobody gives an amount for it
_PLAIN = Priority(DEFAULT)


class View(NamedTuple):
    """How a unit looks to calls that name some of its quotas."""

    route: str
    keys: tuple[str, ...]  # per dim: what a caller calls it
    defaults: tuple[int, ...]  # per dim: what a call costs that says nothing
    indexes: tuple[int, ...]  # of the limits to show
    labels: tuple[str, ...]  # of these


@dataclass(frozen=True, slots=True)
class Definition:
    """Hold what one version of a unit says.

    Attributes:
        name: the unit's: of the quota, or of the group.
        dims: `tokens`; in a group `quota/tokens`.
        members: the quotas, in the order of their names, with the limits that hold: those declared,
            or less where the provider told less.
        declared: the same, as they were declared.
        priorities: by index.
        patience_s: how long a call waits that does not say it, by priority; None: for ever.
        limits, own: of all quotas in the order of every list of levels, and what each tenant has
            for itself; `labels` and `places` (indexes into `dims`) are in the same order.

    Methods that take `quotas` are asked for calls that name these; none named: all of the unit.
    """

    name: str
    version: str
    grouped: bool
    dims: tuple[str, ...]
    members: tuple[Quota, ...]
    declared: tuple[Quota, ...]
    priorities: tuple[Policy, ...]
    text: str
    limits: tuple[Limit, ...] = field(init=False)
    labels: tuple[str, ...] = field(init=False)
    places: tuple[int, ...] = field(init=False)
    own: tuple[Limit, ...] = field(init=False)
    own_labels: tuple[str, ...] = field(init=False)
    own_places: tuple[int, ...] = field(init=False)
    quotas: tuple[str, ...] = field(init=False)
    _defaults: tuple[int, ...] = field(init=False)
    patience_s: dict[str, float | None] = field(init=False, compare=False, repr=False)
    _indexes: dict[str, int] = field(init=False, compare=False, repr=False)
    _weights: dict[str, dict[str, int]] = field(init=False, compare=False, repr=False)
    _views: dict[tuple[str, ...], View] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        keep = object.__setattr__
        rows, own = placed.shared(self.members), placed.own(self.members)
        keep(self, "limits", tuple(row.limit for row in rows))
        keep(self, "labels", tuple(row.label for row in rows))
        keep(self, "places", tuple(self.dims.index(row.dim) for row in rows))
        keep(self, "own", tuple(row.limit for row in own))
        keep(self, "own_labels", tuple(row.label for row in own))
        keep(self, "own_places", tuple(self.dims.index(row.dim) for row in own))
        keep(self, "quotas", tuple(quota.name for quota in self.members))
        keep(self, "_defaults", tuple(_DEFAULT_COST.get(dim, 0) for dim in self.dims))
        live = {p.name: index for index, p in enumerate(self.priorities) if not p.retired}
        keep(self, "_indexes", live)
        keep(self, "patience_s", {name: self.priorities[at].priority.timeout
                                  for name, at in live.items()})  # fmt: skip
        keep(self, "_weights", {quota.name: _weights(quota) for quota in self.members})
        keep(self, "_views", {})

    def as_declared(self, name: str) -> Quota:
        """Return a quota as somebody declared it, whatever the provider told since."""
        return self.declared[self.quotas.index(name)]

    @property
    def models(self) -> tuple[str, ...]:
        """Return the patterns of models of all quotas."""
        return tuple(model for quota in self.members for model in quota.models)

    def quota(self, name: str) -> Quota:
        """Return a quota as a caller would write it, with the priorities of its whole group.

        Raises:
            ConfigError: the unit has no such quota.
        """
        for quota in self.members:
            if quota.name == name:
                return quota
        raise self._unknown(name)

    def cost(self, given: Mapping[str, int], quotas: Sequence[str] = ()) -> tuple[int, ...]:
        """Order a cost by dimension; a call is one request and takes one slot unless it says.

        In a group it counts for each of `quotas`, and not for the others. Dimensions that there is
        no limit for are left out: an estimate may know more than a quota limits.

        Raises:
            ConfigError: the group has no quota of such a name.
        """
        if not self.grouped:
            return tuple(map(given.get, self.dims, self._defaults))
        view = self._view(quotas)
        return tuple(map(given.get, view.keys, view.defaults))

    def actual(self, given: Mapping[str, int], quotas: Sequence[str] = ()) -> tuple[int, ...]:
        """Order what was used; −1 (the estimate stands) where nothing is said."""
        dims = self._view(quotas).keys if self.grouped else self.dims
        return tuple(map(given.get, dims, repeat(-1)))

    def by_name(self, cost: Sequence[int]) -> dict[str, int]:
        """Undo `cost`, for messages and for `Reservation.estimate`."""
        amounts: dict[str, int] = {}
        for dim, amount in zip(self.dims, cost, strict=False):
            if amount:
                # In a group the same amount stands once for each quota that was named.
                amounts[dim.rpartition("/")[2]] = amount
        return amounts

    def route(self, quotas: Sequence[str] = ()) -> str:
        """Name the line of calls that take from just these quotas; "" where there is but one.

        Raises:
            ConfigError: the group has no quota of such a name.
        """
        return self._view(quotas).route if self.grouped else ""

    def weight(self, quotas: Sequence[str], tenant: str) -> int:
        """Return a tenant's weight in hundredths: what the first quota says that knows it."""
        for name in (self.grouped and quotas) or self.quotas:
            found = self._weights.get(name, {}).get(tenant)
            if found is not None:
                return found
        return EVEN

    def labels_of(self, quotas: Sequence[str] = ()) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Return which limits to show to calls on these quotas, and how to call them.

        A label is plain (`tokens/minute`) where only one quota is looked at.
        """
        if not self.grouped:
            return tuple(range(len(self.limits))), self.labels
        view = self._view(quotas)
        return view.indexes, view.labels

    def priority_index(self, name: str) -> int:
        """Return a priority's index.

        Raises:
            ConfigError: nobody declares it.
        """
        index = self._indexes.get(name)
        if index is None:
            raise ConfigError(
                f"The priority {name!r:.60} of {self._called()} is not declared; there "
                f"{_are(self._indexes)}. Declare it with priorities=[Priority({name!r:.60})], or as "
                f"[quotas.{self.quotas[0]}.priorities.{name:.60}] in limiter.toml."
            )
        return index

    def place_of(self, priority: str) -> int:
        """Return the index of a priority, also of one that is retired; of `default` for others.

        Whoever asked under it when it was declared is served to the end.
        """
        return next((i for i, p in enumerate(self.priorities) if p.name == priority), 0)

    def _view(self, quotas: Sequence[str]) -> View:
        names = tuple(quotas)  # of the few combinations that a program has
        view = self._views.get(names)
        if view is None:
            view = self._views[names] = self._look(names or self.quotas)
        return view

    def _look(self, names: tuple[str, ...]) -> View:
        for name in names:
            self.quota(name)
        split = [dim.rpartition("/") for dim in self.dims]
        rows = [(i, r) for i, r in enumerate(placed.shared(self.members)) if r.quota in names]
        alone = len(set(names)) == 1
        return View(
            "\n".join(sorted(set(names))),
            tuple(plain if quota in names else _NOBODYS for quota, _, plain in split),
            tuple(_DEFAULT_COST.get(d, 0) if q in names else 0 for q, _, d in split),
            tuple(i for i, _ in rows),
            tuple(row.limit.label if alone else row.label for _, row in rows),
        )

    def _called(self) -> str:
        return f"the {'group' if self.grouped else 'quota'} {self.name!r}"

    def _unknown(self, name: str) -> ConfigError:
        return ConfigError(
            f"The quota {name!r:.60} does not belong to {self._called()}; there {_are(self.quotas)}. "
            f"Declare it with Quota({name!r:.60}, group={self.name!r}, …)."
        )


def _are(names: Iterable[str]) -> str:
    listed = ", ".join(repr(name) for name in names)
    return f"{'are' if ',' in listed else 'is'} {listed}"


def _weights(quota: Quota) -> dict[str, int]:
    return {tenant: hundredths(weight) for tenant, weight in quota.tenants.items()}


def write(quota: Quota, before: Definition | None = None) -> str:
    """Write a quota into the JSON of its unit, keeping the place of everything that was there.

    In a group, the other quotas stay as they are, and so do priorities that this quota does not
    declare. A unit that was a quota and becomes a group, or the other way round, starts anew.

    Raises:
        ConfigError: a priority's share of a limit is too small to be counted.
    """
    grouped = quota.group is not None
    stay = before if before is not None and grouped and before.grouped else None
    # A declaration that says nothing of priorities leaves those that others declared.
    silent = before is not None and before.grouped == grouped and not quota.priorities
    named = {each.name: each for each in stay.declared} if stay else {}
    named[quota.name] = quota
    declared = [named[name] for name in sorted(named)]
    members = [_in_force(each, before) for each in declared]
    merged = _merged(quota, before, stays=stay is not None or silent)
    return _written(declared, members, before, merged)


def _written(
    declared: Sequence[Quota], members: Sequence[Quota], before: Definition | None,
    merged: Iterable[tuple[Priority, bool]],
) -> str:  # fmt: skip
    rows, own = placed.shared(members), placed.own(members)
    named = [*(before.dims if before else ()), *(row.dim for row in (*rows, *own))]
    dims = list(dict.fromkeys(named + LEARNABLE * any(each.learns for each in declared)))
    limits = [row.limit for row in rows]
    policies = [Policy.of(priority, limits, retired=retired) for priority, retired in merged]
    definition = {
        "group": declared[0].group is not None,
        "dims": dims,
        "limits": [write_limit(row, dims) for row in rows],
        "own": [write_limit(row, dims) for row in own],
        "priorities": [policy.written() for policy in policies],
        "quotas": {
            each.name: {"models": each.models, "tenants": dict(each.tenants), **_told(each, now)}
            for each, now in zip(declared, members, strict=True)
        },
    }
    return json.dumps(definition, separators=(",", ":"), sort_keys=True)


def _told(declared: Quota, in_force: Quota) -> dict[str, Any]:
    """Write that limits come from the provider, where they do."""
    if declared.learns:
        return {"learns": True}
    lowered = _lowered(declared, in_force)
    return {"declared": lowered} if lowered else {}


def _lowered(declared: Quota, in_force: Quota) -> dict[str, int]:
    """Return the declared amounts of limits of which the provider told less."""
    if declared.learns:
        return {}
    now = {limit.label: limit.amount for limit in in_force.limits}
    return {each.label: each.amount for each in declared.limits if now[each.label] < each.amount}


def _in_force(quota: Quota, before: Definition | None) -> Quota:
    """Return a quota with what the provider told of its limits before."""
    if before is None or quota.name not in before.quotas:
        return quota
    known, declared = before.quota(quota.name), before.as_declared(quota.name)
    if quota.learns:
        return quota.limited_by(known.limits) if declared.learns else quota
    told = {
        each.label: each.amount for each in known.limits if each.label in _lowered(declared, known)
    }
    return _capped(quota, told)


def _capped(quota: Quota, told: Mapping[str, int]) -> Quota:
    return quota.limited_by([
        replace(each, amount=min(each.amount, told.get(each.label, each.amount)))
        for each in quota.limits
    ])  # fmt: skip


def learn(before: Definition, name: str, told: Iterable[Limit]) -> str:
    """Write what the provider told of a quota's limits.

    A quota that learns takes them over; one that was declared with numbers takes what is less than
    those, for as long as it is told.
    """
    quota, told = before.as_declared(name), tuple(told)
    if quota.learns:
        known = {each.label: each for each in before.quota(name).limits if each != PROBE}
        quota = quota.limited_by(tuple((known | {each.label: each for each in told}).values()))
    else:
        now = {each.label: each.amount for each in before.quota(name).limits}
        quota = _capped(quota, now | {each.label: each.amount for each in told})
    members = [quota if each.name == name else each for each in before.members]
    merged = [(each.priority, each.retired) for each in before.priorities]
    return _written(before.declared, members, before, merged)


def _merged(
    quota: Quota, before: Definition | None, *, stays: bool
) -> Iterable[tuple[Priority, bool]]:
    """Return every priority that there ever was, in its place, and whether it is retired."""
    policies = before.priorities if before else ()
    found = {each.name: (each.priority, each.retired or not stays) for each in policies}
    if not stays:
        found[DEFAULT] = (_PLAIN, False)
    found |= {priority.name: (priority, False) for priority in quota.priorities}
    return found.values()


def read(name: str, version: str, text: str) -> Definition:
    """Read a definition.

    Raises:
        ConfigError: it is none; the key was written by something else, or by a newer release.
    """
    try:
        return _read(name, version, text)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ConfigError) as exc:
        raise ConfigError(
            f"The definition of {name!r} in the store cannot be read: {text[:100]!r}. "
            "Declare it anew, or upgrade if a newer release wrote it."
        ) from exc


def _read(name: str, version: str, text: str) -> Definition:
    data = json.loads(text)
    if {each["quota"] for each in data["limits"]} != {*data["quotas"]}:
        raise ValueError("a limit of no quota, or a quota without one")
    limits = [read_limit(each, data["dims"]) for each in data["limits"]]
    policies = tuple(Policy.read(each, limits) for each in data["priorities"])
    live = [p.priority for p in policies if not p.retired and p.priority != _PLAIN]
    members = tuple(_read_quota(each, name, live, data) for each in sorted(data["quotas"]))
    declared = tuple(_as_declared(each, data["quotas"][each.name]) for each in members)
    return Definition(
        name, version, data["group"], tuple(data["dims"]), members, declared, policies, text
    )


def _as_declared(quota: Quota, part: Mapping[str, Any]) -> Quota:
    if quota.learns:
        return quota.limited_by([PROBE])
    amounts = part.get("declared", {})
    return quota.limited_by(
        [replace(each, amount=amounts.get(each.label, each.amount)) for each in quota.limits]
    )


def _read_quota(name: str, unit: str, priorities: list[Priority], data: dict[str, Any]) -> Quota:
    part, dims = data["quotas"][name], data["dims"]
    limits = [read_limit(each, dims) for each in data["limits"] if each["quota"] == name]
    quota = Quota(
        name,
        limits=[] if part.get("learns") else limits,
        models=part["models"],
        priorities=priorities,
        tenants=part["tenants"],
        tenant_limits=[read_limit(each, dims) for each in data["own"] if each["quota"] == name],
        group=unit if data["group"] else None,
    )
    return quota.limited_by(limits)
