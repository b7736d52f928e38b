"""The flow that a run's calls stand in: whether there is such a priority, before anything is called.

It declares nothing: a run that is refused must not have replaced what other programs declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from limiter.bulk.settings import Settings
from limiter.core import definition, layout, ops
from limiter.core.definition import Definition
from limiter.core.ops import Found
from limiter.core.quota import Quota
from limiter.errors import ConfigError
from limiter.shells import opening

_ROUND_TRIP_S = 5.0


async def check(settings: Settings) -> None:
    """See that each quota of a run declares its priority; a round trip for each.

    Raises:
        ConfigError: one does not.
        StoreError: the store does not answer.
    """
    if settings.priority is None:
        return
    user = object()
    store = await opening.async_store(settings.url, _ROUND_TRIP_S, user)
    try:
        quotas = sorted(settings.declared().values(), key=_unit)
        for unit, ours in groupby(quotas, _unit):
            found = await store.read(layout.keys(unit))
            _check(agreed(unit, [*ours], found), settings.priority)
    finally:
        await store.close()
        opening.leave(settings.url, user)


def _unit(quota: Quota) -> str:
    return quota.unit


def agreed(unit: str, ours: Sequence[Quota], found: Found | None) -> Definition:
    """Return what a process that declares these quotas will agree on with the store.

    Raises:
        ConfigError: the unit is a quota here and a group there.
    """
    steps = ops.define_gen(unit, ours, follow=False)
    next(steps)
    try:
        wanted = steps.send(found)
    except StopIteration as stop:
        known: Definition = stop.value
        return known
    assert wanted is not None
    return definition.read(unit, "", wanted.text)


def _check(unit: Definition, priority: str) -> None:
    try:
        unit.priority_index(priority)
    except ConfigError as exc:
        raise ConfigError(
            f"--priority: {exc} A quota of --rpm and --tpm declares none: give --quota FILE."
        ) from exc
