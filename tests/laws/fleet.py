"""A fleet of callers before a simulated provider: everything that happens, in virtual time.

Each worker calls again as soon as its call has ended, so that the fleet takes all that it gets.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import msgpack

from limiter.core import layout, told
from limiter.core.layout import Status
from limiter.core.model import Model
from limiter.providers.verdict import Verdict, When
from tests.engine.lua import Lua
from tests.laws.provider import Provider, Slots
from tests.laws.story import Story

Draw = Callable[[Random], int]


def about(seconds: float) -> Draw:
    return lambda rng: round(rng.uniform(0.5, 1.5) * seconds * 1e6)


def within(low_us: int, high_us: int) -> Draw:
    return lambda rng: rng.randint(low_us, high_us)


SOME, TRAVEL, SERVICE = within(100, 300), within(5_000, 40_000), about(0.3)


@dataclass(slots=True)
class Ways:
    """How calls are: what they cost, how long they are under way, and when their levels are read."""

    cost: Draw = SOME
    up: Draw = TRAVEL  # until the provider admits it, or not
    service: Draw = SERVICE  # from there to the answer
    when: When = "start"


class Fleet:
    """Hold the clock of a story, the events to come, and what was observed."""

    def __init__(self, story: Story, provider: Provider | Slots, seed: object, ways: Ways) -> None:
        self.story, self.provider, self.ways = story, provider, ways
        self.rng = Random(f"{seed}")
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.numbers: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.waiting: dict[tuple[str, int], int] = {}
        self.timer_us = 0
        self.grants: list[tuple[int, int]] = []  # when, how many tokens
        self.foreign = self.foreign_refused = 0

    # --- time -----------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.story.now

    def later(self, in_us: int, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + in_us, next(self.order), what))

    def run_for(self, seconds: float) -> Fleet:
        end = self.now + round(seconds * 1e6)
        while self.events and self.events[0][0] <= end:
            self.story.now, _, what = heapq.heappop(self.events)
            what()
        self.story.now = end
        return self

    def batch(self, owner: str, *entries: layout.Entry) -> layout.Reply:
        """Run a batch; whoever was granted sets out, and somebody runs when the next one fits."""
        self.numbers[owner] += 1
        lease_us = 0 if owner == "timer" else self.story.lease_us
        reply, messages = self.story.engine.run(
            self.now, owner, self.numbers[owner], lease_us, self.story.agreed.version, list(entries)
        )
        letters = sorted((name, message.grants) for name, message in messages.items())
        for name, grants in [(owner, reply.grants), *letters]:
            for grant in grants:
                self._ended(name, grant.n, grant.status)
        if reply.next_us >= 0 and not self.now < self.timer_us <= self.now + reply.next_us:
            self.timer_us = at = self.now + reply.next_us
            self.later(reply.next_us, lambda: self.timer_us == at and self.batch("timer"))
        return reply

    # --- a call ---------------------------------------------------------------------------

    def begin(self, workers: int) -> Fleet:
        for i in range(workers):
            self.later(i, lambda owner=f"w{i}": self.ask(owner))
        return self

    def ask(self, owner: str) -> None:
        self.calls[owner] += 1
        n, tokens = self.calls[owner], self.ways.cost(self.rng)
        self.waiting[owner, n] = tokens
        cost = self.story.agreed.cost({"tokens": tokens})
        status = self.batch(owner, layout.acquire(n, cost, flags=1)).results[0].status
        if status != Status.WAITING:
            self._ended(owner, n, status)

    def _ended(self, owner: str, n: int, status: int) -> None:
        tokens = self.waiting.pop((owner, n), None)
        if tokens is None:
            return
        assert status == Status.GRANTED
        self.grants.append((self.now, tokens))
        self.later(self.ways.up(self.rng), lambda: self._arrive(owner, n, tokens))

    def _arrive(self, owner: str, n: int, tokens: int) -> None:
        refusal = self.provider.admit(self.now, {"requests": 1, "tokens": tokens})
        if refusal is not None:
            wait_us = -1 if refusal.wait_us is None else refusal.wait_us
            spread_us = self.rng.randint(0, min(250_000, max(0, wait_us // 10)))
            self.later(5_000, lambda: self.report(owner, n, refusal, 0, wait_us + spread_us))
            return
        answer = self.provider.answer(self.now, "start") if self.ways.when == "start" else None
        self.later(self.ways.service(self.rng), lambda: self._leave(owner, n, answer, tokens))

    def _leave(self, owner: str, n: int, answer: Verdict | None, tokens: int) -> None:
        self.provider.leave(self.now)
        self.report(owner, n, answer or self.provider.answer(self.now, "end"), tokens)

    def report(self, owner: str, n: int, verdict: Verdict, tokens: int, wait_us: int = -1) -> None:
        """Report as a client does: levels of the end after the call is settled."""
        agreed = self.story.agreed
        rows = told.rows(agreed, (), verdict)
        is_end = verdict.when == "end"
        report = layout.report(0 if is_end else n, verdict.outcome, wait_us, "", rows)
        settle = layout.settle(n, agreed.actual({"requests": 1, "tokens": tokens}))
        self.batch(owner, *((settle, report) if is_end else (report, settle)))
        self.ask(owner)

    # --- others ---------------------------------------------------------------------------

    def beside(self, per_s: float, tokens: int, seconds: float) -> Fleet:
        """Let others use so many tokens a second, in calls of this size that come at random."""
        end = self.now + round(seconds * 1e6)

        def come() -> None:
            if self.now >= end:
                return
            if self.provider.admit(self.now, {"requests": 1, "tokens": tokens}) is None:
                self.foreign += tokens
            else:
                self.foreign_refused += 1
                self.provider.refused -= 1
            self.later(max(1, round(self.rng.expovariate(per_s / tokens) * 1e6)), come)

        self.later(1, come)
        return self

    # --- what is seen ---------------------------------------------------------------------

    def rate(self, seconds: float) -> float:
        """Return how many tokens a second were granted in the last so many seconds."""
        begin = self.now - round(seconds * 1e6)
        return sum(tokens for at, tokens in self.grants if at >= begin) / seconds

    def corrections(self, label: str) -> float:
        """Return the sum of all corrections of a limit's level, in units."""
        i, engine = self.story.agreed.labels.index(label), self.story.engine
        if isinstance(engine, Model):
            bucket = engine.ledger.buckets[i]
            return (bucket.shift or 0) / bucket.den
        assert isinstance(engine, Lua)
        bucket = msgpack.unpackb(engine.client.get(engine.keys.state))[7][i]
        return bucket[6] / bucket[2] if len(bucket) > 6 else 0.0

    def guard(self, label: str) -> int:
        """Return what is kept back for others."""
        return self.story.owner("looker").known().limits[label].guard
