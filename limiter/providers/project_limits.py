"""What the rate limits of an OpenAI project say, as limits of quotas.

Pure. The shape of an entry is that of OpenAI's API reference and of the openai package's types: a
model, and whole numbers per minute or day. Two of them are left out, as no call of ours is counted
in them: audio megabytes, and the input tokens that the queue of the Batch API may hold.

"Some model families have shared rate limits" (OpenAI's rate-limit guide): an entry does not say so.
A quota that covers several models gets the smallest of their numbers, never their sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from limiter.core.exact import DAY_S, SCALED_MAX
from limiter.core.quota import MINUTE_S, Limit, Quota

_NUMBERS = (
    ("max_requests_per_1_minute", "requests", MINUTE_S),
    ("max_tokens_per_1_minute", "tokens", MINUTE_S),
    ("max_requests_per_1_day", "requests", DAY_S),
    ("max_images_per_1_minute", "images", MINUTE_S),
)


class ModelLimits(NamedTuple):
    """Hold what a project may use of one model; `limits` is empty where nothing of it counts."""

    model: str
    limits: tuple[Limit, ...]


class Granted(NamedTuple):
    """Hold one limit of a quota, and the model that it is of."""

    limit: Limit
    model: str


def read(entry: Mapping[str, object]) -> ModelLimits | None:
    """Read one entry of a project's list; None: it is none.

    Zero, as any number that no limit can have, means that there is no such limit: it stands where
    a model is not counted that way.
    """
    model = entry.get("model")
    if entry.get("object") != "project.rate_limit" or not isinstance(model, str) or not model:
        return None
    found = (
        Limit(dimension, amount, per)
        for key, dimension, per in _NUMBERS
        if type(amount := entry.get(key)) is int and 0 < amount <= SCALED_MAX
    )
    return ModelLimits(model, tuple(found))


def smallest(models: Iterable[ModelLimits]) -> tuple[Granted, ...]:
    """Return each limit that any of the models has, with the smallest of its amounts.

    Of two models with the same amount it is that of the first.
    """
    found: dict[str, Granted] = {}
    for model, limits in models:
        for limit in limits:
            known = found.get(limit.label)
            if known is None or limit.amount < known.limit.amount:
                found[limit.label] = Granted(limit, model)
    return tuple(found.values())


def renumbered(quota: Quota, limits: Collection[Limit]) -> Quota:
    """Return a quota with the amounts of these limits, and all else as it is.

    A limit that the quota did not have is added, with the burst and headroom of its others of the
    same period. What the quota limits beyond these (slots, tokens per day) stays.

    Raises:
        ConfigError: an amount does not go with the quota's burst or shares.
    """
    amounts = {limit.label: limit.amount for limit in limits}
    kept = [replace(each, amount=amounts.get(each.label, each.amount)) for each in quota.limits]
    labels = {each.label for each in kept}
    added = [_like(kept, each) for each in limits if each.label not in labels]
    return replace(quota, limits=(*kept, *added))


def _like(others: Iterable[Limit], limit: Limit) -> Limit:
    """Return a limit with the burst of another one of its period: seconds mean little to others."""
    like = next((each for each in others if each.per == limit.per), limit)
    return replace(limit, burst=like.burst, headroom=like.headroom)
