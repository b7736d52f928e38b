"""Many flows as a caller meets them: one scenario for both drivers, on each store."""

from __future__ import annotations

import asyncio
import gc
import math
import pickle

import pytest

from limiter import (
    CircuitOpen,
    ConfigError,
    Limit,
    LineFull,
    NeverFits,
    Priority,
    Quota,
    WaitTimeout,
)
from tests.api.conftest import Face, faces
from tests.api.test_scenarios import SLOW, slow, until

pytestmark = pytest.mark.asyncio
HIGH, LOW = Priority("high", level=10), Priority("low", max_waiting=3, timeout=0.05)


def still(name: str, tokens: int, **more: object) -> Quota:
    """Make a quota whose levels move by grants and refunds alone."""
    return Quota(name, limits=[Limit("tokens", tokens, 400 * SLOW, headroom=0)], **more)


async def lined(face: Face, name: str, count: int) -> None:
    """Wait until so many tickets stand in the line."""

    async def there() -> bool:
        return (await face.peek(name)).waiting == count

    await until(there)


async def test_a_high_priority_overtakes_in_another_process(
    kind: str, store_url: str, name: str
) -> None:
    """Law 4: a call of higher priority that comes later, elsewhere, is granted first."""
    async with faces(kind, store_url) as make:
        quota = still(name, 100, priorities=[HIGH, Priority("low")])
        ann, bob = make(quota), make(quota)
        r = await ann.acquire(name, tokens=100)
        low = asyncio.create_task(ann.acquire(name, tokens=10, priority="low"))
        await lined(ann, name, 1)
        high = asyncio.create_task(bob.acquire(name, tokens=95, priority="high"))
        await lined(ann, name, 2)
        found = (await ann.peek(name)).priorities
        assert {each: status.waiting for each, status in found.items()} == {
            "high": 1, "default": 0, "low": 1,
        }  # fmt: skip
        await ann.settle(r, tokens=4)
        granted = await high
        assert (granted.priority, low.done()) == ("high", False)
        await bob.cancel(granted)
        await ann.cancel(await low)


async def test_a_timeout_that_is_known_to_be_too_short_fails_at_once(
    kind: str, store_url: str, name: str
) -> None:
    """A call says at once that it would wait for too long, with the time for a Retry-After."""
    async with faces(kind, store_url) as make:
        face = make(Quota(name, tpm=600, headroom=0))
        await face.acquire(name, tokens=600)
        with pytest.raises(WaitTimeout, match="known already, needs 300 tokens") as info:
            await face.acquire(name, tokens=300, timeout=20)
        assert 25 < info.value.wait_s <= 30
        assert info.value.ahead == 0
        assert (await face.peek(name)).waiting == 0


async def test_a_patient_call_stands_in_the_line_all_the_same(
    kind: str, store_url: str, name: str
) -> None:
    """fail_fast=False: a call waits though its estimate says it is in vain; a refund proves it right."""
    async with faces(kind, store_url) as make:
        face = make(Quota(name, tpm=600, headroom=0))
        r = await face.acquire(name, tokens=600)
        waiting = asyncio.create_task(face.acquire(name, tokens=300, timeout=20, fail_fast=False))
        await lined(face, name, 1)
        await face.settle(r, tokens=200)
        assert (await waiting).state == "held"


async def test_a_full_line_says_so(kind: str, store_url: str, name: str) -> None:
    """max_waiting: one call more is refused at once, with what a web service needs to say."""
    async with faces(kind, store_url) as make:
        face = make(still(name, 100, priorities=[Priority("low", max_waiting=2)]))
        r = await face.acquire(name, tokens=100)
        waiting = [
            asyncio.create_task(face.acquire(name, tokens=1, priority="low")) for _ in range(2)
        ]
        await lined(face, name, 2)
        with pytest.raises(LineFull, match=r"full for the priority 'low': 2 calls wait") as info:
            await face.acquire(name, tokens=1, priority="low")
        assert (info.value.max_waiting, info.value.priority, info.value.ahead) == (2, "low", 2)
        assert pickle.loads(pickle.dumps(info.value)).wait_s == info.value.wait_s > 0
        await face.cancel(r)
        await asyncio.gather(*waiting)


async def test_a_priority_has_a_timeout_of_its_own(kind: str, store_url: str, name: str) -> None:
    """A call that names no timeout has its priority's; math.inf waits for as long as it takes."""
    async with faces(kind, store_url) as make:
        face = make(still(name, 100, priorities=[LOW]))
        r = await face.acquire(name, tokens=100)
        with pytest.raises(WaitTimeout, match=r"within 0\.05 s"):
            await face.acquire(name, tokens=1, priority="low", fail_fast=False)
        waiting = asyncio.create_task(
            face.acquire(name, tokens=1, priority="low", timeout=math.inf)
        )
        await lined(face, name, 1)
        await face.cancel(r)
        await waiting


async def test_try_acquire_never_waits(kind: str, store_url: str, name: str) -> None:
    """try_acquire returns a reservation or None; what can never fit is still an error."""
    async with faces(kind, store_url) as make:
        face = make(still(name, 100))
        first = await face._do(face.limiter.try_acquire, name, tokens=60)
        assert first.state == "held"
        assert await face._do(face.limiter.try_acquire, name, tokens=60) is None
        with pytest.raises(NeverFits):
            await face._do(face.limiter.try_acquire, name, tokens=101)
        await face.cancel(first)
        status = await face.peek(name)
        assert (status.waiting, status.held) == (0, 0)


async def test_a_ticket_knows_its_place(kind: str, store_url: str, name: str) -> None:
    """A ticket stands in the line without its caller: position, expected wait, grant."""
    async with faces(kind, store_url) as make:
        face = make(Quota(name, tpm=600, headroom=0))
        r = await face.acquire(name, tokens=600)
        tickets = [await face._do(face.limiter.ticket, name, tokens=100) for _ in range(3)]
        assert [ticket.position for ticket in tickets] == [1, 2, 3]
        assert 25 < tickets[2].eta_s <= 30
        tickets[0].cancel() if face.is_async else await face.in_thread(tickets[0].cancel)
        await lined(face, name, 2)
        await face._do(tickets[2].look)
        assert (tickets[2].position, tickets[2].granted) == (2, False)
        assert "position 2" in repr(tickets[2])
        await face.cancel(r)
        got = [await face._do(ticket.wait) for ticket in tickets[1:]]
        assert [each.state for each in got] == ["held", "held"]
        assert (tickets[2].position, tickets[2].eta_s, tickets[2].granted) == (0, 0.0, True)
        for each in got:
            await face.cancel(each)
        assert (await face.peek(name)).held == 0


async def test_a_context_manager_knows_its_place(kind: str, store_url: str, name: str) -> None:
    """While `with limiter.reserve(…)` waits, somebody else can see its position and wait."""
    async with faces(kind, store_url) as make:
        face = make(Quota(name, tpm=600, headroom=0))
        r = await face.acquire(name, tokens=600)
        reserving = face.limiter.reserve(name, tokens=100)
        assert (reserving.position, reserving.eta_s) == (0, 0.0)
        enter = reserving.__aenter__ if face.is_async else reserving.__enter__
        waiting = asyncio.create_task(face._do(enter))
        await lined(face, name, 1)
        assert reserving.position == 1
        assert 8 < reserving.eta_s <= 10
        assert 0 < (await face.peek(name)).priorities["default"].wait_s <= 10.1
        await face.cancel(r)
        await face.cancel(await waiting)
        assert (reserving.position, reserving.eta_s) == (0, 0.0)


async def test_a_ticket_that_is_left_gives_back(kind: str, store_url: str, name: str) -> None:
    """Law 6: a ticket that was granted and never picked up goes back when it is left."""
    async with faces(kind, store_url) as make:
        face = make(still(name, 100))
        ticket = await face._do(face.limiter.ticket, name, tokens=60)
        assert ticket.granted
        if face.is_async:
            async with ticket:
                pass
        else:
            await face.in_thread(ticket.__exit__, None, None, None)

        async def clean() -> bool:
            return (await face.peek(name)).held == 0

        await until(clean)
        await face._do(face.limiter.ticket, name, tokens=60)  # and dropped
        gc.collect()
        await until(clean)
        late = await face._do(face.limiter.ticket, name, tokens=101)
        with pytest.raises(NeverFits):
            await face._do(late.wait)


async def test_a_ticket_gives_up_at_its_deadline(kind: str, store_url: str, name: str) -> None:
    """Law 6: a ticket whose time is over leaves the line."""
    async with faces(kind, store_url) as make:
        face = make(still(name, 100))
        await face.acquire(name, tokens=100)
        ticket = await face._do(face.limiter.ticket, name, tokens=60, timeout=0.05, fail_fast=False)
        with pytest.raises(WaitTimeout):
            await face._do(ticket.wait)
        await lined(face, name, 0)


async def test_several_quotas_at_once(kind: str, store_url: str, name: str) -> None:
    """Law 1: a call on several quotas of a group takes from all of them, or waits for all."""
    async with faces(kind, store_url) as make:
        org, model = f"org-{name}", f"model-{name}"
        quotas = [still(org, 100, group=name), still(model, 60, group=name)]
        face = make(*quotas)
        r = await face.acquire([org, model], tokens=50)
        assert (r.quotas, r.estimate) == ((org, model), {"tokens": 50})
        label = f"tokens/{400 * SLOW:g}s"
        assert r.remaining == {f"{org}: {label}": 50, f"{model}: {label}": 10}
        assert await face._do(face.limiter.try_acquire, [org, model], tokens=20) is None
        waiting = asyncio.create_task(face.acquire([org, model], tokens=20))
        await lined(face, org, 1)
        other = await face.acquire(org, tokens=20)
        await face.settle(r, tokens=30)
        await face.cancel(await waiting)
        await face.cancel(other)
        assert await face.levels(org) == {label: 70}
        assert await face.levels(model) == {label: 30}


async def test_the_members_of_a_group_are_declared_by_anybody(
    kind: str, store_url: str, name: str
) -> None:
    """A group's quotas may be declared by different processes; each leaves the others' in peace."""
    async with faces(kind, store_url) as make:
        ann, bob = make(still("one", 100, group=name)), make(still("two", 60, group=name))
        await ann.acquire("one", tokens=10)
        await bob.acquire("two", tokens=20)
        await ann.acquire("one", tokens=10)
        label = f"tokens/{400 * SLOW:g}s"
        assert await ann.levels("one") == {label: 80}
        assert await bob.levels("two") == {label: 40}


async def test_the_first_quota_that_is_free(kind: str, store_url: str, name: str) -> None:
    """any_of takes the first of its list that grants, and says which."""
    async with faces(kind, store_url) as make:
        names = [f"{name}-{i}" for i in range(3)]
        face = make(*(still(each, 10) for each in names))
        got = [await face.acquire(any_of=names, tokens=10) for _ in range(3)]
        assert [r.quota for r in got] == names
        assert await face._do(face.limiter.try_acquire, any_of=names, tokens=1) is None
        waiting = asyncio.create_task(face.acquire(any_of=names, tokens=5))
        for each in names:
            await lined(face, each, 1)
        await face.cancel(got[1])
        winner = await waiting
        assert winner.quota == names[1]
        for each in names:
            await lined(face, each, 0)
        await face.settle(winner, tokens=5)
        assert sum([(await face.peek(each)).held for each in names]) == 2


async def test_any_of_gives_up_cleanly(kind: str, store_url: str, name: str) -> None:
    """Law 6: when none of several grants in time, no ticket stays in any of their lines."""
    async with faces(kind, store_url) as make:
        names = [f"{name}-{i}" for i in range(2)]
        face = make(*(still(each, 10) for each in names))
        for each in names:
            await face.acquire(each, tokens=10)
        with pytest.raises(WaitTimeout):
            await face.acquire(any_of=names, tokens=1, timeout=0.05, fail_fast=False)
        for each in names:
            await lined(face, each, 0)
        with pytest.raises(NeverFits):
            await face.acquire(any_of=names, tokens=11)


async def test_a_failing_quota_comes_last(kind: str, store_url: str, name: str) -> None:
    """any_of avoids a quota whose call failed of late, while another one grants."""

    class StatusError(Exception):
        status_code = 503

    async with faces(kind, store_url) as make:
        names = [f"{name}-{i}" for i in range(2)]
        face = make(*(still(each, 100) for each in names))

        async def fail(r: object) -> None:
            raise StatusError

        with pytest.raises(StatusError):
            await face.reserved(fail, any_of=names, tokens=10)
        assert (await face.acquire(any_of=names, tokens=10)).quota == names[1]
        face.limiter.avoid(names[0], 0)
        assert (await face.acquire(any_of=names, tokens=10)).quota == names[0]


async def break_circuit(face: Face, name: str) -> None:
    """Let the fleet hear that nobody is served any more."""
    for _ in range(5):
        r = await face.acquire(name, tokens=0)
        r.observe({}, status=401)
        await face.cancel(r)


async def test_any_of_passes_a_brake_and_an_open_circuit(
    kind: str, store_url: str, name: str
) -> None:
    """The first that is neither is taken at once, whatever the order."""
    async with faces(kind, store_url) as make:
        names = [f"{name}-{what}" for what in ("open", "braked", "free")]
        face = make(*(still(each, 100) for each in names))
        await break_circuit(face, names[0])
        r = await face.acquire(names[1], tokens=0)
        r.observe({"retry-after": "3600"}, status=429)
        await face.cancel(r)
        for order in (names, names[::-1]):
            assert (await face.acquire(any_of=order, tokens=1)).quota == names[2]
        assert await face._do(face.limiter.try_acquire, any_of=names[1:2], tokens=1) is None


async def test_an_open_circuit_ends_no_wait_for_the_others(
    kind: str, store_url: str, name: str
) -> None:
    """It refuses the call, which goes on waiting where it may be granted."""
    async with faces(kind, store_url) as make:
        names = [f"{name}-open", f"{name}-busy"]
        face = make(*(still(each, 10) for each in names))
        await break_circuit(face, names[0])
        held = await face.acquire(names[1], tokens=10)
        for order in (names, names[::-1]):
            waiting = asyncio.create_task(face.acquire(any_of=order, tokens=5))
            await lined(face, names[1], 1)
            await face.cancel(held)
            held = await waiting
            assert held.quota == names[1]
            await face.cancel(held)
            held = await face.acquire(names[1], tokens=10)


@pytest.mark.parametrize("timeout", [None, 0])
async def test_where_all_circuits_are_open_the_first_to_close_counts(
    kind: str, store_url: str, name: str, timeout: float | None
) -> None:
    """Law: nobody waits for a quota that refuses; the error says when one call is let through."""
    async with faces(kind, store_url) as make:
        names = [f"{name}-{i}" for i in range(3)]
        face = make(*(still(each, 100) for each in names))
        for each in (names[1], names[0], names[2]):
            await break_circuit(face, each)
        for order in (names, names[::-1]):
            with pytest.raises(CircuitOpen) as caught:
                await face.acquire(any_of=order, tokens=1, timeout=timeout)
            assert caught.value.quota == names[1]
        for each in names:
            await lined(face, each, 0)


async def test_what_is_set_centrally_reaches_everybody(
    kind: str, store_url: str, name: str
) -> None:
    """A quota that is set in the store wins over what programs declare, and needs no restart."""
    async with faces(kind, store_url) as make:
        ann, bob = make(still(name, 100)), make(still(name, 100))
        await ann.acquire(name, tokens=80)
        waiting = asyncio.create_task(ann.acquire(name, tokens=50))
        await lined(ann, name, 1)
        await bob._do(bob.limiter.set_quota, still(name, 200, priorities=[HIGH]))
        await bob.acquire(name, tokens=1, priority="high")
        await waiting
        late = make(still(name, 50))
        assert list((await late.levels(name)).values()) == [69]


async def test_wrong_flows_say_what_to_do(kind: str, store_url: str, name: str) -> None:
    """Wrong arguments are refused with the next step, and lose nothing."""
    async with faces(kind, store_url) as make:
        face = make(still(name, 100, priorities=[HIGH]), still("one", 5, group=name + "g"))
        for wrong, message in (
            ({"priority": "urgent"}, r"'urgent'.*not declared; there are 'default', 'high'"),
            ({"priority": 3}, "priority= is a priority's name"),
            ({"tenant": "a\nb"}, "1 to 200 printable characters"),
            ({"timeout": math.nan}, "timeout is seconds from 0 on"),
            ({"timeout": "3"}, "timeout is seconds from 0 on"),
        ):
            with pytest.raises(ConfigError, match=message):
                await face.acquire(name, tokens=1, **wrong)
        with pytest.raises(ConfigError, match="only where they are of one group"):
            await face.acquire([name, "one"], tokens=1)
        for wrong in ((), [], 3, [3]):
            with pytest.raises((ConfigError, TypeError)):
                await face.acquire(wrong, tokens=1)
        for any_of in ([], [name, name], name, {name: 0}, {name: "1"}):
            with pytest.raises(ConfigError, match="any_of"):
                await face.acquire(any_of=any_of, tokens=1)
        status = await face.peek(name)
        assert (status.waiting, status.held, *(await face.levels(name)).values()) == (0, 0, 100)


async def test_tenants_share_one_quota(kind: str, store_url: str, name: str) -> None:
    """Law 4: a tenant with a long line delays another's single call by one call, over processes."""
    async with faces(kind, store_url) as make:
        quota = slow(name, 10, concurrency=1)
        ann, bob = make(quota), make(quota)
        r = await ann.acquire(name, tenant="a")
        long = [asyncio.create_task(ann.acquire(name, tenant="a")) for _ in range(20)]
        await lined(ann, name, 20)
        single = asyncio.create_task(bob.acquire(name, tenant="b"))
        await lined(ann, name, 21)
        for _ in range(2):
            await ann.cancel(r)
            await asyncio.wait([single, *long], return_when=asyncio.FIRST_COMPLETED)
            if single.done():
                break
            r = next(task for task in long if task.done()).result()
            long = [task for task in long if not task.done()]
        assert single.done()
        await bob.cancel(single.result())
        for _ in long:
            done, _ = await asyncio.wait(long, return_when=asyncio.FIRST_COMPLETED)
            long = [task for task in long if task not in done]
            for task in done:
                await ann.cancel(task.result())
