"""What is told of a quota: what the store says it is, and its levels and line at one moment.

Values only, read from the store's answers: nothing here asks for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from limiter.core import definition
from limiter.core.definition import Definition
from limiter.core.layout import Reply
from limiter.core.ops import Found
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota


@dataclass(frozen=True, slots=True)
class Declaration:
    """Hold what the store says a quota is.

    Attributes:
        quota: as a caller would write it, with the priorities of its whole group.
        central: it was declared with `set_quota`, so it wins over what programs declare.
    """

    quota: Quota
    central: bool

    @classmethod
    def of(cls, unit: str, found: Found | None) -> list[Declaration]:
        """Read the quotas of a unit; none where nothing is declared.

        Raises:
            ConfigError: a newer release, or something else, wrote what is there.
        """
        if found is None:
            return []
        version, text, origin = found
        agreed = definition.read(unit, version, text)
        return [cls(agreed.quota(name), origin == "central") for name in agreed.quotas]


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """Hold one limit and what is left of it; a negative level is a debt."""

    limit: Limit
    level: int


@dataclass(frozen=True, slots=True)
class PriorityStatus:
    """Hold one priority's policy, how many of its tickets wait, and for how long.

    Attributes:
        wait_s: how long the smallest call would wait behind them at most, by what is known now;
            0.0: nobody waits.
    """

    priority: Priority
    waiting: int
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """Hold a quota's state at one moment.

    Attributes:
        name: the quota's name.
        limits: by label, as `tokens/minute`; of a group's quota, its own ones.
        waiting: tickets in the line; in a group, of all its quotas.
        held: reservations not yet settled; in a group, of all its quotas.
        next_s: seconds until the next ticket fits; None: nobody waits, or only the end of
            another call can help.
        priorities: by name, first those that go first.
    """

    name: str
    limits: dict[str, LimitStatus]
    waiting: int
    held: int
    next_s: float | None
    priorities: dict[str, PriorityStatus] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, definition: Definition, reply: Reply) -> QuotaStatus:
        """Read it from the answer to an observation, which ends with a survey."""
        quotas = (name,) if name in definition.quotas else ()
        limits = {
            label: LimitStatus(definition.limits[i], reply.levels[i])
            for i, label in zip(*definition.labels_of(quotas), strict=True)
        }
        next_s = reply.next_us / 1e6 if reply.next_us >= 0 else None
        waits = reply.results[-1].levels
        return cls(name, limits, reply.waiting, reply.held, next_s, _priorities(definition, waits))


def _priorities(definition: Definition, waits: tuple[int, ...]) -> dict[str, PriorityStatus]:
    found = [
        PriorityStatus(policy.priority, waiting, wait_us / 1e6)
        for policy, waiting, wait_us in zip(
            definition.priorities, waits[::2], waits[1::2], strict=True
        )
        if waiting or not policy.retired
    ]
    found.sort(key=lambda each: -each.priority.level)
    return {each.priority.name: each for each in found}
