"""A RabbitMQ under a queue: what is taken, given back, put off, lost and dropped, with no call made."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

import pytest

from limiter.bulk.calls import Ended
from limiter.errors import ConfigError, QueueFull, StoreError, StoreRefused
from limiter.queue import AsyncQueue, Queue
from limiter.queue.layout import Taken
from limiter.queue.ops import Want
from limiter.queue.rabbit import RabbitSource
from limiter.queue.sources import opened
from limiter.queue.worker import Worker
from tests.queue.conftest import body
from tests.queue.test_worker import Line, until

pytestmark = [pytest.mark.rabbitmq, pytest.mark.xdist_group("rabbitmq")]

ALL = Want(1000, 1000, None, {})
TRIES = 3

Story = Callable[[RabbitSource, AsyncQueue], Awaitable[object]]


def told(queue: Queue, story: Story, tries: int = TRIES) -> object:
    """Let a worker's source live through a story; what it holds at the end is lost with its connection."""

    async def telling() -> object:
        async with AsyncQueue(queue._url, name=queue.name, broker=queue.broker) as beside:
            async with opened(beside, 3600, tries) as source:
                return await story(source, beside)

    return asyncio.run(telling())


def ids(taken: list[Taken]) -> list[str]:
    return [each.call.custom_id for each in taken]


def ended(taken: Taken, *, ok: bool = True) -> Ended:
    error = None if ok else {"code": "bad", "message": "no"}
    line = json.dumps({"custom_id": taken.call.custom_id, "response": {}, "error": error})
    return Ended(ok=ok, line=f"{line}\n".encode(), tokens=7)


async def take(source: RabbitSource, want: Want = ALL) -> list[Taken]:
    return (await source.take(want))[1]


async def taken_again(source: RabbitSource, count: int) -> list[Taken]:
    """Take until so many came: what was lost comes back when the broker has noticed."""
    found: list[Taken] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            with contextlib.suppress(StoreError):
                found += await take(source)
            await asyncio.sleep(0.01)
    return found


def submit(queue: Queue, *names: str, **options) -> str:
    return queue.submit([body(each) for each in names], **options)


def test_no_more_is_taken_than_is_wanted_and_the_highest_first(queue):
    """Of each level as many as it may have; of those above a level only where so asked."""
    submit(queue, *(f"low{i}" for i in range(50)), tenant="t")
    submit(queue, *(f"high{i}" for i in range(5)), level=10)

    async def story(source, _):
        first = await take(source, Want(6, 3, None, {}))
        assert ids(first) == ["high0", "high1", "high2", "low0", "low1", "low2"]
        assert {(each.level, each.tenant, each.lost) for each in first} == {
            (10, "", 0),
            (0, "t", 0),
        }
        assert ids(await take(source, Want(9, 9, 0, {10: 1}))) == ["high3"]
        assert ids(await take(source, Want(2, 2, None, {10: 0}))) == ["low3", "low4"]

    told(queue, story)


def test_a_result_is_stored_once_and_the_call_is_gone(queue):
    """An end that is told twice changes nothing; the last one ends the job; the broker has nothing left."""
    job = submit(queue, "a", "b")

    async def story(source, _):
        a, b = await take(source)
        assert await source.finish(a, ended(a))
        assert not await source.finish(a, ended(a))
        assert await source.finish(b, ended(b, ok=False))

    told(queue, story)
    status = queue.status(job)
    assert (status.state, status.total, status.ok, status.failed) == ("ended", 2, 1, 1)

    async def nothing(source, _):
        assert await take(source) == []

    told(queue, nothing)


def test_what_a_worker_held_comes_back_with_its_loss_counted(queue):
    """At the head of its line, in order; and what was given back was not lost."""
    submit(queue, "a", "b", "c")

    async def lost(source, _):
        _, b = await take(source, Want(2, 2, None, {}))
        await source.give_back([b])

    async def found(source, _):
        again = await taken_again(source, 3)
        assert [(each.call.custom_id, each.lost) for each in again] == [
            ("a", 1),
            ("b", 0),
            ("c", 0),
        ]

    told(queue, lost)
    told(queue, found)


def test_a_call_that_loses_its_workers_is_dead(queue):
    """After so many, with the reason; it is nobody's any more until it is tried again."""
    job = submit(queue, "a", "b")

    async def lost(source, _):
        assert len(await taken_again(source, 2)) == 2

    for _ in range(TRIES):
        told(queue, lost)

    async def none(source, _):
        async with asyncio.timeout(60):
            while queue.status(job).failed < 2:
                assert await take(source) == []

    told(queue, none)
    assert queue.status(job).has_ended
    error = json.loads(queue.failed(job)[0].why)["error"]
    assert error == {"code": "worker_lost", "message": "Its worker was lost 3 times."}
    assert queue.retry(job) == 2

    async def again(source, _):
        for each in await take(source):
            assert each.lost == 0
            assert await source.finish(each, ended(each))

    told(queue, again)
    assert queue.status(job).ok == 2


def test_what_is_put_off_comes_back_before_those_who_never_went(queue):
    """When its time is over, and not before another's that is put off for longer; it was not lost."""
    submit(queue, "slow", "quick", "c")

    async def story(source, _):
        slow, quick = await take(source, Want(2, 2, None, {}))
        await source.put_off(slow, ended(slow), 60)
        await source.put_off(quick, ended(quick), 1)
        line = await source._link.known_line(0)
        async with asyncio.timeout(20):
            while (await source._link.line(0)).declaration_result.message_count < 2:
                await asyncio.sleep(0.02)
        assert line.name == f"limiter.{queue.name}.0"
        found = await take(source)
        assert [(each.call.custom_id, each.lost) for each in found] == [("quick", 0), ("c", 0)]

    told(queue, story)


def test_calls_of_a_cancelled_job_are_passed_over_and_counted_once(queue):
    """However many there are before one that is wanted."""
    job = submit(queue, *(f"x{i}" for i in range(30)))
    submit(queue, "wanted")

    async def story(source, beside):
        (first,) = await take(source, Want(1, 1, None, {}))
        await source._link.publish(f"limiter.{queue.name}.0", [first.call.written()], "", 1)
        await source.give_back([first])
        await beside.cancel(job)
        assert ids(await take(source, Want(1, 1, None, {}))) == ["wanted"]

    told(queue, story)
    status = queue.status(job)
    assert (status.state, status.dropped, status.left) == ("cancelled", 30, 0)


def test_a_lost_connection_makes_no_call_twice_in_one_worker(queue, rabbit):
    """The broker restarts: what the worker makes is delivered again and not made again; nothing is lost."""
    job = submit(queue, "a", "b", "c")

    async def story(source, _):
        held = await take(source, Want(2, 2, None, {}))
        await asyncio.to_thread(rabbit.restart)
        assert ids(await taken_again(source, 1)) == ["c"]
        for each in held:
            assert await source.finish(each, ended(each))
        assert await take(source) == []

    told(queue, story)

    async def left(source, _):
        (c,) = await taken_again(source, 1)
        assert c.call.custom_id == "c"
        await source.finish(c, ended(c))
        assert await take(source) == []

    told(queue, left)
    assert queue.status(job).ok == 3


def test_what_is_put_in_twice_is_made_once(queue):
    """A publisher that was not answered may repeat itself: while the call is made, and when it has ended."""
    job = submit(queue, "a", "b", "c")

    async def story(source, _):
        a, b, c = await take(source)
        both = [a.call.written(), b.call.written()]
        line = f"limiter.{queue.name}.0"
        await source._link.publish(line, both * 2, "")
        assert await take(source) == []
        assert await source.finish(a, ended(a))
        assert await source.finish(b, ended(b, ok=False))
        await source._link.publish(line, both, "")
        assert await take(source) == []
        assert (await source._link.line(0)).declaration_result.message_count == 0
        assert await source.finish(c, ended(c))

    told(queue, story)
    status = queue.status(job)
    assert (status.ok, status.failed, status.total) == (2, 1, 3)

    async def nothing(source, _):
        assert await source._get([0], ALL) == []

    told(queue, nothing)


def test_what_is_no_call_is_dropped(queue):
    """It keeps nobody waiting."""
    submit(queue, "a")

    async def story(source, _):
        await source._link.publish(f"limiter.{queue.name}.0", [b"junk"], "")
        assert ids(await take(source)) == ["a"]
        assert (await source._link.line(0)).declaration_result.message_count == 0

    told(queue, story)


def test_a_queue_that_is_full_takes_no_more(url, queue, rabbit):
    """As many wait as may, of all levels together; what was put in stays in."""
    submit(queue, "a", level=5)
    with Queue(url, name=queue.name, most=3, broker=rabbit.url) as narrow:
        with pytest.raises(QueueFull) as full:
            submit(narrow, "b", "c", "d", timeout=0)
    assert (full.value.waiting, full.value.put) == (3, 2)


def test_an_async_queue_does_the_same(url, queue, rabbit):
    """In a running loop; and so does the sync one there."""

    async def story():
        async with AsyncQueue(url, name=queue.name, broker=rabbit.url) as other:
            await other.submit([body("a")])
        submit(queue, "b")
        async with AsyncQueue(url, name=queue.name, broker=rabbit.url) as beside:
            async with opened(beside, 3600, TRIES) as source:
                return ids(await take(source))

    assert asyncio.run(story()) == ["a", "b"]


def test_a_worker_hears_of_what_is_more_urgent(queue):
    """It gives the least urgent call that waits back for it, and takes that again, in its turn."""

    async def story(source, beside):
        worker = Worker(source, concurrency=2, lease=3600)
        line = Line(worker)
        running = asyncio.create_task(worker.run(line))
        await beside.submit([body(name) for name in "abcd"])
        await until(lambda: line.asked == ["a", "b"])
        await beside.submit([body("h")], level=10)
        await until(lambda: line.asked == ["a", "b", "h"])
        line.end("a")
        await until(lambda: line.asked == ["a", "b", "h", "b"])
        worker.stop()
        await running

    told(queue, story)


@pytest.mark.parametrize(
    ("broker", "kind", "says"),
    [
        ("amqp://guest:wrong@127.0.0.1:{port}/", StoreRefused, "refuses us"),
        ("amqp://127.0.0.1:1/", StoreError, "RabbitMQ is away"),
        ("amqp://127.0.0.1:port/", ConfigError, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_our_errors(url, queue, rabbit, broker, kind, says):
    """With what to do; the job is cancelled."""
    with Queue(url, name=queue.name, broker=broker.format(port=rabbit.port)) as other:
        with pytest.raises(kind, match=says):
            submit(other, "a", job="j")
        assert other.status("j").state == "cancelled"
