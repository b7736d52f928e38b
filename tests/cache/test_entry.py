"""Stored values: whole ones come back as they were, all others read as None, whoever wrote them.

`LIMITER_SEQUENCES` sets how many random values are tried.
"""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limiter.cache import entry as entries
from limiter.cache.control import Control
from limiter.cache.entry import HEAD_BYTES, Entry, read, write
from limiter.cache.policy import Question
from limiter.cache.settings import Settings

MOST = 2**20
VALUES = int(os.environ.get("LIMITER_SEQUENCES", "150")) * 20
KEY = "n-team:" + "a" * 64
META = [1000, 900, 7, {"x-request-id": "r"}]
# What a value may be unpacked to is `most` bytes of msgpack, and of these each may be an empty map,
# which has 64 bytes and a place of 8 in its list: 72 MB for a megabyte. Then what is fed, and a copy.
PEAK_BYTES = 80 * MOST
# What is not made of anything: as it is stored, unpacked, fed to be walked through, and a copy of each.
FLAT_BYTES = 6 * MOST

leaf = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(), st.binary(),
    st.floats(allow_nan=False),
)  # fmt: skip
data = st.recursive(
    leaf, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)
count = st.integers(0, 2**53 - 1)
rest = (count, count, count, st.dictionaries(st.text(), st.text(), max_size=3))
entry = st.one_of(
    st.builds(Entry, st.sampled_from(["json", "sse"]), st.binary(max_size=3000), *rest),
    st.builds(Entry, st.just("value"), data, *rest),
    st.builds(Entry, st.just("items"), st.lists(data), *rest),
)
small = Entry("json", b'{"choices": [1, 2, 3]}', 1000, 900, 7, {"a": "b"})
SAMPLES = {
    "plain": write(KEY, small, MOST, MOST),
    "compressed": write(KEY, Entry("json", b"abcdefgh" * 40, 1000, 900), 1, MOST),
}


def forged(plain: bytes, coding: int = 0, version: int = 1) -> bytes:
    """Do as one who can write to the cache, and knows how envelopes are made."""
    head = bytes((version, coding))
    return head + entries._check(KEY, head, plain) + plain


@given(entry=entry, above=st.integers(0, 4000))
def test_what_is_written_is_read(entry: Entry, above: int) -> None:
    """Whatever is accepted comes back equal, compressed or not."""
    assert read(KEY, write(KEY, entry, above, MOST), MOST) == entry


odd = st.recursive(
    leaf | st.just(()) | st.just(msgpack.Timestamp(1, 2)) | st.just(msgpack.ExtType(4, b"x"))
    | st.just("\ud800") | st.just(2**70) | st.builds(object),
    lambda inner: st.lists(inner) | st.dictionaries(leaf.filter(lambda k: k == k), inner)
    | st.tuples(inner), max_leaves=6,
)  # fmt: skip


@given(kind=st.sampled_from([*entries.KINDS, "other", ""]), odd=odd, count=odd, headers=odd)
@example("value", {1: 2}, 0, {}).via("a number as a key is not read back")
@example("value", (1,), 0, {}).via("nor is a tuple")
@example("value", msgpack.Timestamp(1), 0, {}).via("nor a point in time")
@example("json", "text", 0, {}).via("a body is bytes")
@example("value", 1, 2**53, {}).via("counts are exact wherever they are added up")
def test_what_would_not_come_back_is_refused(kind: str, odd: Any, count: Any, headers: Any) -> None:
    """It is written and comes back equal, or it is not written."""
    try:
        stored = write(KEY, made := Entry(kind, odd, 1, 1, count, headers), 1024, MOST)
    except (ValueError, TypeError, OverflowError):
        return
    assert read(KEY, stored, MOST) == made


@pytest.mark.parametrize("name", SAMPLES)
def test_a_changed_byte_is_seen(name: str) -> None:
    """Every bit of every byte in turn, of the head too."""
    stored = SAMPLES[name]
    for place in range(len(stored)):
        for bit in range(8):
            damaged = bytearray(stored)
            damaged[place] ^= 1 << bit
            assert read(KEY, bytes(damaged), MOST) is None


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_cut_or_longer_is_seen(name: str) -> None:
    """Every length but the whole one, and anything behind it."""
    stored = SAMPLES[name]
    assert [read(KEY, stored[:n], MOST) for n in range(len(stored))] == [None] * len(stored)
    for more in (b"\0", b"\xc0", stored, b"x" * 1000):
        assert read(KEY, stored + more, MOST) is None


@pytest.mark.parametrize("name", SAMPLES)
@given(key=st.text())
@example("")
@example(KEY + "a")
@example("n-team:" + "b" * 64)
def test_what_was_copied_is_seen(name: str, key: str) -> None:
    """An answer under another key is nobody's."""
    assert (read(key, SAMPLES[name], MOST) is None) is (key != KEY)


@settings(max_examples=VALUES)
@given(stored=st.binary(max_size=200))
def test_anything_at_all_reads_as_none(stored: bytes) -> None:
    """Random bytes, alone and with the first bytes of ours."""
    assert read(KEY, stored, MOST) is None
    assert read(KEY, bytes((1, 0)) + stored, MOST) is None
    assert read(KEY, bytes((1, 1)) + stored, MOST) is None


def is_entry(found: object) -> bool:
    """Say what an entry is, in other words than the code."""
    if found is None:
        return True
    assert isinstance(found, Entry)
    counts = (found.lifetime_ms, found.fresh_ms, found.tokens)
    return (
        found.kind in entries.KINDS
        and all(type(n) is int and 0 <= n < 2**53 for n in counts)
        and all(type(each) is str for pair in found.headers.items() for each in pair)
        and (found.kind not in ("json", "sse") or type(found.data) is bytes)
        and (found.kind != "items" or type(found.data) is list)
        and is_plain(found.data)
    )


def is_plain(data: object) -> bool:
    if isinstance(data, list):
        return all(map(is_plain, data))
    if isinstance(data, dict):
        return all(type(name) in (str, bytes) and is_plain(each) for name, each in data.items())
    return data is None or type(data) in (bool, int, float, str, bytes)


@settings(max_examples=VALUES)
@given(plain=st.binary(max_size=200), coding=st.integers(0, 3))
def test_a_forged_envelope_holds_an_entry_or_nothing(plain: bytes, coding: int) -> None:
    """With a right checksum around anything: no exception, and no entry of another shape."""
    assert is_entry(read(KEY, forged(plain, coding), MOST))
    assert is_entry(read(KEY, forged(zlib.compress(plain), coding), MOST))


foreign = st.recursive(
    leaf | st.just(msgpack.Timestamp(1)) | st.just(msgpack.ExtType(5, b"y")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 9), inner),
)  # fmt: skip


@settings(max_examples=VALUES // 3)
@given(kind=st.sampled_from(entries.KINDS) | foreign, data=foreign,
       meta=st.lists(foreign, max_size=5) | st.just(META) | foreign,
       more=st.sampled_from([[], [], [1]]))  # fmt: skip
def test_foreign_msgpack_holds_an_entry_or_nothing(
    kind: Any, data: Any, meta: Any, more: Any
) -> None:
    """Values of all types in all places."""
    plain = msgpack.packb([kind, data, meta, *more])
    assert is_entry(read(KEY, forged(plain), MOST))
    assert not more or read(KEY, forged(plain), MOST) is None


WRONG = {
    "timestamp": ["value", msgpack.Timestamp(1, 2), META],
    "timestamp within": ["value", [{"a": msgpack.Timestamp(1)}], META],
    "extension": ["value", msgpack.ExtType(1, b"x"), META],
    "extension of no length": ["value", msgpack.ExtType(1, b""), META],
    "number as a key": ["value", {1: 2}, META],
    "text as a body": ["json", "x", META],
    "map as items": ["items", {}, META],
    "unknown kind": ["pickle", b"x", META],
    "no meta": ["value", 1],
    "short meta": ["value", 1, META[:3]],
    "negative": ["value", 1, [-1, 1, 1, {}]],
    "true as a count": ["value", 1, [True, 1, 1, {}]],
    "float as a count": ["value", 1, [1.0, 1, 1, {}]],
    "huge count": ["value", 1, [1, 1, 2**53, {}]],
    "list as headers": ["value", 1, [1, 1, 1, []]],
    "number in headers": ["value", 1, [1, 1, 1, {"a": 1}]],
    "bytes in headers": ["value", 1, [1, 1, 1, {b"a": "b"}]],
    "map": {"kind": "value"},
    "nothing": None,
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_read_as_none(name: str) -> None:
    """Each of them in an envelope that is right."""
    assert read(KEY, forged(msgpack.packb(WRONG[name])), MOST) is None


def test_the_same_envelope_with_right_contents_is_an_entry() -> None:
    """So that it is not the forging that makes them None."""
    assert read(KEY, forged(msgpack.packb(["value", 1, META])), MOST) == Entry("value", 1, *META)
    small = zlib.compress(msgpack.packb(["value", 1, META]))
    assert read(KEY, forged(small, coding=1), MOST) == Entry("value", 1, *META)
    for cut in (small + b"x", small + small, small[:-1]):
        assert read(KEY, forged(cut, coding=1), MOST) is None
    assert read(KEY, forged(msgpack.packb(["value", 1, META]), coding=2), MOST) is None
    assert read(KEY, forged(msgpack.packb(["value", 1, META]), version=2), MOST) is None


GIGABYTE = 2**30
CLAIMS = {
    "text": b"\xdb" + struct.pack(">I", GIGABYTE),
    "bytes": b"\xc6" + struct.pack(">I", GIGABYTE),
    "list": b"\xdd" + struct.pack(">I", GIGABYTE),
    "map": b"\xdf" + struct.pack(">I", GIGABYTE),
    "extension": b"\xc9" + struct.pack(">I", GIGABYTE) + b"\x01",
    "list as long as the value": b"\xdd" + struct.pack(">I", 2**19) + b"\xc0" * 2**18,
    "lists in lists": b"\xdd\x00\x0f\x00\x00" * (2**20 // 5 - 10),
    "maps in maps": b"\xdf\x00\x01\x00\x00\xa0" * (2**20 // 6 - 10),
    "short lists in lists": b"\xdc\x7f\xff" * (2**20 // 3 - 10),
    "nesting": b"\x91" * 100_000 + b"\x01",
    "nesting without end": b"\x91" * 1_000_000,
    "nested maps": b"\x81\xa1a" * 100_000 + b"\x01",
}  # fmt: skip


def gigabyte() -> Iterator[bytes]:
    packer = zlib.compressobj(9)
    for _ in range(GIGABYTE // MOST):
        yield packer.compress(bytes(MOST))
    yield packer.flush()


def within(plain: bytes) -> bytes:
    """Put a claim where an entry's data is."""
    return b"\x93\xa5value" + plain + msgpack.packb(META)


def peak_of(stored: bytes) -> int:
    tracemalloc.start()
    try:
        assert is_entry(read(KEY, stored, MOST))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("around", [bytes, within])
def test_a_claimed_length_allocates_nothing(name: str, around: Any) -> None:
    """A length, a depth, or a number of values that is not there is found out before memory is had."""
    claim = around(CLAIMS[name])
    assert read(KEY, forged(claim), MOST) is None
    assert peak_of(forged(claim)) < FLAT_BYTES
    assert peak_of(forged(zlib.compress(claim), coding=1)) < FLAT_BYTES


def test_a_value_is_made_of_its_bytes() -> None:
    """As many small values as have room are there, and need no more than so many can."""
    many = within(b"\xdd" + struct.pack(">I", MOST - 60) + b"\x80" * (MOST - 60))
    assert FLAT_BYTES < peak_of(forged(many)) < PEAK_BYTES


def test_a_bomb_does_not_go_off() -> None:
    """A gigabyte of zeros, in a megabyte: no more is unpacked than an entry may have."""
    assert peak_of(forged(b"".join(gigabyte()), coding=1)) < FLAT_BYTES


def question() -> Question:
    return Question(KEY, "chat", "/v1/chat/completions", {}, False, False, Control())


@given(size=st.integers(-60, 5), above=st.sampled_from([0, 2**20]))
def test_what_is_stored_can_be_read_by_all(size: int, above: int) -> None:
    """At the bound of an entry's bytes: what the settings let through, they read."""
    most = 5000
    told = Settings(entry_bytes=most, compress_above=above)
    written = told.written(question(), "json", b"x" * (most + size))
    assert written is None or read(KEY, written[0], most) is not None
    assert written is None or len(written[0]) <= most  # as much as a look reads
    if size > 0:
        assert written is None


def test_numbers_are_as_large_as_they_are_stored() -> None:
    """A list of floats is larger in the store than as text; compressed it is not let through either."""
    told = Settings(entry_bytes=5000)
    assert told.written(question(), "value", [0.5] * 600) is None
    stored, _ = told.written(question(), "value", [0.5] * 500) or (b"", 0)
    assert len(stored) < 500
    assert read(KEY, stored, 5000) is not None


@given(ttl=st.floats(0.001, 10**6), stale=st.floats(0, 10**6))
def test_an_answer_is_fresh_for_its_time_less_a_tenth(ttl: float, stale: float) -> None:
    """… and kept for what may be stale beyond that; a call's own word goes before."""
    told = Settings(ttl_s=ttl, stale_s=stale)
    stored, lifetime_ms = told.written(question(), "value", 1) or (b"", 0)
    found = read(KEY, stored, MOST)
    assert found is not None
    assert found.lifetime_ms == lifetime_ms == found.fresh_ms + round(stale * 1000)
    assert max(1, int(ttl * 900)) <= found.fresh_ms <= max(1, round(ttl * 1000))
    assert len(stored) > HEAD_BYTES
