"""What each arrival of a trace asks for, what it turns out to use, and how long it is served.

Pure: everything that is drawn is drawn from a seed, in the order of the trace, so that two engines
are sent the same. The only module here that knows how priorities and tenants reach an engine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from limiter.core import layout
from limiter.core.definition import Definition
from limiter.core.layout import Entry
from limiter.core.priority import DEFAULT, Priority
from limiter.core.quota import Quota
from limiter.errors import ConfigError
from limiter.simulation.quotas import changed
from limiter.simulation.trace import Arrival

# Not 0, which asks a script for Redis's own clock; a time like today's has as many digits.
START_US = 1_700_000_000_000_000
LONGEST_S = 366 * 86_400  # of a call and of a timeout

Spread = Literal["zipf", "uniform"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Say how many output tokens a call reserves.

    Attributes:
        kind: `exact`: those that it will use. `max`: `number` of them, as max_tokens does.
            `factor`: `number` times those that it will use, rounded up.
    """

    kind: Literal["exact", "max", "factor"] = "exact"
    number: float = 1.0

    def output_tokens(self, used: int) -> int:
        """Return the estimate for a call that will use so many."""
        if self.kind == "max":
            return int(self.number)
        return used if self.kind == "exact" else math.ceil(used * self.number)


@dataclass(frozen=True, slots=True)
class Workload:
    """Say how rows of a trace become calls.

    Attributes:
        ttft_s, tokens_per_s: a call whose row does not tell is served for
            ttft_s + output tokens / tokens_per_s.
        timeout_s: how long a call waits before it gives up; None: for ever.
        mix: priority -> share, for rows without one. Shares need not add up to 1.
        tenants: how many to spread the rows over that name none; 0: none.
        spread: `zipf`: the k-th tenant has 1/k of the first one's calls; `uniform`: all the same.
    """

    estimate: Estimate = field(default_factory=Estimate)
    ttft_s: float = 0.5
    tokens_per_s: float = 50.0
    timeout_s: float | None = None
    mix: Mapping[str, float] = field(default_factory=dict)
    tenants: int = 0
    spread: Spread = "zipf"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tokens_per_s", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= LONGEST_S:
                raise ConfigError(f"{name} is a number up to {LONGEST_S:,.0f}, got {value}.")
        if not self.tokens_per_s:
            raise ConfigError("tokens_per_s is a number above 0, as 50.")


@dataclass(frozen=True, slots=True)
class Call:
    """Hold one call, ready to be replayed.

    Attributes:
        n: from 1, in the order of arrival.
        at_us: virtual; the first call's is `START_US`.
        cost, actual: by dimension of the definition; -1 in `actual`: the estimate stands.
        priority: a place in the list of names that the replay was given.
        index: the priority's, in the definition.
        weight: the tenant's, in hundredths.
    """

    n: int
    at_us: int
    cost: tuple[int, ...]
    actual: tuple[int, ...]
    service_us: int
    timeout_us: int | None
    priority: int
    tenant: str
    index: int = 0
    weight: int = layout.NORMAL_WEIGHT


def acquire(call: Call) -> Entry:
    """Write the entry with which a call asks."""
    return layout.acquire(
        call.n, call.cost, flags=layout.MAY_WAIT, priority=call.index, tenant=call.tenant,
        weight=call.weight,
    )  # fmt: skip


def with_priorities(quota: Quota, names: Sequence[str]) -> Quota:
    """Return the quota with policies: its own, or else these, the first one before the others.

    It stands alone: a replay has calls on one quota, not on a group.
    """
    ranked = [Priority(name, level=len(names) - place) for place, name in enumerate(names)]
    return changed(quota, priorities=quota.priorities or ranked, group=None)


def priorities(quota: Quota, named: Iterable[str], mix: Mapping[str, float]) -> tuple[str, ...]:
    """Return the names of all priorities, the first one before the others.

    Args:
        named: by the trace; "" for rows without one.
        quota: where it has priorities they rank by their levels.
        mix: else in this order.

    Raises:
        ConfigError: the trace names one whose rank nobody has told.
    """
    ranked = tuple(mix) or (DEFAULT,)
    if quota.priorities:
        levels = {DEFAULT: 0} | {each.name: each.level for each in quota.priorities}
        unnamed = {DEFAULT} if not mix and "" in named else set()
        used = {each.name for each in quota.priorities} | unnamed
        ranked = tuple(sorted(used, key=lambda name: -levels[name]))
    for name in (*named, *mix):
        if name and name not in ranked:
            raise ConfigError(
                f"The priority {name!r} has no rank: name all of them, the first one before the "
                f"others, as --priority-mix {name},{DEFAULT}, or give a --quota FILE that does."
            )
    return ranked


def calls(
    arrivals: Iterable[Arrival],
    definition: Definition,
    workload: Workload,
    names: Sequence[str],
) -> Iterator[Call]:
    """Turn rows into calls, one by one."""
    draw_priority = _drawn(workload.mix or {names[0]: 1.0}, f"priority {workload.seed}")
    draw_tenant = _drawn(_tenants(workload), f"tenant {workload.seed}")
    timeouts = [_timeout_us(definition, name, workload) for name in names]
    indexes = [definition.priority_index(name) for name in names]
    first_us: int | None = None
    for n, arrival in enumerate(arrivals, 1):
        first_us = arrival.at_us if first_us is None else first_us
        drawn = next(draw_priority), next(draw_tenant)
        place, tenant = names.index(arrival.priority or drawn[0]), arrival.tenant or drawn[1]
        yield Call(
            n,
            START_US + arrival.at_us - first_us,
            definition.cost(_cost(arrival, workload.estimate.output_tokens(arrival.output_tokens))),
            definition.actual(_cost(arrival, arrival.output_tokens)),
            _service_us(arrival, workload),
            timeouts[place],
            place,
            tenant,
            indexes[place],
            definition.weight((), tenant),
        )


def _timeout_us(definition: Definition, name: str, workload: Workload) -> int | None:
    if workload.timeout_s is not None:
        return round(workload.timeout_s * 1e6)
    timeout_us = definition.priorities[definition.priority_index(name)].timeout_us
    return timeout_us if timeout_us >= 0 else None


def _cost(arrival: Arrival, output_tokens: int) -> dict[str, int]:
    return {
        "tokens": arrival.input_tokens + output_tokens,
        "input_tokens": arrival.input_tokens,
        "output_tokens": output_tokens,
    }


def _service_us(arrival: Arrival, workload: Workload) -> int:
    given = arrival.service_us
    told_us = (workload.ttft_s + arrival.output_tokens / workload.tokens_per_s) * 1e6
    service_us = round(told_us) if given is None else given
    if service_us > LONGEST_S * 1e6:
        raise ConfigError(
            f"A call of {arrival.output_tokens:,} output tokens is served for "
            f"{service_us / 86_400e6:,.0f} days, a year is the most: check service_s and the pace."
        )
    return service_us


def _tenants(workload: Workload) -> Mapping[str, float]:
    zipf = workload.spread == "zipf"
    return {f"t{k}": 1 / k if zipf else 1.0 for k in range(1, workload.tenants + 1)} or {"": 1.0}


def _drawn(shares: Mapping[str, float], seed: str) -> Iterator[str]:
    """Yield names for ever, each as often as its share says; a text seeds the same everywhere."""
    names, cumulative, rng = list(shares), list(accumulate(shares.values())), random.Random(seed)
    while True:
        yield rng.choices(names, cum_weights=cumulative)[0]
