"""Which quotas take their numbers from which models of a project: the plan of `quota sync`. Pure.

A model belongs to the quota that a call of it would be counted on. What a quota is otherwise
(policies, tenants, group, burst) is never changed here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from limiter.core.quota import Quota
from limiter.errors import ConfigError
from limiter.providers import route
from limiter.providers.project_limits import Granted, ModelLimits, renumbered, smallest
from limiter.status import Declaration

NO_QUOTA = "no quota is for it"
NO_NUMBER = "the project limits neither its requests nor its tokens or images"


@dataclass(frozen=True, slots=True)
class Change:
    """Say what one quota is to be.

    Attributes:
        quota: with the project's numbers.
        before: what the store has; None: nothing.
        models: of the project, that belong to it. None at all: it is declared because another
            quota of its group is.
        granted: its numbers, each with the model that it is of.
        is_due: the store has something else, or has it from a program only.
    """

    quota: Quota
    before: Quota | None
    models: tuple[str, ...]
    granted: tuple[Granted, ...]
    is_due: bool


class LeftOut(NamedTuple):
    """Say why a model's limits are not declared; `is_failure`: somebody has to do something."""

    model: str
    why: str
    is_failure: bool


class Plan(NamedTuple):
    """Hold what is to be done, by the names of quotas, and what is not."""

    changes: tuple[Change, ...]
    left_out: tuple[LeftOut, ...]


class Known:
    """Hold the quotas that there are already, in the store or in a `limiter.toml`.

    What was declared centrally says what a quota is; else what the file says, else what programs
    declared.
    """

    def __init__(self, file: Mapping[str, Quota], declared: Iterable[Declaration]) -> None:
        stored = defaultdict(list)
        for each in declared:
            name = each.quota.name
            if name not in file or file[name].unit == each.quota.unit:
                stored[name].append(each)
        self.units = {name: [each.quota.unit for each in found] for name, found in stored.items()}
        self.stored = {name: found[0] for name, found in stored.items()}
        self._file = file
        # Of two patterns that cover a model equally well the first counts, as it does for a call.
        names = dict.fromkeys([*file, *sorted(stored)])
        self.quotas: dict[str, Quota] = {name: self._quota(name) for name in names}

    def _quota(self, name: str) -> Quota:
        stored = self.stored.get(name)
        if stored is not None and (stored.central or name not in self._file):
            return stored.quota
        return self._file[name]

    def change(self, name: str, models: Sequence[ModelLimits]) -> Change:
        """Say what the quota of this name is to be, with the numbers of its models.

        Raises:
            ConfigError: the numbers do not go with it, or it is not clear which quota is meant.
        """
        if len(self.units.get(name, ())) > 1:
            raise ConfigError(
                f"the quota {name!r:.60} is there in the units {', '.join(self.units[name])}: say "
                "in a limiter.toml which group it is of"
            )
        granted = smallest(models)
        limits = [each.limit for each in granted]
        known = self.quotas.get(name)
        quota = Quota(name, limits=limits) if known is None else renumbered(known, limits)
        stored = self.stored.get(name)
        is_due = stored != Declaration(quota, central=True)
        before = stored.quota if stored else None
        return Change(quota, before, tuple(each.model for each in models), granted, is_due)

    def companions(self, changes: Collection[Change]) -> Iterator[Change]:
        """Yield what else the file says of the groups that are to be declared.

        A group is declared centrally as a whole: from then on it takes nothing from programs,
        neither a quota that is missing nor another pattern of models.
        """
        groups = {each.quota.group for each in changes if each.is_due} - {None}
        planned = {each.quota.name for each in changes}
        for name, quota in self._file.items():
            stored = self.stored.get(name)
            is_there = stored is not None and (stored.central or stored.quota == quota)
            if quota.group in groups and name not in planned and not is_there:
                yield Change(quota, stored.quota if stored else None, (), (), is_due=True)


def plan(
    project: Iterable[ModelLimits],
    known: Known,
    *,
    named: Collection[str] = (),
    everything: bool = False,
) -> Plan:
    """Match a project's models with quotas.

    Args:
        project: its list.
        known: the quotas that there are.
        named: only these models; those that no quota is for become quotas of their own.
        everything: all models that no quota is for become such quotas.

    Raises:
        ConfigError: a model that was named is not in the list.
    """
    listed = sorted(
        (each for each in project if not named or each.model in named),
        key=lambda each: each.model,
    )
    _check_named(named, {each.model for each in listed})
    left_out: list[LeftOut] = []
    members: dict[str, list[ModelLimits]] = defaultdict(list)
    for each in listed:
        name = route(each.model, known.quotas)
        if name is None and not (named or everything):
            left_out.append(LeftOut(each.model, NO_QUOTA, is_failure=False))
        elif not each.limits:
            left_out.append(LeftOut(each.model, NO_NUMBER, is_failure=bool(named)))
        else:
            members[name or each.model].append(each)
    changes: list[Change] = []
    for name, models in sorted(members.items()):
        try:
            changes.append(known.change(name, models))
        except ConfigError as exc:
            left_out += (LeftOut(each.model, str(exc), is_failure=True) for each in models)
    return Plan((*changes, *known.companions(changes)), tuple(left_out))


def _check_named(named: Iterable[str], listed: Collection[str]) -> None:
    for model in named:
        if model not in listed:
            raise ConfigError(
                f"The project has no limits for a model {model!r:.100}; without names, all models "
                "that it has are looked at."
            )
