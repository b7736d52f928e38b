"""How many calls a worker holds, and of which levels. Pure.

A call that is taken waits in the limiter's line, and there its priority and its tenant decide. So a
worker takes no more than will be granted soon: what it holds back from others would only wait with it.
What is more urgent than what waits here is taken even if the worker is full; the least urgent one that
waits goes back for it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from limiter.queue.ops import Want

# So many seconds of grants are held: more than a take and a round trip of the line need.
AHEAD_S = 0.5
_LEAST = 2
_RATE_S = 5.0


C = TypeVar("C", bound=Hashable)


class Holding(Generic[C]):
    """Follow the calls of one worker.

    Args:
        concurrency: calls that it makes at a time.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._waiting: dict[C, int] = {}  # levels, in the order in which they were taken
        self._sending: set[C] = set()
        self._grants: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sending)

    @property
    def waiting(self) -> list[C]:
        """Return the calls that wait in line."""
        return list(self._waiting)

    def took(self, call: C, level: int) -> None:
        """Note a call that was taken."""
        self._waiting[call] = level

    def granted(self, call: C, now: float) -> None:
        """Note that a call has its turn."""
        if self._waiting.pop(call, None) is not None:
            self._sending.add(call)
            self._grants.append(now)
            while now - self._grants[0] > _RATE_S:
                self._grants.popleft()

    def ended(self, call: C) -> None:
        """Note that a call is over."""
        self._waiting.pop(call, None)
        self._sending.discard(call)

    @property
    def window(self) -> int:
        """Return how many calls of a level may wait in line."""
        soon = math.ceil(AHEAD_S * len(self._grants) / _RATE_S)
        return min(self._concurrency, max(_LEAST, 2 * soon))

    def want(self) -> Want | None:
        """Say what to take now; None: nothing."""
        levels = Counter(self._waiting.values())
        window = self.window
        allowed = {level: max(0, window - n) for level, n in levels.items()}
        room = self._concurrency - len(self)
        if room > 0:
            return Want(room, min(room, window), None, allowed)
        if not levels:
            return None
        return Want(window, window, min(levels), allowed)

    def surplus(self) -> list[C]:
        """Return the calls to give back, so that no more are held than may be: the least urgent, newest first."""
        over = len(self) - self._concurrency
        if over <= 0:
            return []
        newest = list(reversed(self._waiting))
        return sorted(newest, key=self._waiting.__getitem__)[:over]
