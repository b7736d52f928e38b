"""`limiter simulate`: from what was typed to replays, and from those to a table, JSON, a picture."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limiter.cli import options
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError
from limiter.simulation import engine, plot, quotas, table, trace, workload
from limiter.simulation.run import Plan, Run, run
from limiter.simulation.trace import Survey
from limiter.simulation.workload import Estimate, Workload

_TICK_EVERY_S = 0.1

Titled = tuple[str, Quota]


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold what was typed about the quota; the texts as they came."""

    rpm: int | None
    tpm: int | None
    file: Path | None
    name: str | None
    load: str | None
    scale: str | None
    burst: str | None
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class How:
    """Hold what was typed about the replay and what it writes; `url` None: the embedded server."""

    processes: int
    kind: engine.Kind
    url: str | None
    as_json: bool
    picture: Path | None


def simulate(path: Path, asked: Asked, work: Workload, how: How) -> int:
    """Replay a trace under each quota that was asked for; return the exit status.

    Raises:
        ConfigError: an option, the trace, or a quota is wrong.
        StoreError: the server does not answer, or refuses.
    """
    if how.picture:
        plot.check(how.picture)
    survey = trace.survey(path)
    if work.estimate.kind != "exact" and not survey.split:
        raise ConfigError(
            f"--estimate: {path} does not tell output from input tokens, which an estimate needs: "
            "give it the columns input_tokens and output_tokens."
        )
    titled = quotas_of(asked, survey)
    names = workload.priorities(titled[0][1], survey.priorities, work.mix)
    plan = Plan(path, work, names, how.processes, how.kind, how.url)
    for note in _notes(survey, how.kind, how.url):
        sys.stderr.write(f"limiter: {note}\n")
    runs = [run(plan, title, quota, _ticker(title, survey.calls)) for title, quota in titled]
    if how.picture:
        plot.draw(runs, names, how.picture, table.heading(survey))
    sys.stdout.write(_json(survey, runs) if how.as_json else _text(survey, runs))
    return 0


def _notes(survey: Survey, kind: engine.Kind, url: str | None) -> Iterable[str]:
    if survey.unread:
        yield f"{survey.name}: these columns are not read: {', '.join(survey.unread)}."
    if kind == "lua" and not engine.runs_lua(kind, url):
        yield "no server runs the script here; the reference model does the same in its place."


def _ticker(title: str, calls: int) -> Callable[[int, int], None]:
    """Return what draws the progress line, on a terminal only."""
    next_at = 0.0

    def tick(n: int, at_us: int) -> None:
        nonlocal next_at
        if n == calls:
            sys.stderr.write("\r\033[K")
        elif time.monotonic() >= next_at:
            next_at = time.monotonic() + _TICK_EVERY_S
            words = f"{title}: {n:,} of {calls:,} calls, {table.clock(at_us / 1e6)} of the trace"
            sys.stderr.write(f"\r\033[K{words}")
            sys.stderr.flush()

    return tick if sys.stderr.isatty() else lambda _n, _at_us: None


def _text(survey: Survey, runs: Sequence[Run]) -> str:
    return f"{table.heading(survey)}\n\n{table.table([each.summary for each in runs])}"


def _json(survey: Survey, runs: Sequence[Run]) -> str:
    means = {}
    if survey.last_us > survey.first_us:
        means = {each: survey.per_s(each) * 60 for each in ("requests", "tokens")}
    found = {
        "trace": {"name": survey.name, "calls": survey.calls, "span_s": survey.span_s,
                  "per_minute": means},
        "runs": [each.summary.as_dict() for each in runs],
    }  # fmt: skip
    return json.dumps(found) + "\n"


# --- quotas -------------------------------------------------------------------------------


def quotas_of(asked: Asked, survey: Survey) -> list[Titled]:
    """Return the quotas to replay under, each with a title.

    Raises:
        ConfigError: what was typed makes no quota, or contradicts itself.
    """
    if asked.load is not None and asked.scale is not None:
        raise ConfigError("Give either --load (of the trace) or --scale (of a quota), not both.")
    quota = _quota(asked)
    if asked.load is not None:
        if asked.rpm is not None or asked.tpm is not None:
            raise ConfigError("--load stands in the place of --rpm and --tpm: leave them out.")
        shares = _numbers("--load", asked.load)
        return [(f"quota = {share:.4g} × mean load", quotas.at_load(quota, survey, share))
                for share in shares]  # fmt: skip
    if asked.scale is not None:
        return [(f"quota × {factor:.4g}", quotas.scaled(quota, factor))
                for factor in _numbers("--scale", asked.scale)]  # fmt: skip
    return [("the quota", quota)]


def _quota(asked: Asked) -> Quota:
    if asked.file is not None or (asked.load is None and asked.rpm is None and asked.tpm is None):
        quota = _quota_of_file(asked)
    elif asked.name is not None:
        raise ConfigError("--name chooses a quota of a --quota FILE: give one.")
    else:
        # Any amounts do where a load decides on them.
        rpm, tpm = (1, 1) if asked.load is not None else (asked.rpm, asked.tpm)
        burst = options.burst(asked.burst or "full")
        quota = Quota("simulation", rpm=rpm, tpm=tpm, burst=burst)
    if asked.concurrency is None:
        return quota
    return quotas.changed(
        quota, limits=[*quota.limits, Limit("concurrency", asked.concurrency, None)]
    )


def _quota_of_file(asked: Asked) -> Quota:
    found, config = options.quotas(
        asked.file, rpm=asked.rpm, tpm=asked.tpm, burst_text=asked.burst, name="simulation"
    )
    if config.path is None:
        raise ConfigError(
            "Say what the provider grants: --rpm 500 --tpm 30000, or --quota FILE with "
            "[quotas.gpt-4o-mini] in it."
        )
    if asked.name is None and len(found) == 1:
        return next(iter(found.values()))
    if asked.name is None or asked.name not in found:
        raise ConfigError(
            f"--name: choose one of the quotas of {config.path}: {', '.join(sorted(found))}."
        )
    return found[asked.name]


# --- texts --------------------------------------------------------------------------------


def _numbers(option: str, text: str) -> list[float]:
    return [_number(option, part) for part in text.split(",")]


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ConfigError(f"{option}: {text!r:.40} is no number above 0, as 0.8 or 1.2.")
    return number


def estimate(text: str) -> Estimate:
    """Read `--estimate`.

    Raises:
        ConfigError: it is none of the three.
    """
    kind, _, number = text.partition(":")
    if text == "exact":
        return Estimate()
    if kind == "max" and number.isascii() and number.isdecimal() and len(number) < 13:
        return Estimate("max", int(number))
    if kind == "factor":
        return Estimate("factor", _number("--estimate factor", number))
    raise ConfigError(f"--estimate is exact, max:500 or factor:2; got {text!r:.40}.")


def mix(text: str) -> Mapping[str, float]:
    """Read `--priority-mix`: `name=share,…`; a share that is left out is 1.

    Raises:
        ConfigError: a name comes twice or is empty, or a share is no number.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = (word.strip() for word in part.partition("="))
        if not name or name in shares:
            raise ConfigError(
                f"--priority-mix names each priority once, the first one before the others, as "
                f"interactive=0.3,batch=0.7; got {text!r:.60}."
            )
        shares[name] = _number(f"--priority-mix {name}", share) if equals else 1.0
    return shares
