"""What each owner must hear of a run: `lua/lib/mail.lua`, in Python. Pure."""

from __future__ import annotations

from limiter.core.buckets import PRINT_MAX
from limiter.core.flows import Id
from limiter.core.layout import Grant, Message, Status

EARLIER_US = 1000

Timer = tuple[Id, int]  # the ticket whose owner must run next, and when; -1: an event first


class Mail:
    """Hold the letters of one run."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._asking: Id | None = None  # the acquire under way hears of itself by its status
        self._answer: Status | None = None
        self._letters: dict[str, list[Grant]] = {}

    def expect(self, key: Id) -> None:
        """Keep back what is told to one call."""
        self._asking, self._answer = key, None

    def expected(self) -> Status | None:
        """Return what was told to it, if anything."""
        self._asking = None
        return self._answer

    def tell(self, key: Id, status: Status, levels: tuple[int, ...]) -> None:
        """Note that a ticket left the line."""
        if key == self._asking:
            self._answer = status
        else:
            self._letters.setdefault(key[0], []).append(Grant(key[1], status, levels))

    @property
    def own(self) -> list[Grant]:
        """Return what goes into the reply."""
        return self._letters.get(self.owner, [])

    def messages(self, timer: Timer | None, before: Timer | None, now: int) -> dict[str, Message]:
        """Return what goes to the others: grants, and the timer when it is news to its keeper."""
        if timer and _is_news(timer, before):
            self._letters.setdefault(timer[0][0], [])
        messages = {}
        for name, grants in self._letters.items():
            mine = timer is not None and timer[0][0] == name
            messages[name] = Message(due_in(timer, now) if mine else -1, grants)
        messages.pop(self.owner, None)
        return messages


def due_in(timer: Timer | None, now: int) -> int:
    """Return how long until somebody must run; −1: only an event can help."""
    return max(0, min(timer[1] - now, PRINT_MAX)) if timer and timer[1] >= 0 else -1


def soonest(times: list[tuple[int, Id]]) -> Timer | None:
    """Return the first of the earliest; where all wait for an event, the first of all."""
    if not times:
        return None
    coming = [each for each in times if each[0] >= 0]
    at, key = min(coming, key=lambda each: each[0]) if coming else times[0]
    return key, at


def _is_news(timer: Timer, before: Timer | None) -> bool:
    if before is None or timer[0] != before[0]:
        return True
    at, was = timer[1], before[1]
    return at >= 0 and (was < 0 or at < was - EARLIER_US)
