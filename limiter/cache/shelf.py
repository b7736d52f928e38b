"""The cache's scripts in plain Python: the reference model, and the store of `memory://`.

The same verbs and replies as `lua/cache`, with the time as an argument. What is kept is bounded: the
answer that was not asked for the longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

HIT, LEAD, WAIT, PASS = 1, 2, 3, 4
FAILURES_MAX = 2
GONE = -2  # the time to live of what is not there, as Redis says it

Reply = list[int | bytes]


@dataclass(slots=True)
class _Flight:
    until_ms: int = 0
    holder: str | None = None
    rank: int = 0
    failures: int = 0
    waiting: dict[str, None] = field(default_factory=dict)


class Shelf:
    """Hold answers and flights.

    Attributes:
        most_bytes: of all answers together.
        figures: counts by name.
    """

    def __init__(self, most_bytes: int = 2**26) -> None:
        self.most_bytes = most_bytes
        self.figures: dict[str, int] = {}
        self._answers: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._bytes = 0

    def look(self, now_ms: int, key: str, most: int) -> tuple[bytes, int]:
        """Return an answer and its time to live; b"" where there is none."""
        found = self._answers.get(key)
        if found is not None and found[1] <= now_ms:
            self.drop(key)
            found = None
        if found is None or len(found[0]) > most:
            return b"", GONE
        self._answers.move_to_end(key)
        return found[0], found[1] - now_ms

    def claim(self, now_ms: int, key: str, id_: str, channel: str, rank: int, lease_ms: int,
              most: int, seen: bytes) -> Reply:  # fmt: skip
        """Ask for an answer, or for the task of getting it; see claim.lua."""
        found, left_ms = self.look(now_ms, key, most)
        if found and not (seen and found.startswith(seen)):
            return [HIT, found, left_ms]
        flight = self._flight(now_ms, key) or _Flight()
        if flight.failures >= FAILURES_MAX:
            return [PASS]
        if flight.holder is not None and flight.holder != id_ and flight.rank >= rank:
            if channel:
                flight.waiting[channel] = None
            return [WAIT, flight.until_ms - now_ms]
        flight.holder, flight.rank, flight.until_ms = id_, rank, now_ms + lease_ms
        self._flights[key] = flight
        return [LEAD]

    def fill(self, now_ms: int, key: str, answer: bytes, lifetime_ms: int) -> list[str]:
        """Store an answer; return whom to wake."""
        self.drop(key)
        self._answers[key] = answer, now_ms + lifetime_ms
        self._bytes += len(answer)
        while self._bytes > self.most_bytes and self._answers:
            self.drop(next(iter(self._answers)))
        flight = self._flight(now_ms, key)
        self._flights.pop(key, None)
        return list(flight.waiting) if flight else []

    def leave(
        self, now_ms: int, key: str, id_: str, how: str, lease_ms: int
    ) -> tuple[int, list[str]]:
        """Give a flight up, or say that it goes on; return whether it was his, and whom to wake."""
        flight = self._flight(now_ms, key)
        if flight is None or flight.holder != id_:
            return 0, []
        flight.until_ms = now_ms + lease_ms
        if how == "alive":
            return 1, []
        woken = list(flight.waiting)
        flight.holder, flight.rank = None, 0
        flight.waiting.clear()
        flight.failures += how == "failed"
        if not flight.failures:
            del self._flights[key]
        return 1, woken

    def drop(self, key: str) -> None:
        """Forget an answer."""
        found = self._answers.pop(key, None)
        if found:
            self._bytes -= len(found[0])

    def keys(self) -> list[str]:
        """List whose answers are kept."""
        return list(self._answers)

    def _flight(self, now_ms: int, key: str) -> _Flight | None:
        flight = self._flights.get(key)
        if flight is not None and flight.until_ms <= now_ms:
            del self._flights[key]
            return None
        return flight
