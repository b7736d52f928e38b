"""The asyncio driver: runs operations for the tasks of one event loop.

What tasks submit in one turn of the loop leaves in one batch; while that is under way the next one
gathers. Batches, timers and wake-ups are run by tasks of our own, so that the cancellation of a caller
never tears one apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

from limiter.core import layout, ops
from limiter.core.definition import Definition
from limiter.core.forecasts import Forecasts
from limiter.core.layout import Message, Reply
from limiter.core.line import Line
from limiter.core.quota import Quota
from limiter.core.request import Asking, Batch, Request
from limiter.errors import StoreError
from limiter.shells.memory import now_us
from limiter.shells.stores import AsyncMemoryStore, AsyncStore
from limiter.shells.wire import Wire

T = TypeVar("T")
D = TypeVar("D", Definition, Definition | None)
RETRY_S = 0.05  # how soon a store that did not answer is asked again for a definition


class Lane:
    """Hold a line, the flight that carries its batches, and its timer."""

    __slots__ = ("flight", "joined", "line", "timer", "wire")

    def __init__(self, line: Line, wire: Wire) -> None:
        self.line = line
        self.wire = wire
        self.flight: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.joined = False  # wake-ups are listened to


class AsyncShell:
    """Drive the lines of one owner within one event loop."""

    def __init__(self, store: AsyncStore, quotas: Mapping[str, Quota], forecasts: dict[str, Forecasts],
                 *, lease_s: float, patience_s: float) -> None:  # fmt: skip
        self.loop = asyncio.get_running_loop()
        self.store = store
        self.owner = secrets.token_hex(6)
        self._quotas, self._forecasts = quotas, forecasts
        self._lease_us, self._patience_us = int(lease_s * 1e6), int(patience_s * 1e6)
        self._lanes: dict[str, Lane] = {}
        self._channels: dict[str, Lane] = {}
        self._waiting: set[Line] = set()  # the lines that have tickets: they share the polls
        self._opening = asyncio.Lock()
        self._listener: Any = None
        self._lessons: set[asyncio.Task[None]] = set()
        self._closed = False

    # --- quotas ---------------------------------------------------------------------------

    async def lane(self, name: str) -> Lane:
        """Return the lane of a quota; the first time, agree on its definition."""
        lane = self._lanes.get(name)
        if lane is None:
            async with self._opening:
                lane = self._lanes.get(name) or await self._open(name)
        return lane

    def ready(self, name: str) -> Lane | None:
        """Return the lane of a quota that was used before."""
        return self._lanes.get(name)

    async def _open(self, name: str) -> Lane:
        definition = await self._agree_patiently(name)
        line = Line(definition, self.owner, self._lease_us, self._patience_us, self._waiting,
                    self._forecasts.setdefault(name, Forecasts()))  # fmt: skip
        wire = Wire(layout.keys(name), self.owner, self._lease_us, sharded=self.store.sharded)
        lane = self._lanes[name] = self._channels[wire.channel] = Lane(line, wire)
        return lane

    async def _agree_patiently(self, name: str) -> Definition:
        """Agree on a definition for the first time; a store that is away is asked again for a while."""
        give_up_us = now_us() + self._patience_us
        while True:
            try:
                return await self._agree(name, follow=False)
            except StoreError as exc:
                if not exc.retry or now_us() >= give_up_us:
                    raise
                await asyncio.sleep(random.uniform(0.5, 1.0) * RETRY_S)

    async def _agree(self, name: str, *, follow: bool) -> Definition:
        ours = [quota for quota in self._quotas.values() if quota.unit == name]
        return await self._define(name, ops.define_gen(name, ours, follow=follow))

    async def set_quota(self, quota: Quota) -> None:
        """Declare a quota centrally."""
        await self._define(quota.unit, ops.central_gen(quota))

    async def _define(self, name: str, steps: Generator[ops.Declare | None, Any, D]) -> D:
        keys = layout.keys(name)
        answer: Any = None
        try:
            while True:
                wanted = steps.send(answer)
                answer = (
                    await self.store.read(keys)
                    if wanted is None
                    else await self.store.declare(keys, wanted.seen, wanted.text, wanted.origin)
                )
        except StopIteration as stop:
            agreed: D = stop.value
            return agreed

    async def observe(self, name: str, quota: str) -> tuple[Definition, Reply]:
        """Look at a unit, and at one of its quotas, without being an owner; one round trip."""
        lane = await self.lane(name)
        batch = ops.look_around(lane.line.definition, quota)
        wire = Wire(layout.keys(name), "observer", 0, sharded=self.store.sharded)
        reply = _read(await self.store.run(wire, batch), batch)
        if reply.outcome != layout.Outcome.DONE:
            lane.line.redefine(await self._agree(name, follow=True))
            return await self.observe(name, quota)
        return lane.line.definition, reply

    # --- operations -----------------------------------------------------------------------

    async def run(
        self, lane: Lane, steps: Generator[Request, None, T], timeout_s: float | None = None
    ) -> T:
        """Run an operation to its end."""
        request = next(steps)
        if request.done:
            return ops.end(steps)
        waiter = request.waiter = self.loop.create_future()
        if not request.submitted:
            lane.line.submit(request, now_us())
        if lane.flight is None and lane.line.outbox:
            lane.flight = self.loop.create_task(self._fly(lane))
        try:
            try:
                if timeout_s is None or not request.may_wait:
                    await waiter
                else:
                    await self._until(waiter, timeout_s)
            except BaseException as exc:  # noqa: BLE001 - the operation passes it on
                return ops.end(steps, exc)
            return ops.end(steps)
        finally:
            if lane.line.outbox:
                self._kick(lane)

    async def _until(self, waiter: asyncio.Future[None], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            raise ops.Expired from None

    def submit(self, lane: Lane, amounts: Mapping[str, int], asking: Asking) -> Request:
        """Send an acquire soon, with whatever is sent next; who wants to waits for it later."""
        request = ops.ask(lane.line, amounts, asking)
        lane.line.submit(request, now_us())
        self._kick(lane)
        return request

    def abandon(self, lane: Lane, request: Request) -> None:
        """Give up a call, and give back what it may have got."""
        lane.line.abandon(request)
        self._kick(lane)

    async def first_of(
        self, asked: Sequence[tuple[Lane, Request]], timeout_s: float | None
    ) -> tuple[Lane, Request] | None:
        """Wait until one of several requests has ended; None: the time is over."""
        waiters = []
        for _, request in asked:
            request.waiter = self.loop.create_future()
            waiters.append(request.waiter)
            if request.done:
                _resolve(request)
        await asyncio.wait(waiters, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return next((each for each in asked if each[1].done), None)

    def post(self, lane: Lane, request: Request) -> None:
        """Send a request soon; nobody waits for it."""
        lane.line.post(request)
        self._kick(lane)

    def report(self, lane: Lane, request: Request) -> asyncio.Task[None] | None:
        """Say what the provider answered; return the task that takes over limits before, if any."""
        task = None
        name = ops.pupil(lane.line, request, now_us())
        if name is not None and not self._closed:
            task = self.loop.create_task(self._learn(lane, name, request))
            self._lessons.add(task)
            task.add_done_callback(self._lessons.discard)
        elif ops.is_urgent(request):
            self.post(lane, request)
        elif not self.loop.is_closed():
            # What the call used is told soon; both can travel together.
            lane.line.post(request)
            self.loop.call_later(ops.REPORT_S, self._send, lane)
        return task

    async def _learn(self, lane: Lane, name: str, request: Request) -> None:
        unit = lane.line.definition.name
        with contextlib.suppress(StoreError):  # the next answer tells it again
            if learned := await self._define(unit, ops.learn_gen(unit, name, ops.told(request))):
                lane.line.redefine(learned)
        self.post(lane, request)

    def _send(self, lane: Lane) -> None:
        if lane.line.outbox:
            self._kick(lane)

    def _kick(self, lane: Lane) -> None:
        if lane.flight is None and not self.loop.is_closed():
            lane.flight = self.loop.create_task(self._fly(lane))

    async def _fly(self, lane: Lane) -> None:
        """Carry batches for as long as there are any."""
        line = lane.line
        try:
            while True:
                if line.outdated:
                    ended = await self._redefine(lane)
                else:
                    batch = line.depart(now := now_us()) or line.tick(now)
                    if batch is None:
                        break
                    ended = await self._run(lane, batch)
                for request in ended:
                    _resolve(request)
                if line.tickets and not lane.joined:
                    self._join(lane)  # at once: a busy flight may never end
                if pause_us := line.backoff_us(now_us()):
                    await asyncio.sleep(pause_us / 1e6 * random.uniform(0.5, 1.0))
        finally:
            lane.flight = None
            self._mind(lane)

    async def _run(self, lane: Lane, batch: Batch) -> list[Request]:
        line = lane.line
        try:
            reply = _read(await self.store.run(lane.wire, batch), batch)
        except StoreError as exc:
            return line.lost(exc, now_us(), retry=exc.retry)
        except BaseException:
            line.lost(StoreError("The event loop ended before the store answered."), 0, retry=True)
            raise
        return line.arrive(reply, now_us())

    async def _redefine(self, lane: Lane) -> list[Request]:
        try:
            definition = await self._agree(lane.line.definition.name, follow=True)
        except StoreError as exc:
            return lane.line.lost(exc, now_us(), retry=exc.retry)
        lane.line.redefine(definition)
        return []

    # --- wake-ups and timers --------------------------------------------------------------

    def _join(self, lane: Lane) -> None:
        lane.joined = True
        channel = lane.wire.channel
        if isinstance(self.store, AsyncMemoryStore):
            # The one that grants may be another thread.
            self.store.store.subscribe(channel, self._hear_from_afar)
            lane.line.confirm()
            return
        if self._listener is None:
            from limiter.shells.listen import AsyncListener

            self._listener = AsyncListener(
                self.store,  # type: ignore[arg-type]  # the only other store
                lambda channel, data: self._hear(channel, layout.parse_message(data)),
                self._confirm,
            )
        self._listener.subscribe(channel)

    def _confirm(self, channel: str) -> None:
        """Ask about the tickets, now that wake-ups are heard."""
        lane = self._channels[channel]
        lane.line.confirm()
        if not self._closed:
            self._kick(lane)

    def _hear_from_afar(self, channel: str, message: Message) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self.loop.call_soon_threadsafe(self._hear, channel, message)

    def _hear(self, channel: str, message: Message) -> None:
        lane = self._channels[channel]
        for request in lane.line.hear(message, now_us()):
            _resolve(request)
        self._mind(lane)

    def _mind(self, lane: Lane) -> None:
        """Set the timer, unless it goes off early enough as it is."""
        due = lane.line.due_us()
        if due is None or self._closed or lane.flight is not None:
            return
        delay_s = max(0, due - now_us()) / 1e6
        if lane.timer is not None:
            if lane.timer.when() <= self.loop.time() + delay_s:
                return
            lane.timer.cancel()
        lane.timer = self.loop.call_later(delay_s, self._ring, lane)

    def _ring(self, lane: Lane) -> None:
        lane.timer = None
        due = lane.line.due_us()
        if due is not None and due <= now_us() + 500:
            self._kick(lane)
        else:
            self._mind(lane)

    async def close(self) -> None:
        """Send what is left, and stop the tasks."""
        self._closed = True
        if self._lessons:
            await asyncio.wait(self._lessons)
        for lane in self._lanes.values():
            if lane.timer:
                lane.timer.cancel()
            while lane.flight is not None or (lane.line.outbox and not lane.line.failing):
                self._kick(lane)
                if lane.flight is not None:
                    if lane.line.failing:
                        lane.flight.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await lane.flight
        if self._listener:
            await self._listener.close()
        await self.store.close()


def _resolve(request: Request) -> None:
    if request.waiter is not None and not request.waiter.done():
        request.waiter.set_result(None)


def _read(answer: Reply | bytes | str, batch: Batch) -> Reply:
    return answer if isinstance(answer, Reply) else layout.parse_reply(answer, batch.entries)
