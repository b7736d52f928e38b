"""A quota's definition as it stands in Redis, and the arrays that costs become under it.

Pure. A definition is JSON; its `dims` only ever grow, so that an array of costs that was stored
under an older definition still means the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError

_DEFAULT_COST = {"requests": 1, "concurrency": 1}


@dataclass(frozen=True, slots=True)
class Definition:
    """Hold what one version of a quota says."""

    name: str
    version: str
    dims: tuple[str, ...]
    limits: tuple[Limit, ...]
    models: tuple[str, ...]
    text: str
    labels: tuple[str, ...] = field(init=False)  # in the order of every list of levels
    _defaults: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(limit.label for limit in self.limits))
        defaults = tuple(_DEFAULT_COST.get(dim, 0) for dim in self.dims)
        object.__setattr__(self, "_defaults", defaults)

    def quota(self) -> Quota:
        """Return the quota as a caller would write it."""
        return Quota(self.name, limits=self.limits, models=self.models)

    def cost(self, given: Mapping[str, int]) -> tuple[int, ...]:
        """Order a cost by dimension; a call is one request and takes one slot unless it says.

        Dimensions that the quota has no limit for are left out: an estimate may know more than a
        quota limits.
        """
        return tuple(map(given.get, self.dims, self._defaults))

    def actual(self, given: Mapping[str, int]) -> tuple[int, ...]:
        """Order what was used; −1 (the estimate stands) where nothing is said."""
        return tuple(map(given.get, self.dims, repeat(-1)))

    def by_name(self, cost: Sequence[int]) -> dict[str, int]:
        """Undo `cost`, for messages and for `Reservation.estimate`."""
        return {dim: amount for dim, amount in zip(self.dims, cost, strict=False) if amount}


def write(quota: Quota, dims_before: Iterable[str] = ()) -> str:
    """Write a quota as JSON, keeping the place of every dimension that was there before."""
    dims = list(dict.fromkeys([*dims_before, *(limit.dimension for limit in quota.limits)]))
    limits = [_write_limit(limit, dims.index(limit.dimension) + 1) for limit in quota.limits]
    definition = {"dims": dims, "limits": limits, "models": list(quota.models)}
    return json.dumps(definition, separators=(",", ":"), sort_keys=True)


def _write_limit(limit: Limit, dim: int) -> dict[str, Any]:
    return {
        "label": limit.label,
        "dim": dim,
        "num": limit.rate.numerator,
        "den": limit.rate.denominator,
        "capacity": limit.capacity,
        "ceiling": limit.ceiling,
        "amount": limit.amount,
        "per": limit.per,
        "burst": limit.burst,
        "headroom": limit.headroom,
    }


def read(name: str, version: str, text: str) -> Definition:
    """Read a definition.

    Raises:
        ConfigError: it is none; the key was written by something else, or by a newer release.
    """
    try:
        data = json.loads(text)
        dims = tuple(data["dims"])
        limits = tuple(
            Limit(
                dims[each["dim"] - 1], each["amount"], each["per"], each["burst"], each["headroom"]
            )
            for each in data["limits"]
        )
        models = tuple(data["models"])
    except (ValueError, KeyError, TypeError, IndexError) as exc:
        raise ConfigError(
            f"The definition of the quota {name!r} in the store cannot be read: {text[:100]!r}. "
            "Declare it anew, or upgrade if a newer release wrote it."
        ) from exc
    return Definition(name, version, dims, limits, models, text)
