"""`limiter quota sync`: a project's limits, declared centrally, and the table of what changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from limiter.api import Limiter
from limiter.cli import project
from limiter.cli.matching import NO_QUOTA, Change, Known, Plan, plan

if TYPE_CHECKING:
    from limiter.config import Config
    from limiter.core.quota import Quota

Row = Sequence[str]

_HEADING: Row = ("model", "quota", "limit", "old", "", "new", "")
_TO_THE_RIGHT = (3, 5)


class Asked(NamedTuple):
    """Hold what was typed: see `limiter.cli.quotas.sync`."""

    project: str
    base_url: str | None = None
    models: tuple[str, ...] = ()
    everything: bool = False
    dry_run: bool = False


def sync(asked: Asked, url: str | None, found: Config, *, as_json: bool) -> int:
    """Declare a project's limits; return the exit status: 1 where a quota could not be declared.

    Raises:
        ConfigError: what was typed is wrong; nothing was changed.
        LimitsUntold: the limits are not to be had; nothing was changed.
        StoreError: the store does not answer; what was shown has changed.
    """
    listed = project.limits(asked.project, asked.base_url)
    with Limiter(url) as limiter:
        known = Known(found.quotas, limiter.declarations())
        planned = plan(listed, known, named=asked.models, everything=asked.everything)
        done: list[Change] = []
        try:
            for change in planned.changes:
                if change.is_due and not asked.dry_run:
                    limiter.set_quota(change.quota)
                done.append(change)
        finally:
            show = _json if as_json else _text
            sys.stdout.write(show(asked, planned._replace(changes=tuple(done))))
    return int(any(each.is_failure for each in planned.left_out))


def _outcome(change: Change, *, dry_run: bool) -> str:
    if not change.is_due:
        return "unchanged"
    return "would be declared" if dry_run else "declared"


# --- for people ---------------------------------------------------------------------------


def _text(asked: Asked, planned: Plan) -> str:
    rows = [row for change in planned.changes for row in _rows(change, dry_run=asked.dry_run)]
    without = [each.model for each in planned.left_out if each.why == NO_QUOTA]
    rows += [
        (each.model, "", "", "", "", "", f"left out: {each.why}")
        for each in planned.left_out
        if each.why != NO_QUOTA
    ]
    lines = _aligned([_HEADING, *rows]) if rows else []
    if without:
        lines.append(f"Left out, no quota is for them (name them, or --all): {', '.join(without)}")
    return "".join(f"{line}\n" for line in lines)


def _rows(change: Change, *, dry_run: bool) -> Iterator[Row]:
    """Tell each number of a quota, in the row of the model that it is of."""
    outcome = _outcome(change, dry_run=dry_run)
    if len(change.models) > 1:
        outcome += f", the smallest of {len(change.models)} models"
    if not change.models:
        outcome += ", with its group"
    for model, label, old, new in _numbers(change):
        was = "-" if old is None else f"{old:,}"
        yield model or "", change.quota.name, label, was, "→", f"{new:,}", outcome


def _numbers(change: Change) -> Iterator[tuple[str | None, str, int | None, int]]:
    """Yield of each limit: the model that it is of, its label, and its amounts, old and new."""
    models = {each.limit.label: each.model for each in change.granted}
    old = _amounts(change.before)
    for label, amount in _amounts(change.quota).items():
        if label in models or not change.models:
            yield models.get(label), label, old.get(label), amount


def _amounts(quota: Quota | None) -> dict[str, int]:
    return {limit.label: limit.amount for limit in quota.limits} if quota else {}


def _aligned(rows: Sequence[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def _cells(row: Row, widths: Iterable[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if place in _TO_THE_RIGHT else cell.ljust(width)


# --- for programs -------------------------------------------------------------------------


def _json(asked: Asked, planned: Plan) -> str:
    found = {
        "project": asked.project,
        "dry_run": asked.dry_run,
        "quotas": [_as_dict(change, dry_run=asked.dry_run) for change in planned.changes],
        "left_out": [{"model": each.model, "why": each.why} for each in planned.left_out],
    }
    return json.dumps(found) + "\n"


def _as_dict(change: Change, *, dry_run: bool) -> dict[str, Any]:
    return {
        "quota": change.quota.name,
        "group": change.quota.group,
        "models": list(change.models),
        "outcome": _outcome(change, dry_run=dry_run),
        "limits": [
            {"limit": label, "model": model, "old": old, "new": new}
            for model, label, old, new in _numbers(change)
        ],
    }
