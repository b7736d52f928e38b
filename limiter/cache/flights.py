"""What both drivers know of the calls that this process makes for others: flights, figures, health."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limiter.cache.looking import Found
from limiter.cache.policy import Question

log = logging.getLogger("limiter")

FLUSH_S = 1.0
_AWAY_S, _AWAY_MAX_S = 0.5, 30.0
_REFUSED_S = 60.0


@dataclass(slots=True, eq=False)
class Flight:
    """Be the task of getting an answer.

    Attributes:
        question: whose answer.
        id: that the store knows it by.
        leads: others wait for it.
        state: `open`, then `filled` or `left`.
    """

    question: Question
    id: str
    leads: bool
    state: str = "open"

    def end(self, state: str) -> bool:
        """Take the one step out of `open`; say whether this call took it."""
        if self.state != "open":
            return False
        self.state = state
        return True


class Figures:
    """Count what happens, until it is told to the fleet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def count(self, name: str, n: int = 1) -> None:
        """Add to a figure."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + n

    def ended(self, found: Found) -> None:
        """Count what a question that was answered has saved."""
        names = {"hit": "hits", "join": "joins", "stale": "stale"}
        if found.how in names and found.entry is not None:
            self.count(names[found.how])
            self.count("tokens_saved", found.entry.tokens)

    def taken(self) -> Mapping[str, int]:
        """Return what was counted since the last time."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to tell."""
        return not self._counts


class Health:
    """Know whether the store answers; while it does not, a question costs nothing.

    It is tried again after half a second, then twice as long each time, up to half a minute.
    """

    def __init__(self) -> None:
        self._pause_s = _AWAY_S
        self._until = 0.0
        self._is_away = False
        self._refused_until = 0.0

    @property
    def is_away(self) -> bool:
        """Say whether it did not answer the last time."""
        return self._is_away

    def may_ask(self, now: float) -> bool:
        """Say whether to ask the store; while it is away, one at a time tries."""
        if not self._is_away:
            return True
        if now < self._until:
            return False
        self._until = now + _AWAY_S
        return True

    def failed(self, now: float, error: Any) -> None:
        """Note that it did not answer; said once."""
        if not self._is_away:
            log.warning("The cache is away, so calls go without it: %s", error)
        self._is_away = True
        self._until = now + self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(_AWAY_MAX_S, 2 * self._pause_s)

    def refused(self, now: float, error: Any) -> None:
        """Note that it answered, and not as we asked: full, or of another mind; said once a minute.

        It may still tell what it has: so it is asked again, and an answer in between ends nothing.
        """
        if now >= self._refused_until:
            log.warning("The cache does not do what it is asked: %s", error)
            self._refused_until = now + _REFUSED_S

    def fine(self) -> None:
        """Note that it answered."""
        if self._is_away:
            log.info("The cache is back.")
            self._is_away, self._pause_s = False, _AWAY_S
