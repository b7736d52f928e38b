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
    """Hold one limit and what is left of it; a negative level is a debt.

    Attributes:
        limit: as it is in force.
        level: what is left of it, by our count.
        declared: its amount as somebody declared it; None: it was learned from the provider.
        provider_level: what is left by the provider's last answer that told it, as a level of ours;
            None: none did.
        age_s: how old that answer is.
        drift: by how much the provider's level was above ours then, before ours was corrected.
        guard: how much is kept back for others who use the same limit.
        pace: at what part of its rate it is used, after calls were refused; 1.0: at all of it.
        slots: of a limit without a period: how many may be used at a time, as found out.
    """

    limit: Limit
    level: int
    declared: int | None = None
    provider_level: int | None = None
    age_s: float | None = None
    drift: int = 0
    guard: int = 0
    pace: float = 1.0
    slots: int | None = None

    @property
    def capacity(self) -> int:
        """Say how much may be used at once, as far as it is known."""
        return self.limit.capacity if self.slots is None else self.slots


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
        brake_s: for how long nobody starts a call, because the provider said so; 0.0: no brake.
        circuit_s: for how long no call is let through, because calls fail; 0.0: none is kept out.
        failures: how many calls failed in a row.
        repeats_left: how many failed calls the fleet may repeat now.
    """

    name: str
    limits: dict[str, LimitStatus]
    waiting: int
    held: int
    next_s: float | None
    priorities: dict[str, PriorityStatus] = field(default_factory=dict)
    brake_s: float = 0.0
    circuit_s: float = 0.0
    failures: int = 0
    repeats_left: int = 0

    @classmethod
    def of(cls, name: str, definition: Definition, reply: Reply) -> QuotaStatus:
        """Read it from the answer to an observation: a survey, and what the provider told."""
        quotas = (name,) if name in definition.quotas else ()
        survey, told = (result.levels for result in reply.results[-2:])
        declared = _declared(definition)
        limits = {
            label: _limit(definition, i, declared[i], reply.levels[i], told[5 + 6 * i : 11 + 6 * i])
            for i, label in zip(*definition.labels_of(quotas), strict=True)
        }
        next_s = reply.next_us / 1e6 if reply.next_us >= 0 else None
        brake_us, circuit_us, failures, _, budget = told[:5]
        return cls(
            name, limits, reply.waiting, reply.held, next_s, _priorities(definition, survey),
            brake_us / 1e6, circuit_us / 1e6, failures, budget // 5,
        )  # fmt: skip


def _declared(definition: Definition) -> list[int | None]:
    """Return the declared amounts in the order of the limits."""
    return [
        None if quota.learns else limit.amount
        for quota, now in zip(definition.declared, definition.members, strict=True)
        for limit in (now if quota.learns else quota).limits
    ]


def _limit(
    definition: Definition, i: int, declared: int | None, level: int, told: tuple[int, ...]
) -> LimitStatus:
    limit = definition.limits[i]
    age_us, provider_level, drift, guard, num, slots = told
    heard = age_us >= 0
    return LimitStatus(
        limit, level, declared,
        provider_level=provider_level if heard else None, age_s=age_us / 1e6 if heard else None,
        drift=drift, guard=guard, pace=num / limit.scaled[0] if limit.rate else 1.0,
        slots=None if limit.per else slots,
    )  # fmt: skip


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
