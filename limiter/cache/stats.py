"""What the cache has done, and what is in it, as values for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from limiter.cache.entry import Entry


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Hold the counts of the whole fleet since they were last cleared.

    Attributes:
        hits: answers that were there.
        joins: answers that another call was getting at that moment.
        stale: answers past their time that were served while a new one was got.
        misses: questions that had to be asked.
        refreshes: stale answers that were got anew.
        stores: answers stored.
        not_stored: answers that could not be: too large.
        corrupt: stored values that were damaged or foreign, and deleted.
        errors: questions and answers that the store had no reply to.
        tokens_saved: what the answers that were served had been charged, by their own usage.
        bytes_stored, bytes_served: as they are in the store.
    """

    hits: int = 0
    joins: int = 0
    stale: int = 0
    misses: int = 0
    refreshes: int = 0
    stores: int = 0
    not_stored: int = 0
    corrupt: int = 0
    errors: int = 0
    tokens_saved: int = 0
    bytes_stored: int = 0
    bytes_served: int = 0

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> CacheStats:
        """Read the figures as the store has them; those of other releases are left out."""
        return cls(**{each.name: counts.get(each.name, 0) for each in fields(cls)})

    @property
    def requests_saved(self) -> int:
        """Return the requests that were not made."""
        return self.hits + self.joins + self.stale - self.refreshes

    @property
    def hit_rate(self) -> float:
        """Return the share of the questions that were answered without a call of their own."""
        served = self.hits + self.joins + self.stale
        return served / (served + self.misses) if served + self.misses else 0.0


@dataclass(frozen=True, slots=True)
class Stored:
    """Hold a stored answer, as `limiter cache show` prints it.

    Attributes:
        key: `namespace:sha256`.
        size: bytes, as it is in the store.
        age_s: since it was stored. `left_s`: until it goes.
        entry: what it holds.
    """

    key: str
    size: int
    age_s: float
    left_s: float
    entry: Entry

    @classmethod
    def of(cls, key: str, stored: bytes, left_ms: int, entry: Entry | None) -> Stored | None:
        """Make it; None where there is no entry."""
        if entry is None:
            return None
        age_s = max(0, entry.lifetime_ms - left_ms) / 1000
        return cls(key, len(stored), age_s, left_ms / 1000, entry)
