"""The laws as a caller meets them: one scenario for both drivers, on each store."""

from __future__ import annotations

import asyncio

import pytest

from limiter import (
    ConfigError,
    Limit,
    NeverFits,
    Quota,
    ReservationError,
    UnsettledWarning,
    WaitTimeout,
)
from tests.api.conftest import faces

pytestmark = pytest.mark.asyncio
SLOW = 86_400.0  # a day's period: within a test nothing is refilled


def slow(name: str, tokens: int, **more: int) -> Quota:
    """Make a quota whose levels move by grants and refunds alone."""
    return Quota(name, limits=[Limit("tokens", tokens, 400 * SLOW, headroom=0)], headroom=0, **more)


async def until(condition: object, *, tries: int = 500) -> None:
    """Wait for something that others bring about."""
    for _ in range(tries):
        if await condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came about")


async def test_reserve_settle_peek(kind: str, store_url: str, name: str) -> None:
    """Laws 1, 3: a call takes from all limits; settling it moves the levels by the difference."""
    async with faces(kind, store_url) as make:
        face = make(slow(name, 1000, rpd=50, concurrency=2))
        r = await face.acquire(name, tokens=300)
        assert (r.state, r.estimate["tokens"]) == ("held", 300)
        assert r.remaining == {"requests/day": 49, "concurrency": 1, f"tokens/{400 * SLOW:g}s": 700}
        await face.settle(r, {"usage": {"total_tokens": 120}})
        await face.settle(r, tokens=999)
        await face.cancel(r)
        assert list((await face.levels(name)).values()) == [49, 2, 880]
        status = await face.peek(name)
        assert (status.held, status.waiting, r.state) == (0, 0, "settled")


async def test_a_refund_wakes_the_head_in_another_process(
    kind: str, store_url: str, name: str
) -> None:
    """Laws 4, 5: what one owner gives back is granted to the heads of the line, in its order."""
    async with faces(kind, store_url) as make:
        ann, bob = make(slow(name, 1000)), make(slow(name, 1000))
        r = await ann.acquire(name, tokens=1000)
        order: list[str] = []

        async def call(who: object, label: str, tokens: int, length: int) -> None:
            await who.acquire(name, tokens=tokens)
            order.append(label)

        async def waiting() -> int:
            return (await ann.peek(name)).waiting

        async with asyncio.TaskGroup() as group:
            for i, (who, label, tokens) in enumerate(
                [(bob, "big", 900), (ann, "small", 10), (bob, "other", 20)]
            ):
                group.create_task(call(who, label, tokens, i))
                await until(lambda i=i: _is(waiting, i + 1))
            await ann.settle(r, tokens=50)
        assert sorted(order) == ["big", "other", "small"]
        assert list((await ann.levels(name)).values()) == [20]


async def _is(function: object, value: int) -> bool:
    return await function() == value


async def test_a_timeout_leaves_nothing_behind(kind: str, store_url: str, name: str) -> None:
    """Law 6: a call that gave up is not in the line, holds nothing, and says what was missing."""
    async with faces(kind, store_url) as make:
        face = make(Quota(name, tpm=600, headroom=0))
        r = await face.acquire(name, tokens=600)
        for timeout in (0, 0.05):
            with pytest.raises(
                WaitTimeout, match=r"needs 200 tokens, \d+ left, free in about"
            ) as info:
                await face.acquire(name, tokens=200, timeout=timeout)
            assert info.value.quota == name
            assert 15 < info.value.wait_s <= 20

        async def clean() -> bool:
            status = await face.peek(name)
            return (status.waiting, status.held) == (0, 1)

        await until(clean)
        await face.cancel(r)
        assert list((await face.levels(name)).values()) == [600]


async def test_never_fits_says_both_numbers(kind: str, store_url: str, name: str) -> None:
    """Law 9: an impossible call fails at once, even with a line before it."""
    async with faces(kind, store_url) as make:
        face = make(slow(name, 1000))
        with pytest.raises(
            NeverFits, match=r"needs 1,001 tokens.*never grants more than 1,000"
        ) as info:
            await face.acquire(name, tokens=1001)
        assert (info.value.cost, info.value.capacity) == (1001, 1000)
        assert (await face.peek(name)).waiting == 0


async def test_what_an_exception_says_was_used(kind: str, store_url: str, name: str) -> None:
    """Law 3: never sent gives all back; a 429 keeps the request; what is unknown stands."""

    class StatusError(Exception):
        status_code = 429

    class ConnectError(Exception):
        pass

    async with faces(kind, store_url) as make:
        face = make(slow(name, 1000, rpd=100, concurrency=1))
        for error, left in (
            (ConnectError("refused"), [100, 1, 1000]),
            (StatusError("slow down"), [99, 1, 1000]),
            (ReservationError("ours"), [99, 1, 1000]),
            (KeyError("x"), [98, 1, 900]),
        ):

            async def fail(r: object, error: Exception = error) -> None:
                raise error

            with pytest.raises(type(error)):
                await face.reserved(fail, name, tokens=100)
            assert list((await face.levels(name)).values()) == left


async def test_leaving_without_settling_counts_the_estimate(
    kind: str, store_url: str, name: str
) -> None:
    """A reservation that nobody settles counts as used, warns, and holds no slot."""
    async with faces(kind, store_url) as make:
        face = make(slow(name, 1000, concurrency=1))

        async def forget(r: object) -> None:
            pass

        with pytest.warns(UnsettledWarning, match=r"r\.settle\(response\)"):
            await face.reserved(forget, name, tokens=100)
        assert list((await face.levels(name)).values()) == [1, 900]


async def test_bad_input_says_what_to_do(kind: str, store_url: str, name: str) -> None:
    """Wrong arguments are refused with the next step, and lose nothing."""
    async with faces(kind, store_url) as make:
        face = make(slow(name, 1000))
        with pytest.raises(ConfigError, match="is not declared: pass quotas="):
            await face.acquire("unheard-of")
        for wrong in ({"tokens": -1}, {"tokens": 1.5}, {"tokens": True}):
            with pytest.raises(ConfigError, match="whole number"):
                await face.acquire(name, **wrong)
        with pytest.raises(ConfigError, match="timeout is seconds"):
            await face.acquire(name, timeout=-1)
        r = await face.acquire(name, tokens=10)
        with pytest.raises(ConfigError, match=r"no usage in object: pass"):
            await face.settle(r, object())
        assert r.state == "held"
        await face.settle(r, 4)
        assert list((await face.levels(name)).values()) == [996]


async def test_the_newest_declaration_reaches_everybody(
    kind: str, store_url: str, name: str
) -> None:
    """A quota that is declared with other limits changes for those who run already; use stays."""
    async with faces(kind, store_url) as make:
        ann = make(slow(name, 1000))
        await ann.acquire(name, tokens=600)
        waiting = asyncio.create_task(ann.acquire(name, tokens=900))
        await until(lambda: _waiting(ann, name))
        bob = make(slow(name, 1500))
        await bob.acquire(name, tokens=0, timeout=5)
        await waiting
        assert list((await ann.levels(name)).values()) == [0]


async def _waiting(face: object, name: str) -> bool:
    return (await face.peek(name)).waiting > 0


async def test_hundreds_share_one_line(kind: str, store_url: str, name: str) -> None:
    """Laws 1 to 5: many callers of two owners under tight limits all end, and the books balance."""
    async with faces(kind, store_url) as make:
        quota = Quota(name, limits=[Limit("tokens", 1000, 1.0), Limit("tokens", 10**9, 400 * SLOW, headroom=0)],
                      concurrency=7)  # fmt: skip
        owners = [make(quota), make(quota)]

        async def call(i: int) -> None:
            face = owners[i % 2]
            r = await face.acquire(name, tokens=i % 40)
            await (face.cancel(r) if i % 5 == 0 else face.settle(r, tokens=i % 30))

        await asyncio.gather(*(call(i) for i in range(200)))
        used = sum(i % 30 for i in range(200) if i % 5)
        status = await owners[0].peek(name)
        assert (status.waiting, status.held) == (0, 0)
        levels = await owners[0].levels(name)
        assert levels["concurrency"] == 7
        assert levels[f"tokens/{400 * SLOW:g}s"] == pytest.approx(10**9 - used, abs=100 * 30)
