"""What a line asks the store, and when, with the time as an argument: nothing here sleeps."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from limiter import Limit, Quota
from limiter.core import definition, layout
from limiter.core.layout import Message
from limiter.core.line import CONFIRM, Line
from limiter.core.ops import finish
from limiter.core.request import Asking, Request
from limiter.errors import StoreError
from limiter.shells.memory import MemoryStore
from limiter.shells.wire import Wire

SECOND = 1_000_000
DAY_S = 86_400.0
LEASE_US = 30 * SECOND


class World:
    """Hold a store, its clock, and the lines of some owners."""

    def __init__(self) -> None:
        self.now = SECOND
        self.store = MemoryStore(lambda: self.now)
        self.ends: list[End] = []

    def end(self, name: str, owner: str, waiting: set[Line] | None = None) -> End:
        text = definition.write(
            Quota(name, limits=[Limit("tokens", 10**6, 400 * DAY_S, headroom=0)])
        )
        self.store.declare(layout.keys(name), "", text, "code")
        self.ends.append(End(self, name, owner, text, waiting))
        return self.ends[-1]

    def go(self, until_us: int) -> None:
        """Let the time pass; whoever is due runs."""
        while dues := [(due, i) for i, end in enumerate(self.ends)
                       if (due := end.line.due_us()) is not None and due <= until_us]:  # fmt: skip
            due, i = min(dues)
            self.now = max(self.now, due)
            self.ends[i].run()
        self.now = until_us


class End:
    """Carry the batches of one line at once, and count them."""

    def __init__(
        self, world: World, name: str, owner: str, text: str, waiting: set[Line] | None
    ) -> None:
        self.world = world
        self.line = Line(definition.read(name, "1", text), owner, LEASE_US, 10 * SECOND, waiting)
        self.wire = Wire(layout.keys(name), owner, LEASE_US)
        self.deaf = False
        self.batches = 0
        self.ended: dict[int, int] = {}  # call -> when
        world.store.subscribe(self.wire.channel, self._hear)

    def _hear(self, _: str, message: Message) -> None:
        if not self.deaf:
            self._note(self.line.hear(message, self.world.now))

    def _note(self, ended: Iterable[Request]) -> None:
        self.ended |= {request.n: self.world.now for request in ended}

    def run(self) -> None:
        now = self.world.now
        while batch := self.line.depart(now) or self.line.tick(now):
            self.batches += 1
            self._note(self.line.arrive(self.world.store.run(self.wire, batch), now))

    def acquire(self, tokens: int, calls: int = 1) -> list[int]:
        made = [self.line.acquire({"tokens": tokens}, Asking(may_wait=True)) for _ in range(calls)]
        for request in made:
            self.line.submit(request, self.world.now)
        self.run()
        return [request.n for request in made]

    def cancel(self, n: int) -> None:
        self.line.post(finish(n, None))
        self.run()


def full(world: World, name: str = "q") -> tuple[End, int]:
    """Make an owner that holds all there is."""
    holder = world.end(name, "holder")
    (n,) = holder.acquire(10**6)
    return holder, n


@pytest.mark.parametrize("calls", [1, 100, 3_000])
def test_the_idle_cost_does_not_grow_with_the_waiters(calls: int) -> None:
    """Law 5: an owner whose calls wait sends at most two batches a second, however many they are."""
    world = World()
    full(world)
    waiter = world.end("q", "waiter")
    waiter.acquire(100, calls)
    before = waiter.batches
    world.go(11 * SECOND)
    assert len(waiter.line.tickets) == calls
    assert 15 <= waiter.batches - before <= 20


@pytest.mark.parametrize("quotas", [3, 12])
def test_the_lines_of_an_owner_share_its_polls(quotas: int) -> None:
    """An owner that waits for many quotas polls each of them less often, not more often in all."""
    world = World()
    waiting: set[Line] = set()
    mine = []
    for i in range(quotas):
        full(world, f"q{i}")
        mine.append(world.end(f"q{i}", "waiter", waiting))
        mine[-1].acquire(1_000, 5)
    world.go(21 * SECOND)  # moving: each is on its own
    before = sum(end.batches for end in mine)
    world.go(41 * SECOND)
    assert quotas <= sum(end.batches for end in mine) - before <= 40


@pytest.mark.parametrize(
    ("quiet_us", "late_us"), [(0, 250_000), (900_000, 250_000), (7 * SECOND, 600_000)]
)
def test_a_wake_up_lost_in_silence_is_found_out(quiet_us: int, late_us: int) -> None:
    """Law 5: without any sign of the loss, it costs 250 ms while the line moves, else 600 ms."""
    for offset_us in range(0, 600_000, 50_000):
        world = World()
        holder, held = full(world)
        waiter = world.end("q", "waiter")
        calls = waiter.acquire(1, 700)
        world.go(world.now + quiet_us + (offset_us if quiet_us > SECOND else 0))
        waiter.deaf = True
        holder.cancel(held)
        lost_us = world.now
        world.go(lost_us + 2 * SECOND)
        assert sorted(waiter.ended) == calls
        assert max(waiter.ended.values()) - lost_us <= late_us


def test_a_line_that_is_never_quiet_finds_it_out_too() -> None:
    """Law 5: an owner that always has something to send asks about its tickets along with it."""
    world = World()
    holder, held = full(world)
    waiter = world.end("q", "waiter")
    (call,) = waiter.acquire(10)
    waiter.deaf = True
    holder.cancel(held)
    lost_us = world.now
    while call not in waiter.ended:
        world.go(world.now + 50_000)
        waiter.cancel(*waiter.acquire(0))
        assert world.now <= lost_us + 300_000


def test_a_confirmed_subscription_asks_about_every_ticket() -> None:
    """Law 5: after a cut, all that was missed is found out at once, whichever tickets it is."""
    world = World()
    holder, held = full(world)
    waiter = world.end("q", "waiter")
    calls = waiter.acquire(1, 3 * CONFIRM)
    world.go(world.now + 10_000)
    waiter.deaf = True
    holder.cancel(held)
    waiter.deaf = False
    before = waiter.batches
    waiter.line.confirm()
    world.go(world.now)
    assert sorted(waiter.ended) == calls
    assert waiter.batches - before <= 4


def test_a_confirmation_covers_the_batch_under_way() -> None:
    """Law 5: a call that the store made a ticket, and granted, before its answer is here is found."""
    world = World()
    holder, held = full(world)
    waiter = world.end("q", "waiter")
    waiter.deaf = True
    request = waiter.line.acquire({"tokens": 1}, Asking(may_wait=True))
    waiter.line.submit(request, world.now)
    reply = world.store.run(waiter.wire, waiter.line.depart(world.now))
    holder.cancel(held)
    waiter.line.confirm()
    waiter.line.arrive(reply, world.now)
    assert not request.done
    world.go(world.now)
    assert request.done


def test_grants_in_an_answer_that_was_lost_are_found_out() -> None:
    """Laws 5, 8: what an owner's own batch granted to its tickets is not lost with the answer."""
    world = World()
    waiter = world.end("q", "waiter")
    (held,) = waiter.acquire(10**6)
    calls = waiter.acquire(1, 40)
    waiter.line.post(finish(held, None))
    world.store.run(waiter.wire, waiter.line.depart(world.now))
    waiter.line.lost(StoreError("gone"), world.now, retry=True)
    world.go(world.now + 60_000)
    assert set(calls) <= set(waiter.ended)


def test_tickets_that_the_store_lost_join_the_line_again() -> None:
    """Law 12: where one ticket is gone, all of them are asked about, and those that are gone return."""
    world = World()
    full(world)
    waiter = world.end("q", "waiter")
    calls = waiter.acquire(1, 2 * CONFIRM)
    world.go(world.now + 5 * SECOND)
    text = definition.write(Quota("q", limits=[Limit("tokens", 10**6, 400 * DAY_S, headroom=0)]))
    world.store = waiter.world.store = MemoryStore(lambda: world.now)
    world.store.declare(layout.keys("q"), "", text, "code")
    world.store.subscribe(waiter.wire.channel, waiter._hear)
    lost_us = world.now
    world.go(lost_us + 5 * SECOND)
    assert sorted(waiter.ended) == calls
    assert max(waiter.ended.values()) <= lost_us + 600_000
