"""From what happened to what a planner wants to know. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limiter.core.quota import Quota
from limiter.simulation.record import Ending
from limiter.simulation.replay import Replay

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True, slots=True)
class Waits:
    """Say how a group of calls fared.

    Attributes:
        refused: they never fit, or their line was full.
        wait_s: p50, p90, p99, max of those that were granted; empty if none was.
        longest_line: most of them that waited at one moment.
    """

    calls: int
    granted: int
    timed_out: int
    refused: int
    wait_s: Mapping[str, float]
    longest_line: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Say how a trace fared under a quota.

    Attributes:
        title: names the quota among others.
        priorities: by name, the first one before the others.
        used: by limit, share of what there was to be had while somebody waited (see `usage`);
            None: nobody waited.
        busy_s: how long somebody waited.
        makespan_s: from the first arrival to the end of the last call.
        runs: of the script.
    """

    title: str
    quota: Quota
    priorities: Mapping[str, Waits]
    total: Waits
    used: Mapping[str, float | None]
    busy_s: float
    makespan_s: float
    runs: int

    @property
    def longest_wait_s(self) -> float:
        """Return the longest wait of a call that was granted, 0 if none was."""
        return self.total.wait_s.get("max", 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        limits = {
            limit.label: {"amount": limit.amount, "capacity": limit.capacity,
                          "used": self.used[limit.label]}
            for limit in self.quota.limits
        }  # fmt: skip
        return {
            "title": self.title,
            "limits": limits,
            "priorities": {name: _plain(waits) for name, waits in self.priorities.items()},
            "total": _plain(self.total),
            "busy_s": self.busy_s,
            "makespan_s": self.makespan_s,
            "runs": self.runs,
        }


def _plain(waits: Waits) -> dict[str, Any]:
    return {
        "calls": waits.calls, "granted": waits.granted, "timed_out": waits.timed_out,
        "refused": waits.refused, "wait_s": dict(waits.wait_s), "longest_line": waits.longest_line,
    }  # fmt: skip


def summary(title: str, quota: Quota, names: Sequence[str], replay: Replay) -> Summary:
    """Sum up a replay that has come to its end."""
    record = replay.record
    started_us = record.arrived_us[0] if record.arrived_us else 0
    return Summary(
        title,
        quota,
        {name: waits(record.outcomes(place)) for place, name in enumerate(names)},
        waits(record.outcomes()),
        replay.usage.shares(),
        replay.usage.busy_us / 1e6,
        max(0, record.ended_us - started_us) / 1e6,
        record.runs,
    )


def waits(outcomes: Iterable[tuple[int, int, int]]) -> Waits:
    """Sum up calls, each (arrived_us, waited_us, ending)."""
    found = list(outcomes)
    endings = [ending for _, _, ending in found]
    granted = sorted(waited for _, waited, ending in found if ending == Ending.GRANTED)
    return Waits(
        len(found),
        len(granted),
        endings.count(Ending.TIMED_OUT),
        endings.count(Ending.REFUSED),
        {name: quantile(granted, share) / 1e6 for name, share in QUANTILES if granted},
        max((waiting for _, waiting in line(found)), default=0),
    )


def quantile(ordered: Sequence[int], share: float) -> int:
    """Return the least value that so many of the sorted values do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def line(outcomes: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Return (at_us, how many wait from then on), at each moment at which that changes."""
    steps: dict[int, int] = {}
    for arrived, waited, _ in outcomes:
        if waited:
            steps[arrived] = steps.get(arrived, 0) + 1
            steps[arrived + waited] = steps.get(arrived + waited, 0) - 1
    waiting, found = 0, []
    for at in sorted(steps):
        waiting += steps[at]
        found.append((at, waiting))
    return found
