"""A worker: takes calls from a queue, makes them under the limit, stores their results.

A call is let go of when its result is stored, so a worker that is killed loses nothing: its calls come
back when their leases end. One whose result was stored and whose letting go was not is not made again.
Nothing here decides who is next: that is the queue's script, and the limiter's line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from limiter.bulk.calls import Ended
from limiter.errors import StoreError
from limiter.queue.holding import Holding
from limiter.queue.layout import Queued, Taken
from limiter.queue.sources import Source

log = logging.getLogger("limiter")

T = TypeVar("T")

LEASE_S, TRIES, GRACE_S = 30.0, 5, 30.0
_LOOK_S = 1.0  # a wake-up may be lost; and calls whose worker was lost wake nobody
_LATER_S = 15.0
_BACKOFF_S, _BACKOFF_MAX_S = 0.1, 5.0
_FAREWELL_S = 5.0
# Ends of a call that are nobody's fault but the moment's: it is put off.
_PUT_OFF = frozenset({"CircuitOpen"})


class Caller(Protocol):
    """Make calls; see `limiter.bulk.calls.Caller`."""

    async def run(self, number: int, raw: bytes, **flow: str | None) -> Ended:
        """Make the call of a line."""


class Worker:
    """Serve one queue until it is stopped.

    Args:
        source: where its calls come from.
        concurrency: calls under way at a time.
        lease: of the source's calls, in seconds: they are renewed each third of it.
        ended: told how each call ended.
    """

    def __init__(
        self,
        source: Source,
        *,
        concurrency: int,
        lease: float = LEASE_S,
        ended: Callable[[Taken, Ended], None] = lambda _taken, _ended: None,
    ) -> None:
        self._source = source
        self._holding: Holding[asyncio.Task[None]] = Holding(concurrency)
        self._lease_s, self._told = lease, ended
        self._tasks: dict[asyncio.Task[None], Taken] = {}
        self._returned: list[Taken] = []
        self._returning: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._is_stopping = self._is_away = False
        self._caller: Caller | None = None

    def granted(self) -> None:
        """Note that the call of this task has its turn; for `Caller(granted=…)`."""
        task = asyncio.current_task()
        if task is not None:
            self._holding.granted(task, time.monotonic())
            self._changed.set()

    def stop(self) -> None:
        """Take no more, give back what waits, let calls under way finish."""
        self._is_stopping = True
        self._changed.set()

    def abandon(self) -> None:
        """End now: what is under way goes back, too."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def run(self, caller: Caller, grace: float | None = GRACE_S) -> None:
        """Work until `stop`.

        Args:
            caller: makes the calls; it was given `self.granted`.
            grace: seconds that calls under way have to finish then; None: as long as it takes.
        """
        self._caller = caller
        renewing = asyncio.create_task(self._renew())
        listener = await self._source.listen(self._changed.set)
        try:
            while not self._is_stopping:
                self._changed.clear()
                due_s = await self._take()
                if due_s is not None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(due_s):
                            await self._changed.wait()
        finally:
            await self._leave(grace)
            renewing.cancel()
            await listener.close()

    async def _take(self) -> float | None:
        """Take what there is to be taken; return how long to wait then, None: not at all."""
        want = self._holding.want()
        if want is None:
            return _LOOK_S
        due_s, taken = await self._patiently(lambda: self._source.take(want))
        for each in taken:
            task = asyncio.create_task(self._make(each))
            self._tasks[task] = each
            self._holding.took(task, each.level)
            task.add_done_callback(self._forget)
        for task in self._holding.surplus():
            task.cancel()
        if taken:
            return None
        return _LOOK_S if due_s is None else min(_LOOK_S, due_s + 0.01)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """See to a call that is over; one that was cancelled, maybe before it began, goes back."""
        taken = self._tasks.pop(task)
        self._holding.ended(task)
        self._changed.set()
        if task.cancelled():
            self._returned.append(taken)
            if self._returning is None:
                self._returning = asyncio.create_task(self._give_back())
        elif (error := task.exception()) is not None:
            log.error("A defect of the worker: %r", error, exc_info=error)

    async def _give_back(self) -> None:
        """Give calls back together, so that they stand in their line as they did."""
        await asyncio.sleep(0)  # until all that were cancelled at once are here
        returned, self._returned, self._returning = self._returned, [], None
        await self._quietly(self._source.give_back(returned))

    async def _make(self, taken: Taken) -> None:
        """Make one call and store its result."""
        call = taken.call
        assert self._caller is not None
        try:
            ended = await self._caller.run(
                call.number, call.line, priority=call.priority or None, tenant=taken.tenant or None
            )
        except Exception as exc:  # noqa: BLE001 - one call must not end the others
            ended = _defect(call, exc)
        if ended.code in _PUT_OFF:
            later_s = _LATER_S * random.uniform(0.5, 1.5)
            await self._quietly(self._source.put_off(taken, ended, later_s))
            return
        # What was made is stored, whatever becomes of this worker meanwhile.
        finish = self._patiently(lambda: self._source.finish(taken, ended))
        await asyncio.shield(asyncio.ensure_future(finish))
        self._told(taken, ended)

    async def _quietly(self, ending: Awaitable[None]) -> None:
        with contextlib.suppress(StoreError):  # its lease ends
            await ending

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            await self._quietly(self._source.renew(list(self._tasks.values())))

    async def _leave(self, grace_s: float | None) -> None:
        """Give back what waits, wait for what is under way, then give that back, too."""
        for task in self._holding.waiting:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=grace_s)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_FAREWELL_S)
        await asyncio.sleep(0)  # until those that were cancelled are seen to
        if self._returning:
            await asyncio.wait([self._returning], timeout=_FAREWELL_S)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer: a store that is away comes back, and every verb may be repeated."""
        pause_s = _BACKOFF_S
        while True:
            try:
                answer = await ask()
            except StoreError as exc:
                if not exc.retry:
                    raise
                if not self._is_away:
                    log.warning("The queue does not answer, and is asked until it does: %s", exc)
                self._is_away = True
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(_BACKOFF_MAX_S, 2 * pause_s)
            else:
                if self._is_away:
                    log.warning("The queue is back.")
                self._is_away = False
                return answer


def _defect(call: Queued, exc: Exception) -> Ended:
    error = {"code": type(exc).__name__, "message": f"A defect: {exc!r}"}
    line = {"custom_id": call.custom_id or None, "response": None, "error": error}
    return Ended(ok=False, line=json.dumps(line).encode() + b"\n", code=error["code"])
