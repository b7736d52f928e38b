"""Learned estimates by hand, as the transport uses them: what they do to reservations and levels."""

from __future__ import annotations

import random
import uuid

import pytest

from limiter import Quota
from limiter.core.sketch import OutputKey
from tests.api.conftest import Face, faces
from tests.api.test_scenarios import slow

KEY = OutputKey("chat 10 gpt-4o", 900)
CAP, AMOUNT = 1000, 10_000_000


async def call(face: Face, name: str, length: int, key: OutputKey = KEY) -> int:
    """Make a call whose answer becomes so long; return what was reserved for it."""
    expected = face.limiter.expected_output(name, key)
    reserved = CAP if expected is None else min(CAP, expected)
    r = await face.acquire(name, tokens=reserved)
    assert r.estimate["tokens"] == reserved
    r.record_output(key, length)
    await face.settle(r, tokens=length)
    return reserved


@pytest.mark.asyncio
async def test_reservations_approach_what_is_used(kind: str, store_url: str, name: str) -> None:
    """From four times too high to a fifth; and whatever was reserved, the levels know what was used."""
    draw = random.Random(7)
    lengths = [max(1, round(draw.gauss(250, 25))) for _ in range(150)]
    async with faces(kind, store_url) as make:
        face = make(slow(name, AMOUNT))
        reserved = [await call(face, name, length) for length in lengths]
        assert reserved[:20] == [CAP] * 20
        assert sum(lengths[20:]) <= sum(reserved[20:]) <= 1.2 * sum(lengths[20:])
        assert list((await face.levels(name)).values()) == [AMOUNT - sum(lengths)]


@pytest.mark.asyncio
async def test_what_one_process_sees_another_knows(kind: str, store_url: str, name: str) -> None:
    """One that begins asks along with its first reservation, which does not wait for it."""
    async with faces(kind, store_url) as make:
        ann, bob = (make(slow(name, AMOUNT)) for _ in range(2))
        for _ in range(25):
            await call(ann, name, 100)
        r = await bob.acquire(name, tokens=1)  # bob is there, and has asked nothing
        assert bob.limiter.expected_output(name, KEY) is None
        await bob.settle(r, tokens=1)
        assert bob.limiter.expected_output(name, KEY) == 99


@pytest.mark.asyncio
async def test_an_answer_is_told_before_the_reservation_ends(
    kind: str, store_url: str, name: str
) -> None:
    """One that is told behind the end is nobody's, and is not counted."""
    async with faces(kind, store_url) as make:
        face = make(slow(name, AMOUNT))
        for late in (True, False):
            for _ in range(25):
                r = await face.acquire(name, tokens=1)
                if not late:
                    r.record_output(KEY, 100)
                await face.settle(r, tokens=1)
                if late:
                    r.record_output(KEY, 100)
            await call(face, name, 100)
            assert (face.limiter.expected_output(name, KEY) is None) is late


@pytest.mark.asyncio
async def test_where_only_calls_are_limited_nothing_is_told(
    kind: str, store_url: str, name: str
) -> None:
    """Nobody reserves tokens there, so nobody needs to know."""
    async with faces(kind, store_url) as make:
        face = make(Quota(name, rpm=AMOUNT, concurrency=50))
        for _ in range(25):
            r = await face.acquire(name, tokens=50)
            r.record_output(KEY, 100)
            await face.settle(r)
        face.limiter.expected_output(name, KEY)
        await face.settle(await face.acquire(name))
        assert face.limiter.expected_output(name, KEY) is None


@pytest.mark.asyncio
async def test_both_kinds_of_one_limiter_know_the_same(kind: str, name: str) -> None:
    """A limiter and its other half are one process."""
    async with faces(kind, f"memory://{uuid.uuid4().hex}") as make:
        face = make(slow(name, AMOUNT))
        for _ in range(25):
            await call(face, name, 100)
        halves = (face.limiter.as_sync(), face.limiter.as_async())
        assert {half.expected_output(name, KEY) for half in halves} == {99}
