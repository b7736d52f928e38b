"""A stored answer as bytes: msgpack in an envelope that shows whether it is whole. Pure.

    byte 0        the version of this layout
    byte 1        0: plain · 1: the rest is compressed with zlib
    bytes 2-17    BLAKE2b of byte 0, byte 1 and the rest, keyed with the entry's own key
    the rest      msgpack: [kind, data, meta]

Whatever was changed, cut, or copied from another key reads as None, and nothing is unpacked, or
allocated by what it claims, before that is known. Whoever can write to the cache can make an
envelope of his own: so lengths are bounded all the same, and no class is ever named by the data.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from dataclasses import dataclass, field
from typing import Any

import msgpack

VERSION = 1
HEAD_BYTES = 18
_CHECK_BYTES = 16
_PLAIN, _ZLIB = 0, 1
_COUNT_MAX = 2**53  # far above any, and exact in whatever adds them up

KINDS = ("json", "sse", "value", "items")


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold an answer.

    Attributes:
        kind: `json` and `sse`: the body of an HTTP response, whole, without a coding. `value`: what a
            function returned, `items`: what a generator did.
        data: bytes of a body; else what JSON has.
        lifetime_ms: how long the store keeps it from its beginning.
        fresh_ms: how long of that it needs no refreshing.
        tokens: what the provider charged for it, as its usage tells; 0: unknown.
        headers: the few of the response that say whose answer it is.
    """

    kind: str
    data: Any
    lifetime_ms: int
    fresh_ms: int
    tokens: int = 0
    headers: dict[str, str] = field(default_factory=dict)


def write(key: str, entry: Entry, compress_above: int, most: int) -> bytes:
    """Return an entry as it is stored under `key`; `read` returns an equal one.

    Args:
        key: whose it is.
        entry: what it holds.
        compress_above: bytes from which on it is compressed.
        most: bytes that it may have, as it is stored and as it is unpacked.

    Raises:
        ValueError, TypeError, OverflowError: it is too large, or a value in it would not come back as
            it is: a tuple, an object, a number as a key.
    """
    meta = [entry.lifetime_ms, entry.fresh_ms, entry.tokens, entry.headers]
    packed: bytes = msgpack.packb([entry.kind, entry.data, meta], strict_types=True)
    if HEAD_BYTES + len(packed) > most:
        raise ValueError(f"{len(packed)} bytes, and an entry may have {most}")
    if _entry(_unpacked(packed)) is None:
        raise ValueError("not what an entry is made of")
    coding = _PLAIN
    if len(packed) > compress_above:
        small = zlib.compress(packed, 6)
        if len(small) < len(packed):
            packed, coding = small, _ZLIB
    head = bytes((VERSION, coding))
    return head + _check(key, head, packed) + packed


def read(key: str, stored: bytes, most: int) -> Entry | None:
    """Return the entry that was stored under `key`; None: it is damaged, foreign, or too large.

    Args:
        key: whose it must be.
        stored: what the store has.
        most: bytes that it may unpack to.
    """
    head, check, packed = stored[:2], stored[2:HEAD_BYTES], stored[HEAD_BYTES:]
    if len(stored) <= HEAD_BYTES or head[0] != VERSION or head[1] not in (_PLAIN, _ZLIB):
        return None
    if not hmac.compare_digest(check, _check(key, head, packed)):
        return None
    plain = _inflated(packed, most) if head[1] == _ZLIB else packed
    if plain is None or len(plain) > most:
        return None
    try:
        return _entry(_unpacked(plain))
    except (ValueError, msgpack.OutOfData):  # UnicodeDecodeError and StackError are ValueErrors
        return None


def _unpacked(plain: bytes) -> object:
    """Undo msgpack.

    What is claimed is walked through before anything is made of it: an array that says it has a million
    elements would be allocated before the first one is missed, and another within it, and so on.
    """
    walker = msgpack.Unpacker(max_buffer_size=len(plain))
    walker.feed(plain)
    walker.skip()
    # A timestamp is an extension that no hook sees; so there may be none that has a length.
    found: object = msgpack.unpackb(plain, strict_map_key=True, ext_hook=_refuse, max_ext_len=0)
    return found


def _refuse(code: int, data: bytes) -> object:
    raise ValueError(f"an extension {code} of {len(data)} bytes, and there are none")


def _check(key: str, head: bytes, packed: bytes) -> bytes:
    # A key of BLAKE2b has 64 bytes at most; ours may have any.
    whose = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=64).digest()
    keyed = hashlib.blake2b(head, digest_size=_CHECK_BYTES, key=whose)
    keyed.update(packed)
    return keyed.digest()


def _inflated(packed: bytes, most: int) -> bytes | None:
    """Undo the compression, of a whole stream that is no longer than it may be."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(packed, most + 1)
    except zlib.error:
        return None
    return plain if inflate.eof and not inflate.unused_data else None


def _entry(found: Any) -> Entry | None:
    match found:
        case [str(kind), data, [lifetime_ms, fresh_ms, tokens, dict(headers)]] if kind in KINDS:
            counts = (lifetime_ms, fresh_ms, tokens)
        case _:
            return None
    are_counts = all(type(n) is int and 0 <= n < _COUNT_MAX for n in counts)
    are_texts = all(isinstance(text, str) for pair in headers.items() for text in pair)
    is_body = isinstance(data, bytes) or kind not in {"json", "sse"}
    is_list = isinstance(data, list) or kind != "items"
    if not (are_counts and are_texts and is_body and is_list):
        return None
    return Entry(kind, data, *counts, headers)
