"""Lengths of answers, compactly: numbers of tokens become buckets, and buckets are counted.

Pure; `lua/lib/outputs.lua` counts in the same way. A sketch never has more than `BUCKETS` counts.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

LEAST = 20  # answers; of fewer no quantile is told: of 20, two are above the 90th percentile
FULL = 1_000  # then all counts are halved: an answer weighs half after every 500 that follow
DAY_US = 86_400_000_000
LARGEST = 2**30  # tokens; what is longer counts as this


def _buckets() -> tuple[list[int], list[int]]:
    """Return the last number of each bucket, and its middle, which is within 5 % of all in it.

    Each is as wide as that allows in whole numbers: up to 18 tokens a bucket has one of them, then
    its ends grow by a tenth: 197 buckets up to the largest.
    """
    tops, middles, first = [], [], 1
    while first <= LARGEST:
        middles.append(first * 21 // 20)
        tops.append(middles[-1] * 20 // 19)
        first = tops[-1] + 1
    return tops, middles


_TOPS, _MIDDLES = _buckets()
BUCKETS = len(_TOPS)


def bucket_of(tokens: int) -> int:
    """Return the bucket of a number of tokens: 1 to `BUCKETS`."""
    return bisect_left(_TOPS, max(1, min(tokens, LARGEST))) + 1


def tokens_of(bucket: int) -> int:
    """Return a number of tokens within 5 % of all that are in a bucket."""
    return _MIDDLES[bucket - 1]


class OutputKey(NamedTuple):
    """Name the calls whose answers are alike in length, and which quantile of these is asked for."""

    text: str
    permille: int


class Observation(NamedTuple):
    """Hold the bucket of one answer; 0: none, the quantile is only asked for."""

    key: OutputKey
    bucket: int = 0


@dataclass(slots=True)
class Sketch:
    """Count how often each bucket was seen."""

    at: int = 0
    total: int = 0
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, bucket: int, now: int) -> None:
        """Count one answer."""
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total, self.at = self.total + 1, now
        if self.total >= FULL:
            self._halve()

    def _halve(self) -> None:
        """Halve the sum up to each bucket, and so the total: no quantile moves by more than one answer."""
        halved, until = {}, 0
        for bucket, count in sorted(self.counts.items()):
            before, until = until, until + count
            if left := until // 2 - before // 2:
                halved[bucket] = left
        self.counts, self.total = halved, self.total // 2

    def quantile(self, permille: int) -> int:
        """Return the bucket that so many of a thousand answers are not above; 0: too few were seen."""
        rank = -(-self.total * permille // 1000)
        for bucket, count in sorted(self.counts.items()) if self.total >= LEAST else ():
            rank -= count
            if rank <= 0:
                return bucket
        return 0

    def weight(self, now: int) -> int:
        """Return the total, halved for each day since the last answer."""
        return self.total >> max(0, now - self.at) // DAY_US
