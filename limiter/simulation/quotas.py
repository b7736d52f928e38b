"""Quotas as a share of what a trace asks for, or as a multiple of another quota. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from limiter.core.quota import Limit, Quota
from limiter.simulation.trace import Survey


def at_load(quota: Quota, survey: Survey, share: float) -> Quota:
    """Return the quota with limits of this share of the trace's mean load, by dimension.

    What the trace has no mean of stays as it is: slots, images.

    Raises:
        ConfigError: the trace has no mean, or the result is out of range.
    """

    def amount(limit: Limit) -> float:
        mean = survey.per_s(limit.dimension) * (limit.per or 0)
        return share * mean or limit.amount

    return _resized(quota, amount)


def scaled(quota: Quota, factor: float) -> Quota:
    """Return the quota with limits that refill so many times as fast; slots stay as they are.

    Raises:
        ConfigError: the result is out of range.
    """
    return _resized(quota, lambda limit: limit.amount * (factor if limit.per else 1))


def changed(quota: Quota, **settings: Any) -> Quota:
    """Return the quota with other settings, and all else as it is.

    Raises:
        ConfigError: a setting is wrong.
    """
    return replace(quota, **settings)


def _resized(quota: Quota, amount: Callable[[Limit], float]) -> Quota:
    limits = [replace(limit, amount=max(1, round(amount(limit)))) for limit in quota.limits]
    return changed(quota, limits=limits)
