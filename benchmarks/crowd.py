"""One owner's calls in virtual time: what it keeps waiting, what it sends, what it hears.

Pure but for the engine that it is given, and that may be anything that runs batches: the script on
a real server, or the model. `lockstep` has one of these in each of its processes.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from limiter.core import layout
from limiter.core.definition import Definition
from limiter.core.layout import Entry, Grant, Message, Reply, Result, Status
from limiter.core.line import BATCH

Run = Callable[[int, Sequence[Entry]], tuple[Reply, Mapping[str, Message]]]


@dataclass(frozen=True, slots=True)
class Flow:
    """Name a flow: a priority's calls for a tenant."""

    tenant: str = ""
    weight: float = 1.0
    priority: str = "default"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Keep `waiting` calls of a flow in the line, from `from_us` on; more come once `low` are left."""

    flow: Flow
    waiting: int
    low: int
    from_us: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """Let one call come at a moment."""

    at_us: int
    flow: Flow


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what one owner does; times are virtual microseconds.

    Attributes:
        tokens: between which a call's estimate is drawn; it uses at least half of that.
        service_us: between which a call's service time is drawn.
    """

    owner: str
    seed: int
    backlogs: tuple[Backlog, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    tokens: tuple[int, int] = (500, 1_500)
    service_us: tuple[int, int] = (200_000, 1_200_000)


class Event(NamedTuple):
    """Say that a call was asked for or granted; of its owner's calls it is number n."""

    at_us: int
    kind: Literal["asked", "granted"]
    owner: str
    n: int
    tenant: str = ""  # these two of what is asked for only
    tokens: int = 0
    once: bool = False  # it is an arrival, none of a backlog


@dataclass(slots=True)
class Call:
    """Hold one call of this owner."""

    flow: Flow
    tokens: int
    used: int
    service_us: int


class Crowd:
    """Do what a plan says, when it is told the time."""

    def __init__(self, plan: Plan, run: Run, definition: Definition) -> None:
        self.plan = plan
        self._run = run
        self._definition = definition
        self._random = random.Random(plan.seed)
        self._last = 0
        self._calls: dict[int, Call] = {}  # those that wait or are under way
        self._waiting: Counter[Flow] = Counter()
        self._ends: list[tuple[int, int]] = []
        self._arrivals = sorted(plan.arrivals, key=lambda each: -each.at_us)
        self._timer_us: int | None = None

    def due_us(self, now_us: int) -> int:
        """Return when there is something to do next; `now_us`: at once."""
        times = [each.from_us for each in self.plan.backlogs if self._wants(each)]
        times += [each[0] for each in self._ends[:1]]
        times += [each.at_us for each in self._arrivals[-1:]]
        times += [] if self._timer_us is None else [self._timer_us]
        return max(now_us, min(times, default=2**62))

    def _wants(self, backlog: Backlog) -> bool:
        return self._waiting[backlog.flow] <= backlog.low

    def hear(self, message: Message, at_us: int) -> None:
        """Take a wake-up."""
        if message.next_us >= 0:
            self._timer_us = at_us + message.next_us
        self._take(message.grants, at_us)

    def step(self, now_us: int) -> tuple[list[Event], list[tuple[str, Message]]]:
        """Do what is due; return what happened in its order, and the wake-ups for the others."""
        events: list[Event] = []
        mail: list[tuple[str, Message]] = []
        while self.due_us(now_us) <= now_us:
            entries, asked = self._entries(now_us)
            for first in range(0, max(1, len(entries)), BATCH):
                part = entries[first : first + BATCH]
                events += [asked[int(entry[1])] for entry in part if entry[1] in asked]
                mail += self._send(now_us, part, events)
        return events, mail

    def _entries(self, now_us: int) -> tuple[list[Entry], dict[int, Event]]:
        entries: list[Entry] = []
        while self._ends and self._ends[0][0] <= now_us:
            _, n = heapq.heappop(self._ends)
            call = self._calls.pop(n)
            entries.append(layout.settle(n, self._definition.actual({"tokens": call.used})))
        coming: list[tuple[Flow, bool]] = []
        while self._arrivals and self._arrivals[-1].at_us <= now_us:
            coming.append((self._arrivals.pop().flow, True))
        for each in self.plan.backlogs:
            if each.from_us <= now_us and self._wants(each):
                coming += [(each.flow, False)] * (each.waiting - self._waiting[each.flow])
        self._random.shuffle(coming)
        asked = [self._ask(flow, now_us, once=once) for flow, once in coming]
        return [*entries, *(entry for entry, _ in asked)], {event.n: event for _, event in asked}

    def _ask(self, flow: Flow, now_us: int, *, once: bool) -> tuple[Entry, Event]:
        draw, self._last = self._random.randint, self._last + 1
        tokens = draw(*self.plan.tokens)
        call = Call(flow, tokens, draw(-(-tokens // 2), tokens), draw(*self.plan.service_us))
        self._calls[self._last] = call
        self._waiting[flow] += 1
        entry = layout.acquire(
            self._last, self._definition.cost({"tokens": tokens}), flags=layout.MAY_WAIT,
            priority=self._definition.priority_index(flow.priority), tenant=flow.tenant,
            weight=round(flow.weight * layout.NORMAL_WEIGHT),
        )  # fmt: skip
        name = flow.tenant or flow.priority
        return entry, Event(now_us, "asked", self.plan.owner, self._last, name, tokens, once)

    def _send(
        self, now_us: int, entries: Sequence[Entry], events: list[Event]
    ) -> list[tuple[str, Message]]:
        self._timer_us = None
        reply, mail = self._run(now_us, entries)
        assert reply.outcome == layout.Outcome.DONE
        if reply.mine and reply.next_us >= 0:
            self._timer_us = now_us + reply.next_us
        own = [*_at_once(entries, reply.results), *reply.grants]
        self._take(own, now_us)
        granted = [(grant, self.plan.owner) for grant in own]
        granted += [(grant, name) for name, message in mail.items() for grant in message.grants]
        # The order of grants within a run is that of what they left: each one left less.
        granted.sort(key=lambda each: each[0].levels, reverse=True)
        events += [Event(now_us, "granted", name, grant.n) for grant, name in granted]
        return [(name, message) for name, message in mail.items() if name != self.plan.owner]

    def _take(self, grants: Sequence[Grant], now_us: int) -> None:
        for grant in grants:
            assert grant.status == Status.GRANTED
            call = self._calls[grant.n]
            self._waiting[call.flow] -= 1
            heapq.heappush(self._ends, (now_us + call.service_us, grant.n))


def _at_once(entries: Sequence[Entry], results: Sequence[Result]) -> list[Grant]:
    return [
        Grant(int(entry[1]), result.status, result.levels)
        for entry, result in zip(entries, results, strict=True)
        if entry[0] == layout.Op.ACQUIRE and result.status == Status.GRANTED
    ]
