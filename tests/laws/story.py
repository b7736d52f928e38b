"""Stories: what several owners do to one quota, step by step, with the time in the test's hand.

The same story is told to the reference model and to the Lua on each real server.
"""

from __future__ import annotations

from typing import NamedTuple

from limiter.core import definition, layout, told
from limiter.core.layout import Grant, Reply, Result, Status
from limiter.core.model import Model
from limiter.core.priority import Priority
from limiter.core.quota import Quota
from limiter.providers.verdict import Outcome, Verdict
from tests.engine.lua import Lua, redefine

START_US = 1_700_000_000_000_000
PATIENT_US = 3_600_000_000  # a lease that no story outlasts by accident


SERVED, REFUSED = Verdict(Outcome.SERVED), Verdict(Outcome.REFUSED, 429)
FAILED, DENIED = Verdict(Outcome.FAILED, 503), Verdict(Outcome.DENIED, 401)
SLOW_DOWN = Verdict(Outcome.SLOW_DOWN, 429)


class Told(NamedTuple):
    """What the store knows of one limit's provider; see `lua/lib/entries.lua`."""

    age_us: int
    level: int
    drift: int
    guard: int
    num: int
    slots: int


class Known(NamedTuple):
    """What it knows of a route: the brake, the circuit, failures, repeats; and of the limits."""

    brake_us: int
    shut_us: int
    fails: int
    denied: int
    budget: int
    limits: dict[str, Told]

    @classmethod
    def read(cls, agreed: definition.Definition, result: Result) -> Known:
        found = result.levels
        each = [Told(*found[i : i + 6]) for i in range(5, len(found), 6)]
        return cls(*found[:5], dict(zip(agreed.labels, each, strict=True)))


class Story:
    """Hold the clock, and the engine that the story is told to."""

    def __init__(self, quota: Quota, url: str | None, *others: Quota) -> None:
        self.now = START_US
        self.quota = quota
        self.lease_us = PATIENT_US
        if url is None:
            agreed = definition.read(quota.unit, "1", definition.write(quota))
            self.engine: Model | Lua = Model(agreed, START_US)
        else:
            self.engine = Lua(url, quota, START_US)
        for other in others:
            redefine(self.engine, other, self.now)
        self.owners: dict[str, Owner] = {}
        self.mail: dict[str, list[Grant]] = {}

    def close(self) -> None:
        if isinstance(self.engine, Lua):
            self.engine.close()

    def owner(self, name: str) -> Owner:
        return self.owners.setdefault(name, Owner(self, name))

    def after(self, seconds: float) -> Story:
        """Let time pass; nobody does anything."""
        self.now += round(seconds * 1e6)
        return self

    def redefine(self, **limits: object) -> None:
        redefine(self.engine, Quota(self.quota.name, headroom=0, **limits), self.now)

    def redefine_quota(self, name: str, **limits: object) -> None:
        """Declare one quota of a group anew."""
        quota = Quota(name, headroom=0, group=self.quota.group, **limits)
        redefine(self.engine, quota, self.now)

    @property
    def agreed(self) -> definition.Definition:
        return self.engine.definition

    def levels(self) -> dict[str, int]:
        """Look, without being anybody."""
        reply, _ = self.engine.run(self.now, "observer", 0, 0, self.agreed.version, [])
        return dict(zip(self.agreed.labels, reply.levels, strict=True))


class Owner:
    """Be one process of the fleet."""

    def __init__(self, story: Story, name: str) -> None:
        self.story = story
        self.name = name
        self.number = 0
        self.calls = 0
        self.granted: list[int] = []
        self.heard: list[Grant] = []
        self.reply = Reply(layout.Outcome.DONE)

    def send(self, *entries: layout.Entry, number: int | None = None) -> list[Result]:
        """Run one batch; grants to anybody are noted with their owners."""
        if number is None:
            self.number = number = self.number + 1
        story = self.story
        self.reply, messages = story.engine.run(
            story.now, self.name, number, story.lease_us, story.agreed.version, list(entries)
        )
        self._note(self.reply.grants)
        for name, message in messages.items():
            if name in story.owners:
                story.owners[name]._note(message.grants)
        return self.reply.results

    def _note(self, grants: list[Grant]) -> None:
        self.heard += grants
        self.granted += [grant.n for grant in grants if grant.status == Status.GRANTED]

    def ask(
        self,
        flags: int = layout.MAY_WAIT,
        *,
        priority: str = "default",
        tenant: str = "",
        quotas: tuple[str, ...] = (),
        patience_s: float | None = None,
        **cost: int,
    ) -> int:
        """Send one acquire; return its number."""
        self.calls += 1
        agreed = self.story.agreed
        entry = layout.acquire(
            self.calls,
            agreed.cost(cost, quotas),
            flags=flags + (layout.PUNCTUAL if patience_s is not None else 0),
            patience_us=-1 if patience_s is None else round(patience_s * 1e6),
            priority=agreed.priority_index(priority),
            route=agreed.route(quotas),
            tenant=tenant,
            weight=agreed.weight(quotas, tenant),
        )
        self.result = self.send(entry)[0]
        if self.result.status == Status.GRANTED:
            self.granted.append(self.calls)
        return self.calls

    def look(self, n: int) -> Result:
        return self.send(layout.look(n))[0]

    def waits(self) -> dict[str, int]:
        """Count the waiting tickets by priority."""
        found = self.send(layout.survey())[0].levels
        named = zip(self.story.agreed.priorities, found[::2], strict=True)
        return {p.name: n for p, n in named if n}

    def settle(self, n: int, **actual: int) -> int:
        return self.send(layout.settle(n, self.story.agreed.actual(actual)))[0].status

    def cancel(self, n: int) -> int:
        return self.send(layout.cancel(n))[0].status

    def status_of(self, n: int) -> int:
        return self.send(layout.renew(n))[0].status

    def poll(self) -> None:
        self.send()

    def report(self, n: int, verdict: Verdict, quotas: tuple[str, ...] = ()) -> None:
        """Say what the provider answered to a call."""
        self.send(self.reported(n, verdict, quotas))

    def reported(
        self, n: int, verdict: Verdict, quotas: tuple[str, ...] = (), first: int = 0
    ) -> layout.Report:
        agreed = self.story.agreed
        wait_us = -1 if verdict.wait_us is None else verdict.wait_us
        rows = told.rows(agreed, quotas, verdict)
        return layout.report(n, verdict.outcome, wait_us, agreed.route(quotas), rows, first)

    def call(self, verdict: Verdict = SERVED, **cost: int) -> int:
        """Make a call that is answered and settled at once; return what became of the acquire."""
        n = self.ask(flags=0, **cost)
        if self.result.status == Status.GRANTED:
            self.send(self.reported(n, verdict), layout.settle(n, self.story.agreed.actual({})))
        return self.result.status

    def known(self, quotas: tuple[str, ...] = ()) -> Known:
        """Ask what is known of the provider."""
        agreed = self.story.agreed
        return Known.read(agreed, self.send(layout.tell(agreed.route(quotas)))[0])


HIGH, LOW = Priority("high", level=10), Priority("low")


def drained(story: Story, owner: Owner, seconds: float, *, step: float = 1.0) -> list[int]:
    """Let time pass in steps; return what was granted to the owner, in order."""
    before = len(owner.granted)
    for _ in range(round(seconds / step)):
        story.after(step)
        owner.poll()
    return owner.granted[before:]
