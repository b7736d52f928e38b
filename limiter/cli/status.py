"""`limiter status`: levels, line and reservations of the quotas in a store."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from limiter.api import Limiter
from limiter.cli import progress
from limiter.errors import ConfigError
from limiter.status import QuotaStatus

if TYPE_CHECKING:
    from limiter.config import Config
    from limiter.core.priority import Priority

WATCH_EVERY_S = 0.5


def status(name: str | None, url: str | None, found: Config, *, watch: bool, as_json: bool) -> int:
    """Show one quota, or all that are declared in the store; return the exit status.

    Raises:
        ConfigError: the quota is not declared.
        StoreError: the store does not answer.
    """
    show = _write_json if as_json else _draw
    with Limiter(url, quotas=found.quotas.values()) as limiter:
        if watch and not as_json and sys.stdout.isatty():
            return _watch(limiter, name)
        while True:
            show(_look(limiter, name))
            if not watch:
                return 0
            time.sleep(WATCH_EVERY_S)


def _look(limiter: Limiter, name: str | None) -> dict[str, QuotaStatus]:
    # Only what is in the store: looking at a quota of the file would declare it.
    if name is None:
        return {each: limiter.peek(each) for each in sorted(limiter.quota_names())}
    try:
        return {name: limiter.peek(name)}
    except ConfigError as exc:
        known = ", ".join(map(repr, limiter.quota_names())) or "none"
        raise ConfigError(
            f"This store has no {name!r:.100}; it has: {known}. A quota of a group is shown under "
            "the group's name, or where a limiter.toml declares it."
        ) from exc


def _watch(limiter: Limiter, name: str | None) -> int:
    from rich.console import Group
    from rich.live import Live

    with Live(auto_refresh=False) as drawing:
        while True:
            lines = progress.quota_lines(_look(limiter, name))
            drawing.update(Group(*lines or [_NOTHING]), refresh=True)
            time.sleep(WATCH_EVERY_S)


_NOTHING = "No quota is declared in this store yet; the first call on one declares it."


def _draw(statuses: Mapping[str, QuotaStatus]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for line in progress.quota_lines(statuses) or [_NOTHING]:
        console.print(line)


def _write_json(statuses: Mapping[str, QuotaStatus]) -> None:
    sys.stdout.write(json.dumps([as_dict(each) for each in statuses.values()]) + "\n")
    sys.stdout.flush()


def as_dict(status: QuotaStatus) -> dict[str, Any]:
    """Return a status as plain values, as `--json` writes it."""
    limits = {
        label: {
            "dimension": each.limit.dimension,
            "amount": each.limit.amount,
            "per_s": each.limit.per,
            "capacity": each.limit.capacity,
            "level": each.level,
            "declared": each.declared,
            "provider_level": each.provider_level,
            "provider_age_s": each.age_s,
            "drift": each.drift,
            "guard": each.guard,
            "pace": each.pace,
            "slots": each.slots,
        }
        for label, each in status.limits.items()
    }
    return {
        "name": status.name,
        "limits": limits,
        "waiting": status.waiting,
        "held": status.held,
        "next_s": status.next_s,
        "brake_s": status.brake_s,
        "circuit_s": status.circuit_s,
        "failures": status.failures,
        "repeats_left": status.repeats_left,
        "priorities": {
            name: {"waiting": each.waiting, "wait_s": each.wait_s, **policy_as_dict(each.priority)}
            for name, each in status.priorities.items()
        },
    }


def policy_as_dict(priority: Priority) -> dict[str, Any]:
    """Return a policy as plain values; None where nothing is bound."""
    policy = asdict(priority)
    del policy["name"]
    return policy
