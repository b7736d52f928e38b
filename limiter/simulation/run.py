"""Replay a trace under a quota, and say how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from limiter.core.quota import Quota
from limiter.simulation import engine, trace, workload
from limiter.simulation.record import Record
from limiter.simulation.replay import Replay, owners
from limiter.simulation.summary import Summary, summary
from limiter.simulation.workload import Call, Workload

Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Run:
    """Hold one replay: what happened, and what that sums up to."""

    record: Record
    summary: Summary


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what is replayed, and on what.

    Attributes:
        names: of all priorities, the first one before the others.
        url: of the server for the script; None: the embedded one.
    """

    path: Path
    workload: Workload
    names: Sequence[str]
    processes: int = 4
    kind: engine.Kind = "lua"
    url: str | None = None


def run(plan: Plan, title: str, quota: Quota, tick: Tick = lambda _calls, _at_us: None) -> Run:
    """Replay a trace once; `tick(calls, at_us)` is told of each arrival.

    Raises:
        ConfigError: a row of the trace is wrong.
        StoreError: the server does not answer, or refuses.
    """
    asked = workload.with_priorities(quota, plan.names)
    with engine.opened(asked, owners(plan.processes), plan.kind, plan.url) as opened:
        rows = trace.read(plan.path)
        calls = workload.calls(rows, opened.definition, plan.workload, plan.names)
        replay = Replay(opened, _told(calls, tick), plan.processes)
        replay.run()
    return Run(replay.record, summary(title, asked, plan.names, replay))


def _told(calls: Iterator[Call], tick: Tick) -> Iterator[Call]:
    for call in calls:
        tick(call.n, call.at_us - workload.START_US)
        yield call
