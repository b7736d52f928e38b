"""One operation from when it is asked for until its end, and the batch that carries several.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limiter.core import layout
from limiter.core.definition import Definition
from limiter.core.layout import Entry, Op
from limiter.core.priority import DEFAULT
from limiter.core.sketch import Observation
from limiter.core.told import rows
from limiter.errors import StoreError
from limiter.providers.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Asking:
    """Say on whose behalf a cost is asked for, and how long the call would wait.

    Attributes:
        quotas: which of the unit's quotas it takes from.
        priority, tenant: the flow that it stands in.
        may_wait: stand in the line if it must.
        patience_us: be refused at once when the expected wait is longer; None: stand anyway.
        repeats: it repeats a call that failed, which the fleet's retry budget must allow.
    """

    quotas: tuple[str, ...] = ()
    priority: str = DEFAULT
    tenant: str = ""
    may_wait: bool = False
    patience_us: int | None = None
    repeats: bool = False

    def entry(
        self, n: int, amounts: Mapping[str, int], definition: Definition, *, asked_before: bool
    ) -> Entry:
        """Write the entry of an acquire."""
        flags = layout.MAY_WAIT * self.may_wait + layout.ASKED_BEFORE * asked_before
        if self.repeats:
            flags += layout.REPEATED
        patience_us = -1
        if self.patience_us is not None:
            flags, patience_us = flags + layout.PUNCTUAL, self.patience_us
        cost = definition.cost(amounts, self.quotas)
        if not self.tenant and self.priority == DEFAULT and not definition.grouped:
            return layout.acquire(n, cost, flags=flags, patience_us=patience_us)
        return layout.acquire(
            n, cost, flags=flags, patience_us=patience_us,
            priority=definition.place_of(self.priority), route=definition.route(self.quotas),
            tenant=self.tenant, weight=definition.weight(self.quotas, self.tenant),
        )  # fmt: skip


NOBODY_ASKING = Asking()


@dataclass(slots=True, eq=False)
class Request:
    """Hold one operation from when it is submitted until it has come to its end."""

    op: Op
    n: int
    amounts: Mapping[str, int] = field(default_factory=dict)
    asking: Asking = NOBODY_ASKING
    verdict: Verdict | None = None  # of a report
    granted_under: str = ""  # of a report: the version that was known when its call was granted
    observed: Observation | None = None  # of a forecast
    asked_before: bool = False
    submitted: bool = False
    sent: bool = False  # it has left in a batch at least once
    first: int = 0  # the number of that batch
    give_up_us: int | None = None  # when to fail if the store stays away; None: never
    status: int = 0
    wait_us: int = 0
    ahead: int = 0
    heard_us: int = 0  # when wait_us and ahead were told
    levels: tuple[int, ...] = ()
    error: StoreError | None = None
    waiter: Any = None  # the shell's: an event, a future
    done: bool = False

    @property
    def may_wait(self) -> bool:
        """Say whether the call may stand in the line."""
        return self.asking.may_wait

    def has_ended(self) -> bool:
        """Say whether it has come to its end, be it with a result or an error."""
        return self.done

    def entry(self, definition: Definition) -> Entry:
        """Write the request under the definition that the batch will name."""
        if self.op == Op.ACQUIRE:
            return self.asking.entry(
                self.n, self.amounts, definition, asked_before=self.asked_before
            )
        if self.op == Op.SETTLE:
            return layout.settle(self.n, definition.actual(self.amounts, self.asking.quotas))
        if self.op == Op.REPORT:
            return self._report(definition)
        if self.observed:
            key = self.observed.key
            return layout.forecast(self.n, key.text, self.observed.bucket, key.permille)
        return (self.op.value, self.n)

    def _report(self, definition: Definition) -> Entry:
        verdict, quotas = self.verdict, self.asking.quotas
        assert verdict is not None
        wait_us = -1 if verdict.wait_us is None else verdict.wait_us
        # Levels read at the end of a call are compared with ours after it: the call is over.
        n = 0 if verdict.when == "end" else self.n
        return layout.report(
            n, verdict.outcome, wait_us, definition.route(quotas), rows(definition, quotas, verdict),
            self.first if self.asked_before else 0,
        )  # fmt: skip


@dataclass(slots=True)
class Batch:
    """Hold what is sent in one script run."""

    number: int
    version: str
    requests: list[Request]
    entries: list[Entry]
