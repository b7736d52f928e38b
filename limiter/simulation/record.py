"""What happened to each call of a replay, as compact arrays: 18 bytes for a call. Pure."""

from __future__ import annotations

import enum
from array import array
from collections.abc import Iterator

from limiter.simulation.workload import Call


class Ending(enum.IntEnum):
    """Say how a call's wait ended."""

    OPEN = 0
    GRANTED = 1
    TIMED_OUT = 2
    REFUSED = 3  # it never fits, or its line is full


class Record:
    """Hold, by `n - 1`, who arrived when, how long it waited, and how that ended.

    Attributes:
        arrived_us: virtual.
        waited_us: 0 while the ending is open.
        ended_us: when the last call that was served came to its end.
    """

    def __init__(self) -> None:
        self.arrived_us = array("q")
        self.waited_us = array("q")
        self.endings = array("b")
        self.priorities = array("B")
        self.ended_us = 0
        self.runs = 0

    def asked(self, call: Call) -> None:
        """Note an arrival; they come in the order of their numbers."""
        self.arrived_us.append(call.at_us)
        self.waited_us.append(0)
        self.endings.append(Ending.OPEN)
        self.priorities.append(call.priority)

    def answered(self, call: Call, now_us: int, ending: Ending) -> None:
        """Note the end of a wait."""
        self.waited_us[call.n - 1] = now_us - call.at_us
        self.endings[call.n - 1] = ending

    def outcomes(self, priority: int | None = None) -> Iterator[tuple[int, int, int]]:
        """Yield (arrived_us, waited_us, ending) of each call of a priority, or of all."""
        for place, outcome in enumerate(
            zip(self.arrived_us, self.waited_us, self.endings, strict=True)
        ):
            if priority in (None, self.priorities[place]):
                yield outcome
