"""Count what happened in each second of the last hour. Pure: time is an argument.

An hour and no more, so that a server may run for ever; a second in which nothing happened has no
row.
"""

from __future__ import annotations

from collections import deque
from typing import Any

KEPT_S = 3_600
COUNTS = ("accepted", "refused", "refused_by_command", "refused_by_concurrency", "tokens")


class Timeline:
    """Hold one row for each second with events, oldest first; times never go back."""

    def __init__(self) -> None:
        self._rows: deque[dict[str, Any]] = deque()

    def note(self, at_s: int, levels: dict[str, float], **counts: int) -> None:
        """Add `counts` to the second `at_s`, and keep the levels as its last event left them."""
        if not self._rows or self._rows[-1]["at_s"] < at_s:
            self._rows.append({"at_s": at_s, **dict.fromkeys(COUNTS, 0)})
        row = self._rows[-1]
        for name, amount in counts.items():
            row[name] += amount
        row["levels"] = levels
        while self._rows[0]["at_s"] <= at_s - KEPT_S:
            self._rows.popleft()

    def since(self, at_s: float) -> list[dict[str, Any]]:
        """Give the rows from the second that `at_s` lies in."""
        return [row for row in self._rows if row["at_s"] > at_s - 1]
