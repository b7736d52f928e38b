"""A world of callers around one engine: what each call asked, and what became of it.

The calls have priorities, tenants and routes. The engine is the model, or the Lua on a server.
Each operation is a batch of its own, so that a ledger kept beside it knows the order of events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from limiter.core import definition, layout
from limiter.core.layout import MAY_WAIT, Entry, Grant, Reply, Result, Status
from limiter.core.model import Model
from limiter.core.owners import Hold
from limiter.core.quota import Quota
from tests.engine.lua import Lua, redefine

START_US = 1_700_000_000_000_000
PATIENT_US = 3_600_000_000


@dataclass(slots=True, eq=False)
class Call:
    """Hold what was asked, and its fate: a `Status`; `held` while it is reserved."""

    owner: str
    n: int
    cost: tuple[int, ...]
    priority: int
    tenant: str
    route: str
    weight: int
    flags: int
    asked_us: int
    status: int = 0
    wait_us: int = 0
    ahead: int = 0
    granted_us: int = -1

    @property
    def waits(self) -> bool:
        return self.status == Status.WAITING

    @property
    def held(self) -> bool:
        return self.status == Status.GRANTED


class Watched(Model):
    """Note in which order calls are granted."""

    def __init__(self, agreed: definition.Definition, now: int) -> None:
        self.taken: list[tuple[tuple[str, int], Hold]] = []
        super().__init__(agreed, now)

    def _take(self, key: tuple[str, int], hold: Hold) -> None:
        self.taken.append((key, hold))
        super()._take(key, hold)


class World:
    """Hold the clock, the engine and the calls."""

    def __init__(self, quota: Quota, url: str | None = None, lease_us: int = PATIENT_US) -> None:
        self.now = START_US
        self.quota = quota
        self.lease_us = lease_us
        self.engine: Watched | Lua
        if url is None:
            agreed = definition.read(quota.name, "1", definition.write(quota))
            self.engine = Watched(agreed, START_US)
        else:
            self.engine = Lua(url, quota, START_US)
        self.calls: dict[tuple[str, int], Call] = {}
        self.numbers: dict[str, int] = {}  # of batches, by owner
        self.asked: dict[str, int] = {}
        self.reply = Reply(layout.Outcome.DONE)

    def close(self) -> None:
        if isinstance(self.engine, Lua):
            self.engine.client.delete(*self.engine.keys.all())
            self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def agreed(self) -> definition.Definition:
        return self.engine.definition

    def after(self, seconds: float) -> World:
        self.now += round(seconds * 1e6)
        return self

    def send(self, owner: str, *entries: Entry) -> list[Result]:
        """Run one batch; note what became of everybody."""
        self.numbers[owner] = self.numbers.get(owner, 0) + 1
        return self._run(owner, self.numbers[owner], self.lease_us, list(entries))

    def _run(self, owner: str, number: int, lease_us: int, entries: list[Entry]) -> list[Result]:
        self.reply, messages = self.engine.run(
            self.now, owner, number, lease_us, self.agreed.version, entries
        )
        assert self.reply.outcome == layout.Outcome.DONE
        self._note(owner, self.reply.grants)
        for name, message in messages.items():
            self._note(name, message.grants)
        return self.reply.results

    def _note(self, owner: str, grants: list[Grant]) -> None:
        for grant in grants:
            call = self.calls.get((owner, grant.n))
            if call and call.waits:
                call.status, call.granted_us = grant.status, self.now

    def ask(
        self, owner: str = "ann", *, flags: int = MAY_WAIT, priority: str | int = 0, tenant: str = "",
        route: str = "", weight: int = 100, patience_us: int = -1, cost: tuple[int, ...] = (),
        **amounts: int,
    ) -> Call:  # fmt: skip
        """Send one acquire; return the call."""
        index = priority if isinstance(priority, int) else self.agreed.priority_index(priority)
        cost = cost or self.agreed.cost(amounts)
        self.asked[owner] = n = self.asked.get(owner, 0) + 1
        call = Call(owner, n, cost, index, tenant, route, weight, flags, self.now)
        self.calls[owner, n] = call
        entry = layout.acquire(
            n, cost, flags=flags, patience_us=patience_us, priority=index, route=route, tenant=tenant,
            weight=weight,
        )  # fmt: skip
        call.status = Status.WAITING  # what its own run grants it comes as a letter or as a status
        (result,) = self.send(owner, entry)
        if call.waits:
            call.status = result.status
            call.granted_us = self.now if call.held else -1
        call.wait_us, call.ahead = result.wait_us, result.ahead
        return call

    def settle(self, call: Call, actual: tuple[int, ...] = (), **amounts: int) -> int:
        actual = actual or self.agreed.actual(amounts)
        (result,) = self.send(call.owner, layout.settle(call.n, actual))
        if result.status in (Status.DONE, Status.LATE):
            call.status = Status.DONE
        return result.status

    def cancel(self, call: Call) -> int:
        (result,) = self.send(call.owner, layout.cancel(call.n))
        if result.status in (Status.DONE, Status.LATE):
            call.status = Status.DONE
        return result.status

    def status_of(self, call: Call) -> int:
        return self.send(call.owner, layout.renew(call.n))[0].status

    def poll(self, owner: str = "ann") -> Reply:
        self.send(owner)
        return self.reply

    def levels(self) -> dict[str, int]:
        """Look, without being anybody."""
        self._run("observer", 0, 0, [])
        return dict(zip(self.agreed.labels, self.reply.levels, strict=True))

    def redefine(self, quota: Quota) -> None:
        redefine(self.engine, quota, self.now)
