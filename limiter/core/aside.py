"""Flows that step aside because their tenant's own limits hold them back: `lua/lib/heads.lua`. Pure."""

from __future__ import annotations

from limiter.core.buckets import NOT_BEFORE_EVENT
from limiter.core.flows import Class, Flow, Id
from limiter.core.owners import NEVER_US

BLOCKS = 100  # flows that step aside in one run
RETURNS = 100  # and that come back
RECHECK_US = 5_000_000


class Aside:
    """Hold the flows of a unit that stepped aside."""

    def __init__(self) -> None:
        self.recheck: tuple[int, Id] | None = None  # when the first one is looked at again
        self._flows: set[tuple[int, int, int, str]] = set()
        self._blocks = 0

    def begin(self) -> None:
        """Take note that a run begins."""
        self._blocks = 0

    @property
    def is_over(self) -> bool:
        """Say whether as many stepped aside in this run as may."""
        return self._blocks >= BLOCKS

    def look_at_all(self) -> None:
        """Look at every flow again: the limits have changed."""
        self.recheck = self.recheck and (0, self.recheck[1])

    def block(self, group: Class, tenant: str, flow: Flow, at: int, now: int) -> None:
        """Let a flow step aside until its limits allow its first ticket."""
        self._blocks += 1
        until = now + RECHECK_US
        flow.blocked_until = until = until if at == NOT_BEFORE_EVENT else min(until, at)
        self._flows.add((until, group.number, flow.tag, tenant))
        if not self.recheck or until < self.recheck[0]:
            self.recheck = (until, flow.first.id)

    def forget(self, group: Class, tenant: str, flow: Flow) -> None:
        """Take note that the first ticket of a flow has left."""
        assert flow.blocked_until is not None
        self._flows.discard((flow.blocked_until, group.number, flow.tag, tenant))

    def let_back(self, tenant: str, classes: list[Class]) -> None:
        """Let a tenant's flows back in."""
        for each in [each for each in self._flows if each[3] == tenant]:
            self._flows.discard(each)
            classes[each[1]].unblock(tenant)

    def let_back_due(self, classes: list[Class], now: int) -> None:
        """Let those back in whose time has come."""
        if not self.recheck or self.recheck[0] > now:
            return
        until = NEVER_US if self.recheck[0] == 0 else now  # all, when limits have changed
        for each in sorted(each for each in self._flows if each[0] <= until)[:RETURNS]:
            self._flows.discard(each)
            classes[each[1]].unblock(each[3])
        self.recheck = None
        if self._flows:
            until, number, _, tenant = min(self._flows)
            self.recheck = (until, classes[number].flows[tenant].first.id)
