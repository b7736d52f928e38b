"""Traces for the tests: the real one where it lies beside the repository, else one like it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import limiter
from limiter.core import definition
from limiter.core.model import Model
from limiter.core.quota import Quota
from limiter.simulation.replay import Engine, Replay
from limiter.simulation.workload import START_US, Call

_AZURE = Path(limiter.__file__).parents[2] / "shared/data/azure_llm_trace_conv_2023.csv"


def azure(folder: Path) -> Path:
    """Return a trace as Azure writes it; the made one is small, bursty and heavy-tailed."""
    if _AZURE.is_file():
        return _AZURE
    rng, at, lines = random.Random(1), datetime(2023, 11, 16, 18, 15, 46, tzinfo=UTC), []
    for _ in range(500):
        at += timedelta(seconds=rng.expovariate(5.0))
        tokens = min(14_000, round(rng.lognormvariate(6.9, 0.8)))
        lines.append(f"{at:%Y-%m-%d %H:%M:%S.%f}0,{tokens},{rng.randint(1, 600)}")
    return write(folder, "TIMESTAMP,ContextTokens,GeneratedTokens", *lines)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "trace.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def model(quota: Quota) -> Model:
    return Model(definition.read(quota.name, "1", definition.write(quota)), START_US)


def call(
    n: int, at_s: float, cost: Sequence[int], actual: Sequence[int] | None = None, *,
    service_s: float = 0.0, timeout_s: float | None = None, priority: int = 0,
) -> Call:  # fmt: skip
    return Call(
        n, START_US + round(at_s * 1e6), tuple(cost), tuple(cost if actual is None else actual),
        round(service_s * 1e6), None if timeout_s is None else round(timeout_s * 1e6), priority, "",
    )  # fmt: skip


def replayed(engine: Engine, calls: Sequence[Call], processes: int = 2) -> Replay:
    replay = Replay(engine, calls, processes)
    replay.run()
    return replay


def waits_s(replay: Replay) -> list[float]:
    return [waited / 1e6 for waited in replay.record.waited_us]
