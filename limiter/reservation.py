"""Reservations: what a caller holds between asking and settling, sync and async side by side."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import logging
import random
import warnings
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from limiter.amounts import used_amounts, used_by_failure
from limiter.choosing import Choices
from limiter.core import ops
from limiter.core.definition import Definition
from limiter.core.layout import Op, Status
from limiter.core.line import Line
from limiter.core.request import Request
from limiter.core.sketch import Observation, OutputKey, bucket_of
from limiter.errors import StoreError
from limiter.observing import verdict_of, verdict_of_result
from limiter.providers.verdict import Outcome, Verdict
from limiter.shells.memory import now_us

if TYPE_CHECKING:
    from limiter.shells import aio, sync

log = logging.getLogger("limiter")

_PER_CALL = frozenset({"requests", "concurrency"})
SPREAD_MAX_US = 250_000
SERVED_US = 1_000_000  # how often it is told that calls are served whose answers nobody sees
WAIT_MAX_US = 3_600_000_000  # longer waits are asked about again: one refusal an hour is cheap


class UnsettledWarning(UserWarning):
    """Warn that a reservation ended without being settled, so that its estimate counts as used."""


class _Held:
    """Hold what both kinds of reservation know."""

    _shell: Any

    def __init__(self, lane: Any, request: Request) -> None:
        self._lane = lane
        self._line: Line = lane.line
        self._definition: Definition = self._line.definition
        self._request = request
        self._n = request.n
        self._quotas = request.asking.quotas
        self._choices: Choices | None = None
        self._provider = "openai"
        self._is_told = False  # the fleet has heard how the call was answered
        self.state = "held"
        self.answer: Any = None
        self.settled_with: object = None

    def chosen_by(self, choices: Choices) -> Self:
        """Let its end be known to the one who chose its quota among others."""
        self._choices = choices
        return self

    def answered_by(self, provider: str) -> Self:
        """Let what is heard of the call's end be read as this provider writes it."""
        self._provider = provider
        return self

    @property
    def quota(self) -> str:
        """Return the quota's name; where there are several, the first one's."""
        return self.quotas[0]

    @property
    def quotas(self) -> tuple[str, ...]:
        """Return the names of all quotas that it takes from."""
        return self._quotas or (self._definition.name,)

    @property
    def priority(self) -> str:
        """Return the priority under which it was granted."""
        return self._request.asking.priority

    @property
    def tenant(self) -> str:
        """Return the tenant on whose behalf it was granted; "" for nobody's."""
        return self._request.asking.tenant

    @property
    def patience_s(self) -> float | None:
        """Return how long its priority lets a call wait that does not say it; None: for ever."""
        return self._definition.patience_s.get(self.priority)

    @property
    def id(self) -> str:
        """Return what names this reservation in the whole fleet."""
        return f"{self._line.owner}:{self._n}"

    @property
    def estimate(self) -> dict[str, int]:
        """Return what was reserved, by dimension."""
        cost = self._definition.cost(self._request.amounts, self._quotas)
        return self._definition.by_name(cost)

    @property
    def remaining(self) -> dict[str, int]:
        """Return what was left of each limit right after the grant, by label."""
        return ops.levels_by_label(self._definition, self._request.levels, self._quotas)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.quota!r} {self.id} {self.state} {self.estimate}>"

    def _end(self, state: str) -> bool:
        """Take the one step out of `held`; say whether this call took it."""
        if self.state != "held":
            return False
        self.state = state
        return True

    def _warn_unsettled(self) -> None:
        warnings.warn(
            f"The reservation {self.id} on {self.quota!r} was left without settle() or cancel(): "
            f"its estimate {self.estimate} counts as used. Call r.settle(response).",
            UnsettledWarning,
            stacklevel=3,
        )

    def settle_soon(self, actual: Mapping[str, int] | None, late: Verdict | None = None) -> None:
        """Settle (None: cancel) without waiting for the answer; for ends that must not block.

        Args:
            actual: what was used.
            late: what is to be reported then, of levels that were read at the end of the call.
        """
        if self._end("cancelled" if actual is None else "settled"):
            self._shell.post(self._lane, ops.finish(self._n, actual, self._quotas))
            if late is not None:
                self.report_soon(late)

    def report_soon(self, verdict: Verdict) -> None:
        """Let the fleet know what the provider answered, without waiting.

        Before the reservation is settled: the answer's levels are compared with those at its grant.
        It travels with the next batch; limits that changed take two round trips before.
        """
        self._shell.report(self._lane, self._report(verdict))

    def observe(self, answer: object, status: int = 200, provider: str = "openai") -> None:
        """Let the fleet know what the provider answered, where nothing else sees it; never waits.

        `settle()` does it for responses that carry headers, and the end of a `with` block for an
        exception. Best before the reservation is settled. What says nothing is ignored.

        Args:
            answer: a response with headers, an exception that carries one, or headers alone.
            status: that headers alone came with.
            provider: whose they are.
        """
        verdict = verdict_of(answer, status, provider)
        if verdict is not None:
            self.report_soon(verdict)

    def hush(self) -> None:
        """Let the settling say nothing of how the call was answered: that is told otherwise."""
        self._is_told = True

    def hear(self, result: object, *, always: bool = False) -> Verdict | None:
        """Report what a call that was answered returned; return what is to be told at its end.

        A response that carries headers is reported. Of others it is known that they were served:
        that is told now and then, and at once after a failure, so that a circuit closes; `always`:
        each time, because each adds to what may be repeated.
        """
        verdict = None if result is None else verdict_of_result(result, self._provider)
        if verdict is not None and verdict.when == "end":
            return verdict
        if verdict is not None:
            self.report_soon(verdict)
        if not self._is_told:
            now = now_us()
            if always or now >= self._line.served_us.get(self._quotas, 0) + SERVED_US:
                self._line.served_us[self._quotas] = now
                self.report_soon(Verdict(Outcome.SERVED))
        return None

    def _amounts(self, used: object, amounts: Mapping[str, object]) -> dict[str, int]:
        dims = self._definition.dims if isinstance(used, Mapping) else ()
        return used_amounts(used, amounts, [dim.rpartition("/")[2] for dim in dims])

    def _used_by(self, error: BaseException) -> dict[str, int]:
        if self._choices:
            self._choices.failed(self.quota, error)
        return used_by_failure(error, self.estimate)

    def _report(self, verdict: Verdict) -> Request:
        """Make the report; a wait is spread a little, so that not all fleets come back at once.

        OpenAI's guide to error codes: "wait at least that long and add a small random delay".
        """
        self._is_told = True
        if verdict.outcome is not Outcome.SERVED:
            self._line.served_us.pop(self._quotas, None)
        if verdict.wait_us:
            spread_us = min(SPREAD_MAX_US, verdict.wait_us // 10)
            wait_us = min(WAIT_MAX_US, verdict.wait_us + random.randint(0, spread_us))
            verdict = replace(verdict, wait_us=wait_us)
        return ops.report(self._n, verdict, self._quotas, self._definition.version)

    def _observe(self, key: OutputKey, tokens: int) -> None:
        """Put the length of an answer before the settling; nobody cares where only calls are limited."""
        if not self.estimate.keys() <= _PER_CALL:
            observed = Observation(key, bucket_of(tokens))
            self._line.post(Request(Op.FORECAST, self._n, observed=observed))

    def _note(self, status: Status) -> None:
        if status == Status.GONE:
            log.warning("The store no longer knew the reservation %s on %r: its lease was over, "
                        "or the store lost its state.", self.id, self.quota)  # fmt: skip


class Reservation(_Held):
    """Hold a granted cost until it is settled or cancelled.

    While the process lives the reservation is kept alive; when the process is lost, its
    concurrency slots come back after the lease and its estimate counts as used.

    Attributes:
        state: `held`, `settled` or `cancelled`; `answered`: the cache had the answer, nothing is held.
        answer: the cache's, None where the call is to be made; see `Limiter.reserve`.
        settled_with: what was given to `settle`.
    """

    def __init__(self, shell: sync.SyncShell, lane: sync.Lane, request: Request) -> None:
        super().__init__(lane, request)
        self._shell = shell

    def settle(self, used: object = None, /, **amounts: int) -> None:
        """Replace the estimate by what was used; the difference goes back, or becomes debt.

        One round trip. A second call changes nothing. A dimension that is not named keeps its
        estimate.

        Args:
            used: an openai response (chat, responses, embeddings), a raw one (its headers are
                reported), a mapping with `usage`, a mapping of dimensions, or a number of tokens.
            **amounts: by dimension, as `tokens=812`.

        Raises:
            ConfigError: there is no usage in `used`; the reservation is still held.
            StoreError: the store is away; what was used will be told when it is back.
        """
        actual = self._amounts(used, amounts)
        self.settled_with = used
        late = self.hear(used) if self.state == "held" else None
        self._settle(actual)
        if late is not None:
            self.report_soon(late)

    def _settle(self, actual: Mapping[str, int]) -> None:
        if self._end("settled"):
            self._note(self._shell.run(self._lane, ops.finish_gen(self._n, actual, self._quotas)))

    def cancel(self) -> None:
        """Give everything back, because nothing was sent. One round trip; once."""
        if self._end("cancelled"):
            self._note(self._shell.run(self._lane, ops.finish_gen(self._n, None)))

    def record_output(self, key: OutputKey, tokens: int) -> None:
        """Let the fleet know how long the answer became, for the estimates of calls like this one.

        Before the reservation is settled, and it travels with that: nothing is sent for it alone.
        """
        with self._lane.lock:
            self._observe(key, tokens)

    def settle_from_finalizer(
        self, actual: Mapping[str, int] | None, late: Verdict | None = None
    ) -> None:
        """Settle (None: cancel) from a `__del__`, which may run while our own lock is held."""
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            # Not threading.Thread: starting one takes locks that this thread may hold too.
            _thread.start_new_thread(self.settle_soon, (actual, late))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self.state != "held":
            return
        if error is None:
            self._warn_unsettled()
            self.settle()
            return
        self.observe(error, provider=self._provider)
        # The caller's exception matters more than a store that is away.
        with contextlib.suppress(StoreError):
            self._settle(self._used_by(error))


class AsyncReservation(_Held):
    """Hold a granted cost until it is settled or cancelled; the asyncio side of `Reservation`."""

    def __init__(self, shell: aio.AsyncShell, lane: aio.Lane, request: Request) -> None:
        super().__init__(lane, request)
        self._shell = shell

    async def settle(self, used: object = None, /, **amounts: int) -> None:
        """Replace the estimate by what was used; see `Reservation.settle`.

        It happens even if the task is cancelled meanwhile.
        """
        actual = self._amounts(used, amounts)
        self.settled_with = used
        late = self.hear(used) if self.state == "held" else None
        await self._settle(actual)
        if late is not None:
            self.report_soon(late)

    async def _settle(self, actual: Mapping[str, int]) -> None:
        if self._end("settled"):
            steps = ops.finish_gen(self._n, actual, self._quotas)
            self._note(await self._shell.run(self._lane, steps))

    async def cancel(self) -> None:
        """Give everything back, because nothing was sent. One round trip; once."""
        if self._end("cancelled"):
            steps = ops.finish_gen(self._n, None)
            self._note(await self._shell.run(self._lane, steps))

    async def report(self, verdict: Verdict) -> None:
        """Let the fleet know it before this one asks again; waits where limits are taken over."""
        lesson = self._shell.report(self._lane, self._report(verdict))
        if lesson is not None:
            await asyncio.shield(lesson)

    def record_output(self, key: OutputKey, tokens: int) -> None:
        """Let the fleet know how long the answer became; see `Reservation.record_output`."""
        self._observe(key, tokens)

    def settle_from_finalizer(
        self, actual: Mapping[str, int] | None, late: Verdict | None = None
    ) -> None:
        """Settle (None: cancel) from a `__del__`, which may run in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._shell.loop.call_soon_threadsafe(self.settle_soon, actual, late)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self.state != "held":
            return
        if error is None:
            self._warn_unsettled()
            await self.settle()
        elif isinstance(error, Exception):
            if (verdict := verdict_of(error, provider=self._provider)) is not None:
                await self.report(verdict)
            with contextlib.suppress(StoreError):
                await self._settle(self._used_by(error))
        else:
            # A cancelled task must not wait; what it used is told all the same.
            self.settle_soon(self._used_by(error))
