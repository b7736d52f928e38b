"""Remember millions of ids in a few dozen bytes each.

A set of Python strings takes some 150 bytes per id, which for an input of a gigabyte is as much as
the input. Ids stand here as 120 bits of a hash: among ten million, the chance that any two fall
together is below 10^-22.
"""

from __future__ import annotations

from hashlib import blake2b

FINISHED = 1
SEEN = 2

_SLOT = 16  # one byte of flags, 15 of hash
_LEAST_SLOTS = 1 << 10


class IdTable:
    """Keep flags by id: an open-addressing hash table in one bytearray, at most 2/3 full."""

    def __init__(self) -> None:
        self._slots = _LEAST_SLOTS
        self._table = bytearray(self._slots * _SLOT)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def mark(self, name: str, flag: int) -> int:
        """Add a flag to an id; return the flags that it had before, 0 for a new one."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_SLOT - 1).digest()
        at = self._place(digest)
        before = self._table[at]
        self._table[at] = before | flag
        if not before:
            self._table[at + 1 : at + _SLOT] = digest
            self._count += 1
            if self._count * 3 > self._slots * 2:
                self._grow()
        return before

    def _place(self, digest: bytes | bytearray) -> int:
        """Return where a digest stands, or where it would."""
        table, size = self._table, len(self._table)
        at = (int.from_bytes(digest[:8], "little") % self._slots) * _SLOT
        while table[at] and table[at + 1 : at + _SLOT] != digest:
            at = (at + _SLOT) % size
        return at

    def _grow(self) -> None:
        before = self._table
        self._slots *= 2
        self._table = bytearray(self._slots * _SLOT)
        for start in range(0, len(before), _SLOT):
            if before[start]:
                slot = before[start : start + _SLOT]
                at = self._place(slot[1:])
                self._table[at : at + _SLOT] = slot
