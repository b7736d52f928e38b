"""A worker: what it takes, lets go, and gives back; with calls that end when the test says so."""

from __future__ import annotations

import asyncio
import json
from typing import Self

from limiter.bulk.calls import Ended
from limiter.queue import AsyncQueue
from limiter.queue.sources import RedisSource
from limiter.queue.worker import Worker
from tests.queue.conftest import body


class Line:
    """Be what makes the calls: they wait in line until they are granted, and are made until they are let end."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.asked: list[str] = []
        self._turns: dict[str, asyncio.Event] = {}
        self._ends: dict[str, asyncio.Future[str]] = {}

    async def run(self, number: int, raw: bytes, **flow: str | None) -> Ended:
        name = json.loads(raw)["custom_id"]
        self.asked.append(name)
        await self._turn(name).wait()
        self.worker.granted()
        code = await self._end(name)
        line = {"custom_id": name, "error": {"code": code, "message": code} if code else None}
        return Ended(ok=not code, line=json.dumps(line).encode(), code=code)

    def _turn(self, name: str) -> asyncio.Event:
        return self._turns.setdefault(name, asyncio.Event())

    def _end(self, name: str) -> asyncio.Future[str]:
        return self._ends.setdefault(name, asyncio.get_running_loop().create_future())

    def grant(self, *names: str) -> None:
        for name in names:
            self._turn(name).set()

    def end(self, name: str, code: str = "") -> None:
        self.grant(name)
        self._end(name).set_result(code)


async def until(holds) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


class Serving:
    """Run a worker in the background."""

    def __init__(self, url: str, name: str, concurrency: int, grace: float = 0.0) -> None:
        self.queue = AsyncQueue(url, name=name)
        self.worker = Worker(RedisSource(self.queue, 3600, 3), concurrency=concurrency, lease=3600)
        self.line = Line(self.worker)
        self._grace = grace

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.worker.run(self.line, self._grace))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.worker.stop()
        await self._running
        await self.queue.aclose()


def test_no_more_wait_in_line_than_will_soon_be_granted(any_url, bench):
    """A thousand calls in the queue, a few with the worker; what ends makes room for the next."""

    async def story():
        async with Serving(any_url, bench.queue.name, concurrency=10) as serving:
            job = await serving.queue.submit([body(f"{i}") for i in range(30)])
            await until(lambda: len(serving.line.asked) == 2)
            serving.line.grant("0", "1")
            await until(lambda: len(serving.line.asked) == 4)
            serving.line.end("0")
            await until(lambda: bench.queue.status(job).ok == 1)
            assert bench.queue.status(job).left == 29

    asyncio.run(story())


def test_what_is_more_urgent_takes_the_place_of_what_waits(any_url, bench):
    """A full worker gives the least urgent call that waits back, to the head of its line."""

    async def story():
        async with Serving(any_url, bench.queue.name, concurrency=2) as serving:
            await serving.queue.submit([body(name) for name in "abcd"])
            await until(lambda: serving.line.asked == ["a", "b"])
            await serving.queue.submit([body("h")], level=10)
            await until(lambda: serving.line.asked == ["a", "b", "h"])
            serving.line.end("a")
            await until(lambda: serving.line.asked == ["a", "b", "h", "b"])

    asyncio.run(story())


def test_a_worker_that_is_stopped_gives_back_what_waits(any_url, bench):
    """What is under way ends and has its result; what waits is the next one's, as if never taken."""

    async def story():
        async with Serving(any_url, bench.queue.name, concurrency=10, grace=20.0) as serving:
            job = await serving.queue.submit([body(name) for name in "abc"])
            await until(lambda: len(serving.line.asked) == 2)
            serving.line.grant("a")
            await until(lambda: len(serving.line.asked) == 3)
            serving.worker.stop()
            serving.line.end("a")
        return job

    job = asyncio.run(story())
    assert bench.queue.status(job).ok == 1
    assert [(each.call.custom_id, each.lost) for each in bench.take()] == [("b", 0), ("c", 0)]


def test_what_does_not_end_in_time_goes_back_too(any_url, bench):
    """A call may be made twice; it is never lost."""

    async def story():
        async with Serving(any_url, bench.queue.name, concurrency=10) as serving:
            await serving.queue.submit([body("a")])
            await until(lambda: serving.line.asked == ["a"])
            serving.line.grant("a")

    asyncio.run(story())
    assert bench.ids() == ["a"]


def test_how_calls_end(any_url, bench):
    """With a result; failed, with the reason; put off, where the fault is the moment's."""

    async def story():
        async with Serving(any_url, bench.queue.name, concurrency=10) as serving:
            job = await serving.queue.submit([body(name) for name in "abc"])
            for name, code in (("a", ""), ("b", "bad_request"), ("c", "CircuitOpen")):
                await until(lambda name=name: name in serving.line.asked)
                serving.line.end(name, code)
            await until(lambda: bench.redis.zcard(f"{bench.queue.root}later") == 1)
            return job

    job = asyncio.run(story())
    status = bench.queue.status(job)
    assert (status.ok, status.failed, status.left) == (1, 1, 1)
    assert [each.call.custom_id for each in bench.queue.failed(job)] == ["b"]
    bench.lapse("later")
    assert bench.ids() == ["c"]


def test_a_defect_of_one_call_ends_no_other(any_url, bench):
    """It is that call's failure, with its name."""

    async def story():
        async with Serving(any_url, bench.queue.name, concurrency=10) as serving:
            run = serving.line.run

            async def broken(number, raw, **flow):
                if b'"a"' in raw:
                    raise RuntimeError("broken")
                return await run(number, raw, **flow)

            serving.line.run = broken
            job = await serving.queue.submit([body("a"), body("b")])
            await until(lambda: serving.line.asked == ["b"])
            serving.line.end("b")
            await until(lambda: bench.queue.status(job).ok == 1)
            return job

    job = asyncio.run(story())
    (failed,) = bench.queue.failed(job)
    assert "broken" in json.loads(failed.why)["error"]["message"]
