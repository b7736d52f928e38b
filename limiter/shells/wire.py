"""What one batch looks like as a Redis command. Almost all of it never changes: it is packed once."""

from __future__ import annotations

from limiter import scripts
from limiter.core import layout
from limiter.core.layout import Keys
from limiter.core.request import Batch

Argument = str | bytes | int


def _bulk(value: object) -> bytes:
    raw = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%s\r\n" % (len(raw), raw)


class Wire:
    """Write the batches of one owner on one quota, as bytes or as arguments."""

    def __init__(self, keys: Keys, owner: str, lease_us: int, *, sharded: bool = False) -> None:
        self.script = scripts.load("run")
        self.keys = keys
        self.owner = owner
        self.lease_us = lease_us
        self.channel = keys.wake + owner
        self._front: tuple[Argument, ...] = ("0", owner)
        self._lease = str(lease_us)
        self._back: tuple[Argument, ...] = (keys.wake, "SPUBLISH" if sharded else "PUBLISH")
        head = ("EVALSHA", self.script.sha, len(keys.all()), *keys.all(), *self._front)
        # Eight arguments follow the keys: two in front, four that change or follow, two behind.
        self._head = b"*%d\r\n" % (len(head) + 6) + b"".join(map(_bulk, head))
        self._tail = b"".join(map(_bulk, self._back))
        self._middle_of = ("", b"")

    def packed(self, batch: Batch) -> bytes:
        """Return the EVALSHA command in RESP."""
        version, middle = self._middle_of
        if version != batch.version:
            middle = _bulk(self._lease) + _bulk(batch.version)
            self._middle_of = (batch.version, middle)
        entries = layout.pack_entries(batch.entries)
        return b"%s%s%s%s%s" % (self._head, _bulk(batch.number), middle, self._tail, _bulk(entries))

    def arguments(self, batch: Batch) -> tuple[Argument, ...]:
        """Return the keys and arguments, for EVAL and for clients that route by key."""
        return (
            *self.keys.all(), *self._front, batch.number, self._lease, batch.version,
            *self._back, layout.pack_entries(batch.entries),
        )  # fmt: skip
