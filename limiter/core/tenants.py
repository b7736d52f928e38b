"""Limits of each tenant's own: `lua/lib/tenants.lua`, in Python.

Pure. A tenant's buckets are kept while they are not full.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from limiter.core import buckets as arithmetic
from limiter.core.buckets import Bucket, Buckets

QUIET_US = 60_000_000


class Tenants:
    """Hold the buckets of all tenants that have used something."""

    def __init__(self, limits: Sequence[Mapping[str, Any]]) -> None:
        self._limits = limits
        self._pattern = [Bucket.full(limit) for limit in limits]
        self._known: dict[str, tuple[int, Buckets]] = {}
        self._looks: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._known)

    def is_limited(self, tenant: str) -> bool:
        """Say whether a call of this tenant takes from limits of its own."""
        return bool(tenant and self._limits)

    def never_fits(self, tenant: str, cost: Sequence[int]) -> bool:
        """Say whether the cost is above one of the tenant's limits."""
        return self.is_limited(tenant) and arithmetic.exceeds(self._pattern, cost)

    def _buckets(self, tenant: str, now: int) -> Buckets:
        if not self.is_limited(tenant):
            return []
        at, buckets = self._known.get(tenant, (now, None))
        if buckets is None:
            return [Bucket.full(limit) for limit in self._limits]
        for bucket in buckets:
            bucket.refill(now - at)
        self._known[tenant] = (now, buckets)
        return buckets

    def fit_at(self, tenant: str, cost: Sequence[int], now: int) -> int:
        """Return when the tenant's own limits allow the cost."""
        return arithmetic.fit_at(self._buckets(tenant, now), cost, now)[0]

    def wait_in(
        self, tenant: str, queued: Sequence[int], cost: Sequence[int], now: int, held_us: int
    ) -> int:
        """Return how long the tenant's own limits make the cost wait."""
        return arithmetic.wait_in(self._buckets(tenant, now), queued, cost, queued, held_us)

    def take(self, tenant: str, cost: Sequence[int], now: int) -> None:
        """Take a cost."""
        buckets = self._buckets(tenant, now)
        arithmetic.take_from(buckets, cost)
        self._keep(tenant, buckets, now)

    def true_up(
        self, tenant: str, cost: Sequence[int], actual: Sequence[int], now: int, *, late: bool
    ) -> None:
        """Replace an estimate by what was used."""
        buckets = self._buckets(tenant, now)
        arithmetic.true_up(buckets, cost, actual, late=late)
        self._keep(tenant, buckets, now)

    def _keep(self, tenant: str, buckets: Buckets, now: int) -> None:
        if not buckets:
            return
        if all(bucket.is_full for bucket in buckets):
            self._known.pop(tenant, None)
            return
        if tenant not in self._known:
            heapq.heappush(self._looks, (now + QUIET_US, tenant))
        self._known[tenant] = (now, buckets)

    def tidy(self, now: int) -> None:
        """Look at the two tenants whose time came first: more leave than come."""
        for _ in range(2):
            if not self._looks or self._looks[0][0] > now:
                return
            _, tenant = heapq.heappop(self._looks)
            if tenant in self._known:
                buckets = self._buckets(tenant, now)
                del self._known[tenant]
                self._keep(tenant, buckets, now)
