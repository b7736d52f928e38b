"""Queues as their users see them, sync and async side by side; a verb picks the operation and runs it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from limiter.api import AsyncLimiter, Limiter
from limiter.core.priority import check_tenant
from limiter.errors import ConfigError, WaitTimeout
from limiter.queue import brokers, layout, ops
from limiter.queue.levels import level_of
from limiter.queue.ops import Ask, Carry, Failed, JobStatus, Line, Pause, Run, Scan
from limiter.queue.submitting import Given, calls_of
from limiter.shells import connect, opening

T = TypeVar("T")

KEEP_S = 7 * 86_400.0
MOST = 1_000_000
TIMEOUT_S = 10.0
_POLL_S = 1.0
_YEAR_S = 365 * 86_400.0


class _Door:
    """Hold what both kinds of queue know."""

    def __init__(
        self,
        url: Any = None,
        *,
        name: str = "default",
        most: int = MOST,
        keep: float = KEEP_S,
        broker: str | None = None,
    ) -> None:
        if isinstance(url, str) and connect.scheme(url) == "memory":
            raise ConfigError(
                "memory:// ends with its process, and a queue must not: give a Redis."
            )
        if type(most) is not int or most < 0:
            raise ConfigError(f"most= is a number of calls, 0 for any, got {most!r:.40}.")
        if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 1 <= keep <= _YEAR_S:
            raise ConfigError(f"keep= is seconds from 1 to a year, got {keep!r:.40}.")
        self.name, self.root = name, layout.root(name)
        self.broker = brokers.chosen(broker, url)
        self._url, self._most, self._keep_ms = url, most, int(keep * 1000)

    def _fields(
        self, name: str, priority: str | None, level: int, tenant: str | None
    ) -> dict[str, Any]:
        if type(level) is not int or not -1000 <= level <= 1000:
            raise ConfigError(f"level= is a priority's, from -1000 to 1000, got {level!r:.40}.")
        check_tenant(tenant or "")
        return {"name": name, "priority": priority or "", "tenant": tenant or "", "level": level,
                "keep_ms": self._keep_ms}  # fmt: skip

    def _line(self, level: int, tenant: str | None) -> Line:
        return Line(self._most, level, tenant or "", self.broker is not None)


class Queue(_Door):
    """Submit calls for workers to make, and get their results.

    Safe to share between threads.

    Args:
        url: of the limiter's Redis, or a redis-py client; None: `LIMITER_URL`, else the embedded server.
        name: of the queue; workers serve one.
        most: calls that may wait in it; 0: any number.
        keep: seconds that results are kept after the job's end.
        broker: URL of the RabbitMQ that carries the calls, `amqp://…`; None: `LIMITER_BROKER_URL`, else the
            queue's Redis.

    Raises:
        ConfigError: an argument is wrong.
    """

    def __init__(self, url: Any = None, **options: Any) -> None:
        super().__init__(url, **options)
        self._commands: Any = None
        self._pid, self._lock = os.getpid(), threading.Lock()

    def _open(self) -> Any:
        if self._pid != os.getpid():
            self._commands, self._pid, self._lock = None, os.getpid(), threading.Lock()
        if self._commands is None:
            from limiter.shells.scripted import Commands

            with self._lock:
                if self._commands is None:
                    client, revive, owned = opening.sync_client(self._url, TIMEOUT_S, id(self))
                    self._commands = Commands(client, owned=owned, revive=revive)
        return self._commands

    def _do(self, steps: ops.Steps[T], carry: Callable[[Carry], Any] | None = None) -> T:
        answer: Any = None
        while True:
            try:
                wanted = steps.send(answer)
            except StopIteration as stop:
                done: T = stop.value
                return done
            match wanted:
                case Run(script, arguments):
                    answer = self._open().run(f"queue/{script}", [self.root], *arguments)
                case Ask(command, key, arguments):
                    answer = self._open().one(command, self.root + key, *arguments)
                case Scan(key):
                    names = self._open().scan(f"{self.root}{key}*")
                    answer = [name.removeprefix(self.root + key) for name in names]
                case Carry():
                    assert carry is not None
                    answer = carry(wanted)
                case Pause(seconds):
                    answer = seconds
                    time.sleep(seconds)

    def submit(
        self,
        requests: Iterable[Given],
        *,
        priority: str | None = None,
        level: int | None = None,
        tenant: str | None = None,
        model: str | None = None,
        name: str = "",
        job: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Put calls into the queue; return the id of their job.

        They are taken from the iterable as there is room, so it may be longer than memory. What was put in
        before an error stays in, in a job that is cancelled.

        Args:
            requests: bodies, Batch lines, or lines as bytes or text.
            priority: under which the calls are made; one that the quota declares.
            level: of that priority: calls of a higher one are taken first. None: as the quotas of the store
                declare it.
            tenant: on whose behalf.
            model: for bodies that name none.
            name: the caller's word for the job, as `limiter jobs` shows it.
            job: its id; None: a new one.
            timeout: seconds to wait for room at most; None: as long as it takes.

        Raises:
            ConfigError: a request is wrong.
            QueueFull: there was no room in time.
        """
        level = self._level(priority) if level is None else level
        job = job or ops.new_job()
        self._do(ops.open_gen(job, self._fields(name, priority, level, tenant)))
        try:
            calls = calls_of(job, requests, priority or "", model)
            with brokers.carrier(self.broker, self.name, level, tenant) as carry:
                self._do(ops.put_gen(calls, self._line(level, tenant), timeout), carry)
        except BaseException:
            self._do(ops.change_gen(job, "cancel"))
            raise
        self._do(ops.change_gen(job, "close"))
        return job

    def _level(self, priority: str | None) -> int:
        if priority is None:
            return 0
        with Limiter(self._url) as limiter:
            return level_of(priority, (each.quota for each in limiter.declarations()))

    def status(self, job: str) -> JobStatus:
        """Look at a job; one round trip."""
        return self._do(ops.status_gen(job))

    def jobs(self) -> list[JobStatus]:
        """List the jobs, the newest last; a round trip for each."""
        return self._do(ops.jobs_gen())

    def stream(self, job: str, *, follow: bool = True) -> Iterator[dict[str, Any]]:
        """Yield the results of a job as they come, as Batch output lines, those that failed last.

        Args:
            job: its id.
            follow: wait for those that are not there yet; False: only what there is.
        """
        for line in self.lines(job, follow=follow):
            yield json.loads(line)

    def lines(
        self, job: str, *, follow: bool = True, tick: Callable[[], None] | None = None
    ) -> Iterator[bytes]:
        """Yield the same, as they are written; `tick` is called while there is none."""
        place = 0
        while True:
            has_ended = self.status(job).has_ended
            while found := self._do(ops.results_gen(job, place)):
                place += len(found)
                yield from found
            if has_ended or not follow:
                yield from (each.why for each in self.failed(job))
                return
            if tick is not None:
                tick()
            time.sleep(_POLL_S / 4)

    def result(self, job: str, timeout: float | None = None) -> list[dict[str, Any]]:
        """Wait for all results of a job; return them in the order of its requests.

        Raises:
            WaitTimeout: it has not ended in time.
        """
        give_up_at = None if timeout is None else time.monotonic() + timeout
        while not (status := self.status(job)).has_ended:
            if give_up_at is not None and time.monotonic() >= give_up_at:
                raise _still_working(status, timeout)
            time.sleep(_POLL_S / 4)
        return list(self.stream(job, follow=False))

    def failed(self, job: str) -> list[Failed]:
        """List the calls of a job that failed for good, with why."""
        return self._do(ops.failed_gen(job))

    def retry(self, job: str) -> int:
        """Put the calls of a job that failed into the queue again; return how many."""
        numbers = [each.number for each in self.failed(job)]
        return self._do(ops.retry_gen(job, numbers)) if numbers else 0

    def cancel(self, job: str) -> JobStatus:
        """Let no more of a job's calls be made; those under way end, and their results are kept."""
        self._do(ops.change_gen(job, "cancel"))
        return self.status(job)

    def close(self) -> None:
        """Close the connections."""
        commands, self._commands = self._commands, None
        if commands is not None and self._pid == os.getpid():
            commands.close()
            opening.leave(self._url, id(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


class AsyncQueue(_Door):
    """The asyncio side of `Queue`: the same arguments and verbs; of one event loop."""

    def __init__(self, url: Any = None, **options: Any) -> None:
        super().__init__(url, **options)
        self._commands: Any = None
        self._opening = asyncio.Lock()

    async def _open(self) -> Any:
        if self._commands is None:
            from limiter.shells.scripted import AsyncCommands

            async with self._opening:
                if self._commands is None:
                    opened = await opening.async_client(self._url, TIMEOUT_S, id(self))
                    client, revive, owned = opened
                    self._commands = AsyncCommands(client, TIMEOUT_S, owned=owned, revive=revive)
        return self._commands

    async def radio(self) -> Any:
        """Return what a listener needs to hear of changes; for workers."""
        from limiter.shells.scripted import Radio

        commands = await self._open()
        return Radio(commands.client, is_cluster=commands.is_cluster, is_async=True)

    async def do(
        self, steps: ops.Steps[T], carry: Callable[[Carry], Awaitable[Any]] | None = None
    ) -> T:
        """Run an operation of `ops`; for workers."""
        answer: Any = None
        while True:
            try:
                wanted = steps.send(answer)
            except StopIteration as stop:
                done: T = stop.value
                return done
            match wanted:
                case Run(script, arguments):
                    commands = await self._open()
                    answer = await commands.run(f"queue/{script}", [self.root], *arguments)
                case Ask(command, key, arguments):
                    answer = await (await self._open()).one(command, self.root + key, *arguments)
                case Scan(key):
                    names = (await self._open()).scan(f"{self.root}{key}*")
                    answer = [name.removeprefix(self.root + key) async for name in names]
                case Carry():
                    assert carry is not None
                    answer = await carry(wanted)
                case Pause(seconds):
                    answer = seconds
                    await asyncio.sleep(seconds)

    async def submit(
        self,
        requests: Iterable[Given],
        *,
        priority: str | None = None,
        level: int | None = None,
        tenant: str | None = None,
        model: str | None = None,
        name: str = "",
        job: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Put calls into the queue; return the id of their job; see `Queue.submit`."""
        level = await self._level(priority) if level is None else level
        job = job or ops.new_job()
        await self.do(ops.open_gen(job, self._fields(name, priority, level, tenant)))
        try:
            calls = calls_of(job, requests, priority or "", model)
            async with brokers.async_carrier(self.broker, self.name, level, tenant) as carry:
                await self.do(ops.put_gen(calls, self._line(level, tenant), timeout), carry)
        except BaseException:
            await asyncio.shield(self.do(ops.change_gen(job, "cancel")))
            raise
        await self.do(ops.change_gen(job, "close"))
        return job

    async def _level(self, priority: str | None) -> int:
        if priority is None:
            return 0
        async with AsyncLimiter(self._url) as limiter:
            return level_of(priority, (each.quota for each in await limiter.declarations()))

    async def status(self, job: str) -> JobStatus:
        """Look at a job; one round trip."""
        return await self.do(ops.status_gen(job))

    async def jobs(self) -> list[JobStatus]:
        """List the jobs, the newest last."""
        return await self.do(ops.jobs_gen())

    async def stream(self, job: str, *, follow: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Yield the results of a job as they come; see `Queue.stream`."""
        place = 0
        while True:
            has_ended = (await self.status(job)).has_ended
            while found := await self.do(ops.results_gen(job, place)):
                place += len(found)
                for line in found:
                    yield json.loads(line)
            if has_ended or not follow:
                for each in await self.failed(job):
                    yield json.loads(each.why)
                return
            await asyncio.sleep(_POLL_S / 4)

    async def result(self, job: str, timeout: float | None = None) -> list[dict[str, Any]]:
        """Wait for all results of a job; see `Queue.result`."""
        try:
            async with asyncio.timeout(timeout):
                while not (await self.status(job)).has_ended:
                    await asyncio.sleep(_POLL_S / 4)
        except TimeoutError:
            raise _still_working(await self.status(job), timeout) from None
        return [result async for result in self.stream(job, follow=False)]

    async def failed(self, job: str) -> list[Failed]:
        """List the calls of a job that failed for good, with why."""
        return await self.do(ops.failed_gen(job))

    async def retry(self, job: str) -> int:
        """Put the calls of a job that failed into the queue again; return how many."""
        numbers = [each.number for each in await self.failed(job)]
        return await self.do(ops.retry_gen(job, numbers)) if numbers else 0

    async def cancel(self, job: str) -> JobStatus:
        """Let no more of a job's calls be made; see `Queue.cancel`."""
        await self.do(ops.change_gen(job, "cancel"))
        return await self.status(job)

    async def aclose(self) -> None:
        """Close the connections."""
        commands, self._commands = self._commands, None
        if commands is not None:
            await commands.close()
            opening.leave(self._url, id(self))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.aclose()


def _still_working(status: JobStatus, timeout: float | None) -> WaitTimeout:
    return WaitTimeout(
        f"The job {status.job} has {status.left:,} of {status.total:,} calls left after {timeout} s: are "
        "there workers? Results so far: stream(job, follow=False).",
        wait_s=None, left=status.left,
    )  # fmt: skip
