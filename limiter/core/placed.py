"""The limits of a unit in their places, and as a definition writes each of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from limiter.core.quota import Limit, Quota


class Placed(NamedTuple):
    """A limit in its place: which quota's, and what unit-wide names it has."""

    quota: str
    limit: Limit
    dim: str
    label: str


def placed(quota: Quota, limit: Limit) -> Placed:
    """Name a limit within its unit."""
    if quota.group is None:
        return Placed(quota.name, limit, limit.dimension, limit.label)
    dim, label = f"{quota.name}/{limit.dimension}", f"{quota.name}: {limit.label}"
    return Placed(quota.name, limit, dim, label)


def shared(members: Iterable[Quota]) -> list[Placed]:
    """Return the limits of some quotas."""
    return [placed(quota, limit) for quota in members for limit in quota.limits]


def own(members: Iterable[Quota]) -> list[Placed]:
    """Return what each of their tenants has for itself."""
    return [placed(quota, limit) for quota in members for limit in quota.tenant_limits]


def write_limit(row: Placed, dims: list[str]) -> dict[str, Any]:
    """Write a limit, with the integers that the scripts calculate with."""
    limit, (num, den) = row.limit, row.limit.scaled
    written: dict[str, Any] = {
        "label": row.label,
        "dim": dims.index(row.dim) + 1,
        "num": num,
        "den": den,
        "capacity": limit.capacity,
        "ceiling": limit.ceiling,
        "amount": limit.amount,
        "per": limit.per,
        "burst": limit.burst,
        "headroom": limit.headroom,
        "quota": row.quota,
    }
    return written | ({"adaptive": True} if limit.adaptive else {})


def read_limit(each: Mapping[str, Any], dims: Sequence[str]) -> Limit:
    """Read a limit."""
    dimension = dims[each["dim"] - 1].rpartition("/")[2]
    return Limit(dimension, each["amount"], each["per"], each["burst"], each["headroom"],
                 each.get("adaptive", False))  # fmt: skip
