"""How long answers became, by what their calls have in common: `lua/lib/outputs.lua`, in Python.

Pure. A unit never has more than `SKETCHES` keys, whatever is told.
"""

from __future__ import annotations

from limiter.core.layout import Forecast, Result, Status
from limiter.core.sketch import Sketch

SKETCHES = 64


class Outputs:
    """Hold the sketches of one unit by the text of their keys."""

    def __init__(self) -> None:
        self._sketches: dict[str, Sketch] = {}

    def __len__(self) -> int:
        return len(self._sketches)

    def answer(self, entry: Forecast, now: int, *, held: bool) -> Result:
        """Count an answer if its reservation is still held; say how many are known, and the quantile."""
        status = Status.DONE
        if entry.bucket and held:
            self._count(entry.key, entry.bucket, now)
        elif entry.bucket:
            status = Status.GONE  # a replay, behind the settling: it was counted
        sketch = self._sketches.get(entry.key, Sketch())
        return Result(status, levels=(sketch.total, sketch.quantile(entry.permille)))

    def _count(self, key: str, bucket: int, now: int) -> None:
        """Count one answer; a new key takes the place of the one that weighs least."""
        if key not in self._sketches and len(self._sketches) >= SKETCHES:
            weights = ((each.weight(now), name.encode()) for name, each in self._sketches.items())
            del self._sketches[min(weights)[1].decode()]
        self._sketches.setdefault(key, Sketch()).add(bucket, now)
