"""A fleet of real processes that share a virtual clock, on one real server.

A coordinator tells one process at a time what the time is; that one does what is due, says when it
has something to do next, and hands over the wake-ups for the others. So minutes of a fleet take
seconds, nothing depends on the machine, and yet each process is an owner of its own whose batches
reach the server over its own connection.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import NamedTuple, Protocol

from benchmarks.crowd import Crowd, Event, Plan
from benchmarks.engine import Engine
from limiter import Quota
from limiter.core.layout import Message
from limiter.simulation.workload import START_US

Mail = list[tuple[int, Message]]  # when it was sent, and what
Done = tuple[list[Event], list[tuple[str, Message]], int]  # and when there is more to do


class Member(Protocol):
    """One process of the fleet, as the coordinator sees it."""

    def step(self, now_us: int, mail: Mail) -> Done:
        """Take the mail, do what is due at `now_us` (from 0 on)."""


class Granted(NamedTuple):
    """Hold one grant.

    Attributes:
        before: calls that were granted between its arrival and its own grant.
        once: it is an arrival, none of a backlog.
    """

    tenant: str
    tokens: int
    at_us: int
    waited_us: int
    before: int
    once: bool


@dataclass(slots=True)
class Record:
    """Hold what a fleet did: its grants in their order, and the shortest line of each tenant."""

    grants: list[Granted] = field(default_factory=list)
    waiting: Counter[str] = field(default_factory=Counter)
    shortest: dict[str, int] = field(default_factory=dict)
    _asked: dict[tuple[str, int], tuple[Event, int]] = field(default_factory=dict)

    def add(self, events: Sequence[Event]) -> None:
        """Take note of what one step did."""
        for event in events:
            if event.kind == "asked":
                self._asked[event.owner, event.n] = event, len(self.grants)
                self.waiting[event.tenant] += 1
            else:
                self._granted(event)

    def _granted(self, event: Event) -> None:
        asked, place = self._asked.pop((event.owner, event.n))
        self.waiting[asked.tenant] -= 1
        waited_us, before = event.at_us - asked.at_us, len(self.grants) - place
        self.grants.append(
            Granted(asked.tenant, asked.tokens, event.at_us, waited_us, before, asked.once)
        )

    def note_lines(self) -> None:
        """Take note of how many wait; between the steps, as a backlog is filled within one."""
        for tenant, waiting in self.waiting.items():
            self.shortest[tenant] = min(waiting, self.shortest.get(tenant, waiting))

    def once(self) -> list[Granted]:
        """Return the grants of arrivals."""
        return [grant for grant in self.grants if grant.once]


def drive(members: dict[str, Member], until_us: int, lines_from_us: int = 0) -> Record:
    """Let the fleet live from 0 to `until_us`; lines are looked at from `lines_from_us` on."""
    record = Record()
    due_us = dict.fromkeys(members, 0)
    mail: dict[str, Mail] = {name: [] for name in members}
    while True:
        name = min(due_us, key=lambda each: due_us[each])
        now_us = due_us[name]
        if now_us > until_us:
            return record
        letters, mail[name] = mail[name], []
        events, sent, due_us[name] = members[name].step(now_us, letters)
        record.add(events)
        for other, message in sent:
            mail[other].append((now_us, message))
            at_us = now_us + max(0, 0 if message.grants else message.next_us)
            due_us[other] = min(due_us[other], at_us)
        if now_us >= lines_from_us and min(due_us.values()) > now_us:
            record.note_lines()


class Local:
    """A member in this process, told the time from 0 on."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd

    def step(self, now_us: int, mail: Mail) -> Done:
        """Take the mail, do what is due."""
        for at_us, message in mail:
            self.crowd.hear(message, at_us)
        events, sent = self.crowd.step(now_us)
        return events, sent, self.crowd.due_us(now_us)


class _Remote:
    """A member in a process of its own."""

    def __init__(self, end: Connection) -> None:
        self.end = end

    def step(self, now_us: int, mail: Mail) -> Done:
        self.end.send((now_us, mail))
        done: Done = self.end.recv()
        return done


def _live(url: str, quota: Quota, plan: Plan, names: list[str], end: Connection) -> None:
    engine = Engine(url, quota, plan.owner, names)
    member = Local(
        Crowd(plan, lambda at_us, sent: engine.ask(START_US + at_us, sent), engine.definition)
    )
    with contextlib.suppress(EOFError):
        while True:
            end.send(member.step(*end.recv()))


@contextlib.contextmanager
def processes(url: str, quota: Quota, plans: Sequence[Plan]) -> Iterator[dict[str, Member]]:
    """Run a process for each plan; the quota is deleted afterwards."""
    spawn, names = multiprocessing.get_context("spawn"), [plan.owner for plan in plans]
    declared = Engine(url, quota)
    members: dict[str, Member] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(declared.close)
        stack.callback(declared.clear)
        for plan in plans:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_live, args=(url, quota, plan, names, theirs))
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(ours.close)  # ends it
            members[plan.owner] = _Remote(ours)
        yield members


def live(
    url: str, quota: Quota, plans: Sequence[Plan], until_us: int, lines_from_us: int = 0
) -> Record:
    """Let a fleet of processes live from 0 to `until_us`."""
    with processes(url, quota, plans) as members:
        return drive(members, until_us, lines_from_us)
