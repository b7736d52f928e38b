"""The event loop: processes that share a quota, in virtual time, one heap of events.

A process is what a `Limiter` is in production, without latency: what is ready at one moment leaves
in one batch, and it runs again when a reply or a wake-up said that the head of the line, if it is
its own, will fit. Nobody polls: where a timer or a wake-up is missing, calls wait for ever, and the
replay says so. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from limiter.core import layout
from limiter.core.definition import Definition
from limiter.core.layout import Entry, Grant, Message, Op, Outcome, Reply, Result, Status
from limiter.core.line import BATCH
from limiter.errors import ScriptError
from limiter.simulation.record import Ending, Record
from limiter.simulation.usage import Usage
from limiter.simulation.workload import START_US, Call, acquire

# What happens at one moment happens in this order: calls end, calls give up, calls arrive.
_END, _DEADLINE, _ARRIVAL, _TIMER = range(4)

# No process dies here: eleven years, longer than a trace and the service of a call together. Not
# so long that now + lease would be no exact double any more.
LEASE_US = 4_000 * 86_400 * 1_000_000
# Runs in a row, at one moment, that were sent for their timer alone and granted nothing.
_PATIENCE = 100


class Engine(Protocol):
    """Run batches on one quota, at the time that the caller says."""

    @property
    def definition(self) -> Definition:
        """Return the definition that batches must name."""

    def run(
        self,
        now: int,
        owner: str,
        number: int,
        lease_us: int,
        version: str,
        entries: Sequence[Entry],
    ) -> tuple[Reply, Mapping[str, Message]]:
        """Apply a batch; return its reply, and the wake-ups by owner."""


def owners(processes: int) -> list[str]:
    """Name the processes."""
    return [f"p{place}" for place in range(processes)]


@dataclass(slots=True, eq=False)
class _Process:
    name: str
    place: int
    number: int = 0
    timer_us: int | None = None


class Replay:
    """Replay calls on an engine.

    Args:
        calls: in the order of their arrival; taken one by one, as time reaches them.
        processes: calls are dealt out to them in turn.
    """

    def __init__(self, engine: Engine, calls: Iterable[Call], processes: int) -> None:
        self.record = Record()
        self.usage = Usage(engine.definition, START_US)
        self._engine = engine
        self._calls = iter(calls)
        self._processes = [_Process(name, i) for i, name in enumerate(owners(processes))]
        self._by_name = {process.name: process for process in self._processes}
        self._events: list[tuple[int, int, int]] = []  # at_us, kind, n (of a timer: the process)
        self._known: dict[int, Call] = {}
        self._waiting: set[int] = set()
        self._vain = 0

    def run(self) -> None:
        """Replay all calls to their ends.

        Raises:
            ScriptError: a wake-up is missing, or something is left behind in the end.
        """
        self._expect_arrival()
        while self._events:
            now = self._events[0][0]
            for process, due in self._due(now).items():
                self._send(process, now, due)
        self._check_nothing_is_left()

    # --- events ---------------------------------------------------------------------------

    def _expect_arrival(self) -> None:
        call = next(self._calls, None)
        if call:
            self._known[call.n] = call
            heapq.heappush(self._events, (call.at_us, _ARRIVAL, call.n))

    def _due(self, now: int) -> Mapping[_Process, list[tuple[int, int]]]:
        """Take all events of a moment; return them by process, who comes first first."""
        due: dict[_Process, list[tuple[int, int]]] = {}
        while self._events and self._events[0][0] <= now:
            _, kind, n = heapq.heappop(self._events)
            due.setdefault(self._processes[n % len(self._processes)], []).append((kind, n))
            if kind == _ARRIVAL:
                self.record.asked(self._known[n])
                self._expect_arrival()
        return due

    def _send(self, process: _Process, now: int, due: Sequence[tuple[int, int]]) -> None:
        for first in range(0, len(due), BATCH):
            # Only now: the batch before may have granted what would give up in this one.
            wanted = (self._entry(kind, n) for kind, n in due[first : first + BATCH])
            entries = [entry for entry in wanted if entry]
            timed = process.timer_us is not None and process.timer_us <= now
            if entries or timed:
                self._run(process, now, entries)

    def _entry(self, kind: int, n: int) -> Entry | None:
        if kind == _ARRIVAL:
            return acquire(self._known[n])
        if kind == _END:
            return layout.settle(n, self._known[n].actual)
        # A call that was granted before its deadline has none any more.
        return layout.cancel(n) if kind == _DEADLINE and n in self._waiting else None

    # --- batches --------------------------------------------------------------------------

    def _run(self, process: _Process, now: int, entries: Sequence[Entry]) -> None:
        process.number += 1
        self.record.runs += 1
        version = self._engine.definition.version
        reply, messages = self._engine.run(
            now, process.name, process.number, LEASE_US, version, entries
        )
        if reply.outcome != Outcome.DONE:
            raise ScriptError(
                f"A batch of the simulation was {reply.outcome.name}: please report it."
            )
        self.usage.advance(now)
        for entry, result in zip(entries, reply.results, strict=True):
            self._learn(entry, result, now)
        self._set_timer(process, now, reply.next_us if reply.mine else -1)
        self._take_grants(reply.grants, now)
        for name, message in messages.items():
            if message.next_us >= 0:
                self._set_timer(self._by_name[name], now, message.next_us)
            self._take_grants(message.grants, now)
        self._check_progress(reply, entries)
        self.usage.observe(waiting=bool(self._waiting))

    def _set_timer(self, process: _Process, now: int, next_us: int) -> None:
        at_us = now + next_us if next_us >= 0 else None
        if at_us is not None:
            heapq.heappush(self._events, (at_us, _TIMER, process.place))
        process.timer_us = at_us

    def _check_progress(self, reply: Reply, entries: Sequence[Entry]) -> None:
        vain = not entries and not reply.grants and reply.next_us == 0
        self._vain = self._vain + 1 if vain else 0
        if self._vain > _PATIENCE:
            raise ScriptError("A head of the line is due and is not granted: please report it.")

    # --- what answers mean ----------------------------------------------------------------

    def _learn(self, entry: Entry, result: Result, now: int) -> None:
        call = self._known[int(entry[1])]
        match entry[0], result.status:
            case Op.ACQUIRE, Status.WAITING:
                self._waiting.add(call.n)
                if call.timeout_us is not None:
                    heapq.heappush(self._events, (now + call.timeout_us, _DEADLINE, call.n))
            case Op.ACQUIRE, Status.GRANTED | Status.REFUSED | Status.NEVER | Status.FULL as status:
                self._answered(call, now, status)
            case Op.SETTLE, Status.DONE:
                self.record.ended_us = now
                self.usage.settled(call.cost, call.actual)
                del self._known[call.n]
            case Op.CANCEL, Status.DONE:
                self._waiting.remove(call.n)
                self.record.answered(call, now, Ending.TIMED_OUT)
                del self._known[call.n]
            case op, status:
                raise ScriptError(f"{op!r} of call {call.n} ended as {status!r}: please report it.")

    def _take_grants(self, grants: Iterable[Grant], now: int) -> None:
        for grant in grants:
            if grant.n not in self._waiting:
                raise ScriptError(
                    f"Call {grant.n} is granted, but it does not wait: please report it."
                )
            self._waiting.remove(grant.n)
            self._answered(self._known[grant.n], now, grant.status)

    def _answered(self, call: Call, now: int, status: int) -> None:
        granted = status == Status.GRANTED
        self.record.answered(call, now, Ending.GRANTED if granted else Ending.REFUSED)
        if granted:
            self.usage.granted(call.cost)
            heapq.heappush(self._events, (now + call.service_us, _END, call.n))
        else:
            del self._known[call.n]

    def _check_nothing_is_left(self) -> None:
        if self._waiting:
            raise ScriptError(
                f"{len(self._waiting)} calls wait, nothing is under way and no timer is set: "
                "a wake-up is missing, please report it."
            )
        now, version = self.record.ended_us, self._engine.definition.version
        reply, _ = self._engine.run(now, "observer", 0, 0, version, [])
        if reply.held or reply.waiting:
            raise ScriptError(
                f"All calls have ended, yet {reply.held} reservations and {reply.waiting} tickets "
                "are left: please report it."
            )
