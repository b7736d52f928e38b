"""For the tests of your own programs: no waiting, or a clock in your hand.

    from limiter import testing

    with testing.no_waiting():          # every call that could ever be granted is granted at once
        my_program()

    clock = testing.VirtualClock()      # time stands still until you move it
    limiter = Limiter(clock.url, quotas=[Quota("q", rpm=60)])
    clock.advance(30)

Both use the reference model in this process; no server, no sleeping.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from limiter.core.layout import Outcome, Reply
from limiter.core.request import Batch
from limiter.shells import opening
from limiter.shells.memory import MemoryStore
from limiter.shells.wire import Wire

_AGES_US = 400 * 86_400 * 1_000_000


class VirtualClock:
    """Be the clock of a `memory://` store; limiters made with `url` live by it.

    Attributes:
        url: give it to `Limiter` or `AsyncLimiter`.
    """

    def __init__(self) -> None:
        self.url = f"memory://virtual-{uuid.uuid4().hex}"
        self._now_us = 0
        self._store = MemoryStore.at(self.url)
        self._store.clock = lambda: self._now_us

    @property
    def now(self) -> float:
        """Return the seconds that have passed since the clock was made."""
        return self._now_us / 1e6

    def advance(self, seconds: float) -> None:
        """Let time pass, and grant whoever fits by then."""
        self._now_us += round(seconds * 1e6)
        self._store.pump()


class _Unhurried(MemoryStore):
    """Let ages pass before each operation, so that all buckets are full again."""

    def __init__(self) -> None:
        super().__init__(lambda: self._now_us)
        self._now_us = 0
        self._number = 0

    def run(self, wire: Wire, batch: Batch) -> Reply:
        """Run each entry of a batch at a time of its own."""
        reply = Reply(Outcome.DONE)
        results = []
        for entry in batch.entries:
            self._now_us += _AGES_US
            self._number += 1
            reply = super().run(wire, Batch(self._number, batch.version, [], [entry]))
            results += reply.results
        if not batch.entries:
            self._number += 1
            return super().run(wire, Batch(self._number, batch.version, [], []))
        reply.results[:] = results
        return reply


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Grant at once whatever could ever be granted, in all limiters that are first used inside.

    What can never fit is still refused, and a `concurrency` limit still waits for the calls that
    hold its slots: those are mistakes a test should find.
    """
    before = opening.forced
    opening.forced = _Unhurried()
    try:
        yield
    finally:
        opening.forced = before
