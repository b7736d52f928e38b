"""`memory://`: the reference model as a store of one process, shared by all its threads and loops.

`memory://name` is one store for each name. Same operations and results as the scripts; nothing of it
is seen by another process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from limiter.core import definition, layout
from limiter.core.layout import Keys, Message, Reply
from limiter.core.model import Model
from limiter.core.request import Batch
from limiter.shells.wire import Wire

Clock = Callable[[], int]
Deliver = Callable[[str, Message], None]

_stores: dict[str, MemoryStore] = {}
_stores_lock = threading.Lock()


def now_us() -> int:
    """Return the process's monotonic clock in microseconds."""
    return time.monotonic_ns() // 1000


class MemoryStore:
    """Hold models by quota, behind one lock."""

    sharded = False

    def __init__(self, clock: Clock = now_us) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._models: dict[str, Model] = {}
        self._found: dict[str, tuple[str, str, str]] = {}
        self._listeners: dict[str, Deliver] = {}

    @classmethod
    def at(cls, url: str) -> MemoryStore:
        """Return the store of a URL, the same for all who ask."""
        with _stores_lock:
            return _stores.setdefault(url, cls())

    def run(self, wire: Wire, batch: Batch) -> Reply:
        """Run one batch."""
        owner, lease_us = wire.owner, wire.lease_us
        with self._lock:
            model = self._models.get(wire.keys.quota)
            if model is None:
                return Reply(layout.Outcome.UNDECLARED)
            reply, messages = model.run(
                self.clock(), owner, batch.number, lease_us, batch.version, batch.entries
            )
        self._send(wire.keys, messages)
        return reply

    def _send(self, keys: Keys, messages: dict[str, Message]) -> None:
        # After the lock: whoever hears it may run a batch at once.
        for owner, message in messages.items():
            deliver = self._listeners.get(keys.wake + owner)
            if deliver:
                deliver(keys.wake + owner, message)

    def pump(self) -> None:
        """Grant whoever fits by now; a clock that was moved by hand wakes nobody by itself."""
        for model in list(self._models.values()):
            with self._lock:
                _, messages = model.run(
                    self.clock(), "observer", 0, 0, model.definition.version, []
                )
            self._send(layout.keys(model.definition.name), messages)

    def read(self, keys: Keys) -> tuple[str, str, str] | None:
        """Return a quota's definition, or None."""
        return self._found.get(keys.quota)

    def declare(self, keys: Keys, seen: str, text: str, origin: str) -> tuple[bool, str]:
        """Replace a definition if it is still the one seen."""
        with self._lock:
            old = self._found.get(keys.quota, ("", "", ""))[0]
            if old != seen:
                return False, old
            version = str(int(old or 0) + 1)
            self._found[keys.quota] = (version, text, origin)
            new = definition.read(layout.quota_of(keys.quota), version, text)
            if keys.quota in self._models:
                self._models[keys.quota].redefine(new, self.clock())
            else:
                self._models[keys.quota] = Model(new, self.clock())
        return True, version

    def names(self) -> list[str]:
        """List the declared quotas."""
        return sorted(layout.quota_of(key) for key in self._found)

    def subscribe(self, channel: str, deliver: Deliver) -> None:
        """Call `deliver` with each wake-up on a channel."""
        self._listeners[channel] = deliver

    def close(self) -> None:
        """Do nothing: the store lives as long as the process."""
