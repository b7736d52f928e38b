"""What one process knows of how long answers become, and what it asks the store about.

Pure, and used by several threads without a lock: each step is one that the interpreter does not divide,
and the worst that two of them do to each other is a question put twice.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from limiter.core.sketch import OutputKey, tokens_of

FRESH_US = 10_000_000  # what was heard longer ago is asked anew, by whoever needs it
KEYS = 256  # beyond them all are forgotten, and asked anew; the store knows fewer of a unit
QUESTIONS = 64  # in a batch


class Known(NamedTuple):
    """Hold the newest answer; None: too few calls have ended, or none has come yet."""

    tokens: int | None
    at_us: int  # when it was heard, or asked for


class Forecasts:
    """Hold the newest quantiles of one unit by key."""

    def __init__(self) -> None:
        self._known: dict[OutputKey, Known] = {}
        self._wanted: deque[OutputKey] = deque(maxlen=QUESTIONS)

    def expected(self, key: OutputKey, now_us: int) -> int | None:
        """Return how many tokens an answer takes; None: not known (yet).

        What is not known, or is old, is asked with the next batch, which is the reservation of the
        call that needs it: no round trip is made for it, and the next call knows it.
        """
        known = self._known.get(key)
        if known is None or now_us >= known.at_us + FRESH_US:
            self._note(key, known.tokens if known else None, now_us)
            self._wanted.append(key)
        return known.tokens if known else None

    def questions(self) -> list[OutputKey]:
        """Take what is to be asked."""
        found = []
        while self._wanted:
            try:
                found.append(self._wanted.popleft())
            except IndexError:  # another thread was faster
                break
        return found

    def heard(self, key: OutputKey, bucket: int, now_us: int) -> None:
        """Take an answer: the bucket of the quantile, 0 where too few calls have ended."""
        self._note(key, tokens_of(bucket) if bucket else None, now_us)

    def _note(self, key: OutputKey, tokens: int | None, now_us: int) -> None:
        if len(self._known) >= KEYS and key not in self._known:
            self._known.clear()
        self._known[key] = Known(tokens, now_us)
