"""The sync driver: runs operations for the threads of one process.

Threads combine: while one thread's batch is under way, what the others submit gathers in the outbox,
and one of them carries all of it next. There is no thread of our own on the way of a call; one daemon
thread minds timers and leases, another reads wake-ups once somebody waits.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
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
from limiter.shells.keeper import Keeper
from limiter.shells.memory import MemoryStore, now_us
from limiter.shells.stores import SyncStore
from limiter.shells.wire import Wire

T = TypeVar("T")
D = TypeVar("D", Definition, Definition | None)
Ended = list[Request]
RETRY_S = 0.05  # how soon a store that did not answer is asked again for a definition
_INTERRUPTED = StoreError("The operation was interrupted before the store answered.")


class Lane:
    """Hold a line, and who may touch it."""

    __slots__ = ("joined", "leading", "line", "lock", "wire")

    def __init__(self, line: Line, wire: Wire) -> None:
        self.line = line
        self.wire = wire
        self.lock = threading.Lock()
        self.leading = False  # a thread carries a batch; whoever holds the lock may read it
        self.joined = False  # wake-ups are listened to


class SyncShell:
    """Drive the lines of one owner."""

    def __init__(self, store: SyncStore, quotas: Mapping[str, Quota], forecasts: dict[str, Forecasts],
                 *, lease_s: float, patience_s: float) -> None:  # fmt: skip
        self.store = store
        self.owner = secrets.token_hex(6)
        self._quotas, self._forecasts = quotas, forecasts
        self._lease_us, self._patience_us = int(lease_s * 1e6), int(patience_s * 1e6)
        self._lanes: dict[str, Lane] = {}
        self._channels: dict[str, Lane] = {}
        self._waiting: set[Line] = set()  # the lines that have tickets: they share the polls
        self._opening = threading.Lock()
        self._keeper = Keeper(self._keep)
        self._listener: Any = None
        self._closed = False

    # --- quotas ---------------------------------------------------------------------------

    def lane(self, name: str) -> Lane:
        """Return the lane of a quota; the first time, agree on its definition."""
        lane = self._lanes.get(name)
        if lane is None:
            with self._opening:
                lane = self._lanes.get(name) or self._open(name)
        return lane

    def _open(self, name: str) -> Lane:
        definition = self._agree_patiently(name)
        line = Line(definition, self.owner, self._lease_us, self._patience_us, self._waiting,
                    self._forecasts.setdefault(name, Forecasts()))  # fmt: skip
        wire = Wire(layout.keys(name), self.owner, self._lease_us, sharded=self.store.sharded)
        lane = self._lanes[name] = self._channels[wire.channel] = Lane(line, wire)
        return lane

    def _agree_patiently(self, name: str) -> Definition:
        """Agree on a definition for the first time; a store that is away is asked again for a while."""
        give_up_us = now_us() + self._patience_us
        while True:
            try:
                return self._agree(name, follow=False)
            except StoreError as exc:
                if not exc.retry or now_us() >= give_up_us:
                    raise
                time.sleep(random.uniform(0.5, 1.0) * RETRY_S)

    def _agree(self, name: str, *, follow: bool) -> Definition:
        ours = [quota for quota in self._quotas.values() if quota.unit == name]
        return self._define(name, ops.define_gen(name, ours, follow=follow))

    def set_quota(self, quota: Quota) -> None:
        """Declare a quota centrally."""
        self._define(quota.unit, ops.central_gen(quota))

    def _define(self, name: str, steps: Generator[ops.Declare | None, Any, D]) -> D:
        keys = layout.keys(name)
        answer: Any = None
        try:
            while True:
                wanted = steps.send(answer)
                answer = (
                    self.store.read(keys)
                    if wanted is None
                    else self.store.declare(keys, wanted.seen, wanted.text, wanted.origin)
                )
        except StopIteration as stop:
            agreed: D = stop.value
            return agreed

    def observe(self, name: str, quota: str) -> tuple[Definition, Reply]:
        """Look at a unit, and at one of its quotas, without being an owner; one round trip."""
        lane = self.lane(name)
        batch = ops.look_around(lane.line.definition, quota)
        wire = Wire(layout.keys(name), "observer", 0, sharded=self.store.sharded)
        reply = _read(self.store.run(wire, batch), batch)
        if reply.outcome != layout.Outcome.DONE:
            with lane.lock:
                lane.line.redefine(self._agree(name, follow=True))
            return self.observe(name, quota)
        return lane.line.definition, reply

    # --- operations -----------------------------------------------------------------------

    def run(
        self, lane: Lane, steps: Generator[Request, None, T], timeout_s: float | None = None
    ) -> T:
        """Run an operation to its end; this thread may carry others' with it."""
        deadline = None if timeout_s is None else time.monotonic() + max(0.0, timeout_s)
        lane.lock.acquire()
        try:
            request = next(steps)
            if not request.submitted:
                lane.line.submit(request, now_us())
            try:
                if not lane.leading and not request.done and lane.line.outbox:
                    self._lead(lane, request, deadline)
                if not request.done:
                    self._wait(lane, request, deadline)
            except BaseException as exc:  # noqa: BLE001 - the operation passes it on
                return ops.end(steps, exc)
            return ops.end(steps)
        finally:
            # What an interrupted call leaves to be taken back does not wait for the keeper.
            if lane.line.outbox and not lane.leading and not lane.line.failing:
                self._lead(lane, None, deadline)
            self._settle_down(lane)
            lane.lock.release()

    def _wait(self, lane: Lane, request: Request, deadline: float | None) -> None:
        """Wait for the end of a request, with the lock given up meanwhile."""
        event = request.waiter = threading.Event()
        self._settle_down(lane)
        while not request.has_ended():
            lane.lock.release()
            try:
                event.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            finally:
                lane.lock.acquire()
            event.clear()
            if request.has_ended():
                return
            if deadline is not None and time.monotonic() >= deadline:
                # What a refusal without waiting needs is its answer, not patience.
                if request.op == layout.Op.ACQUIRE and request.may_wait:
                    raise ops.Expired
                deadline = None
            if not lane.leading and lane.line.outbox:
                self._lead(lane, request, deadline)
                self._settle_down(lane)

    def submit(self, lane: Lane, amounts: Mapping[str, int], asking: Asking) -> Request:
        """Send an acquire soon, with whatever is sent next; who wants to waits for it later."""
        with lane.lock:
            request = ops.ask(lane.line, amounts, asking)
            lane.line.submit(request, now_us())
            self._keeper.mind(lane.line.due_us())
        return request

    def abandon(self, lane: Lane, request: Request) -> None:
        """Give up a call, and give back what it may have got."""
        with lane.lock:
            lane.line.abandon(request)
            self._keeper.mind(lane.line.due_us())

    def first_of(
        self, asked: Sequence[tuple[Lane, Request]], timeout_s: float | None
    ) -> tuple[Lane, Request] | None:
        """Wait until one of several requests has ended; None: the time is over."""
        event = threading.Event()
        for lane, request in asked:
            with lane.lock:
                request.waiter = event
        deadline = None if timeout_s is None else time.monotonic() + max(0.0, timeout_s)
        while True:
            event.clear()
            if ended := next((each for each in asked if each[1].done), None):
                return ended
            for lane, _ in asked:
                with lane.lock:
                    if not lane.leading and lane.line.outbox and not lane.line.failing:
                        self._lead(lane, None, deadline)
                    self._settle_down(lane)
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return next((each for each in asked if each[1].done), None)
            if not any(request.done for _, request in asked):
                event.wait(left_s)

    def post(self, lane: Lane, request: Request) -> None:
        """Send a request soon, by the keeper; nobody waits for it."""
        with lane.lock:
            lane.line.post(request)
            self._keeper.mind(lane.line.due_us())

    def report(self, lane: Lane, request: Request) -> None:
        """Say what the provider answered; nobody waits for it. Limits that it told are taken over first."""
        if self._closed:
            return
        name = ops.pupil(lane.line, request, now_us())
        if name is not None:
            self._learn(lane, name, request)
        with lane.lock:
            lane.line.post(request)
            # What the call used is told soon; both can travel together.
            later_us = 0 if ops.is_urgent(request) else int(ops.REPORT_S * 1e6)
            self._keeper.mind(now_us() + later_us)

    def _learn(self, lane: Lane, name: str, request: Request) -> None:
        unit = lane.line.definition.name
        try:
            learned = self._define(unit, ops.learn_gen(unit, name, ops.told(request)))
        except StoreError:
            return  # the next answer tells it again
        if learned is not None:
            with lane.lock:
                lane.line.redefine(learned)

    def _lead(self, lane: Lane, request: Request | None, deadline: float | None) -> None:
        """Carry batches until `request` has its answer, or none is due; the lock is held."""
        line = lane.line
        lane.leading = True
        try:
            while True:
                if line.outdated:
                    ended = self._redefine(lane)
                else:
                    batch = line.depart(now := now_us()) or line.tick(now)
                    if batch is None:
                        return
                    ended = self._fly(lane, batch)
                for other in ended:
                    if other.waiter is not None and other is not request:
                        other.waiter.set()
                if request is None or request.done or request.n in line.tickets:
                    return
                if not self._rest(lane, deadline):
                    return
        finally:
            lane.leading = False

    def _fly(self, lane: Lane, batch: Batch) -> Ended:
        """Run one batch, with the lock given up meanwhile."""
        line = lane.line
        lane.lock.release()
        try:
            reply = _read(self.store.run(lane.wire, batch), batch)
        except StoreError as exc:
            lane.lock.acquire()
            return line.lost(exc, now_us(), retry=exc.retry)
        except BaseException:
            lane.lock.acquire()
            line.lost(_INTERRUPTED, now_us(), retry=True)
            raise
        lane.lock.acquire()
        return line.arrive(reply, now_us())

    def _redefine(self, lane: Lane) -> Ended:
        lane.lock.release()
        try:
            definition = self._agree(lane.line.definition.name, follow=True)
        except StoreError as exc:
            lane.lock.acquire()
            return lane.line.lost(exc, now_us(), retry=exc.retry)
        except BaseException:
            lane.lock.acquire()
            raise
        lane.lock.acquire()
        lane.line.redefine(definition)
        return []

    def _rest(self, lane: Lane, deadline: float | None) -> bool:
        """Pause after a failure; say whether to go on."""
        pause_s = lane.line.backoff_us(now_us()) / 1e6 * random.uniform(0.5, 1.0)
        if pause_s <= 0:
            return True
        if deadline is not None:
            pause_s = min(pause_s, deadline - time.monotonic())
        lane.lock.release()
        try:
            time.sleep(max(0.0, pause_s))
        finally:
            lane.lock.acquire()
        return deadline is None or time.monotonic() < deadline

    def _settle_down(self, lane: Lane) -> None:
        """Before this thread goes: hand the outbox on, and see to wake-ups and timers."""
        line = lane.line
        if line.tickets and not lane.joined:
            self._join(lane)
        if lane.leading:
            return
        for request in line.outbox:
            if request.waiter is not None and not request.done:
                request.waiter.set()
                return
        self._keeper.mind(line.due_us())

    # --- wake-ups and timers --------------------------------------------------------------

    def _join(self, lane: Lane) -> None:
        lane.joined = True
        if isinstance(self.store, MemoryStore):
            self.store.subscribe(lane.wire.channel, self._hear)
            lane.line.confirm()
            return
        if self._listener is None:
            from limiter.shells.listen import Listener

            self._listener = Listener(
                self.store,  # type: ignore[arg-type]  # the only other store
                lambda channel, data: self._hear(channel, layout.parse_message(data)),
                self._confirm,
            )
        self._listener.subscribe(lane.wire.channel)

    def _confirm(self, channel: str) -> None:
        """Ask about the tickets, now that wake-ups are heard."""
        lane = self._channels[channel]
        with lane.lock:
            lane.line.confirm()
            if not lane.leading:
                self._keeper.mind(lane.line.due_us())

    def _hear(self, channel: str, message: Message) -> None:
        lane = self._channels[channel]
        with lane.lock:
            for request in lane.line.hear(message, now_us()):
                if request.waiter is not None:
                    request.waiter.set()
            if not lane.leading:
                self._keeper.mind(lane.line.due_us())

    def _keep(self) -> int | None:
        """Send what is due; return when to look again."""
        dues = []
        for lane in list(self._lanes.values()):
            with lane.lock:
                due = lane.line.due_us()
                if due is not None and due <= now_us() and not lane.leading:
                    self._lead(lane, None, None)
                    due = lane.line.due_us()
                if due is not None:
                    dues.append(due)
        return min(dues, default=None)

    def close(self) -> None:
        """Send what is left, and stop the threads."""
        self._closed = True
        self._keeper.close()
        for lane in self._lanes.values():
            with lane.lock:
                for _ in range(1000):
                    if lane.leading or not lane.line.outbox or lane.line.failing:
                        break
                    self._lead(lane, None, None)
        if self._listener:
            self._listener.close()
        self.store.close()


def _read(answer: Reply | bytes | str, batch: Batch) -> Reply:
    return answer if isinstance(answer, Reply) else layout.parse_reply(answer, batch.entries)
