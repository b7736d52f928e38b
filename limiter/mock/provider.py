"""Be the provider behind the server: admit calls, charge them, and keep count of them.

No HTTP here and no waiting: `app` speaks to clients, and says when a call begins and ends. All API
keys share one provider, as all keys of an OpenAI organisation do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from limiter.mock.answer import Answer, make_answer
from limiter.mock.call import TRUED_UP
from limiter.mock.control import (
    RATES,
    Control,
    Refusing,
    is_charged,
    read_faults,
    read_limits,
    read_refusal,
)
from limiter.mock.enforce import Admission, Refusal
from limiter.mock.headers import FAMILIES, Told
from limiter.mock.ledger import Ledger, Refused
from limiter.mock.wire import (
    FAULTS,
    failure_body,
    ordered_body,
    plain_refusal_body,
    refusal_body,
    try_again,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from limiter.mock.call import Call
    from limiter.mock.config import MockConfig


class Fault(NamedTuple):
    """Be what an admitted call gets instead of an answer."""

    status: int
    body: Any


class Reply(NamedTuple):
    """Be what a call gets instead of an answer."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass(slots=True)
class Running:
    """Be a call between admission and completion.

    Attributes:
        is_cut: whether the connection is to break in the middle of the answer.
        told: the tokens of the answer that have been made so far, for which the caller pays.
    """

    call: Call
    answer: Answer
    ledger: Ledger
    admission: Admission
    is_cut: bool
    told: int = 0
    is_over: bool = False


class Provider:
    """Decide on calls within the limits of a configuration, and follow commands that change it.

    Attributes:
        config: what holds now; a command replaces it.
    """

    def __init__(self, config: MockConfig, clock_us: Callable[[], int]) -> None:
        self.config = config
        self._family = FAMILIES[config.headers]
        self._now_us = clock_us
        self._offset_us = time.time_ns() // 1_000 - clock_us()
        self._ledgers: dict[str, Ledger] = {}
        self._random = Random(config.seed)
        self._control = Control()
        self._errors = self._max_in_flight = 0
        if not config.per_model:
            self._ledger("")

    def _ledger(self, model: str) -> Ledger:
        name = model if self.config.per_model else ""
        if name not in self._ledgers:
            self._ledgers[name] = Ledger(self.config, self._offset_us)
        return self._ledgers[name]

    @property
    def _in_flight(self) -> int:
        return sum(ledger.in_flight for ledger in self._ledgers.values())

    @property
    def trues_up(self) -> bool:
        """Say whether a call is charged at its end what it used."""
        return self.config.charge in TRUED_UP

    def begin(self, call: Call) -> Running | Reply:
        """Admit a call, or say why not; who admits must end it."""
        ledger = self._ledger(call.model)
        reply = self._turned_away(call, ledger)
        if reply is not None:
            return reply
        cost = {"requests": 1, "tokens": call.admission_tokens(self.config.charge)}
        admission = ledger.admit(cost, self._now_us())
        if isinstance(admission, Refusal):
            return self._refused(call, ledger, admission)
        fault = self._draw_fault(call)
        if isinstance(fault, Fault):
            # What failed wrote nothing: of what was reserved for its answer, it keeps none.
            self._true_up(ledger, admission, call.prompt_tokens)
            return self.error(*fault, self._headers(ledger, admission))
        ledger.in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)
        answer = make_answer(call, self.config)
        return Running(call, answer, ledger, admission, fault == "cut")

    def _turned_away(self, call: Call, ledger: Ledger) -> Reply | None:
        """Say why a call is not let in, whatever the levels; None if it may try."""
        now_us = self._now_us()
        failing = self._control.failing(now_us)
        if failing is not None and not is_charged(failing.status):
            failing.span.take()
            return self.error(failing.status, failure_body(failing.status, call.model))
        refusing = self._control.refusing(now_us)
        if refusing is not None:
            return self._refused_by_command(call, ledger, refusing, now_us)
        most = self.config.max_concurrency
        if most is None or ledger.in_flight < most:
            return None
        ledger.refuse("refused_by_concurrency", now_us)
        return Reply(429, plain_refusal_body(call.model), self._headers(ledger))

    def _refused_by_command(
        self, call: Call, ledger: Ledger, refusing: Refusing, now_us: int
    ) -> Reply:
        refusing.span.take()
        ledger.refuse("refused_by_command", now_us)
        headers, wait_us = self._headers(ledger) | refusing.headers, refusing.wait_us(now_us)
        if wait_us is not None:
            headers |= self._family.wait(wait_us, None)
        wait = try_again(wait_us if self.config.tells_numbers else None)
        status, code = refusing.status, refusing.code
        body = ordered_body(status, code, refusing.message, call.model, wait)
        return Reply(status, body, headers)

    def _draw_fault(self, call: Call) -> Fault | str:
        failing = self._control.failing(self._now_us())
        if failing is not None:
            failing.span.take()
            return Fault(failing.status, failure_body(failing.status, call.model))
        drawn = self._random.random()
        for name in ("error", "overload", "slow_down", "cut"):
            drawn -= getattr(self.config, f"{name}_rate")
            if drawn < 0:
                return Fault(*FAULTS[name]) if name in FAULTS else name
        return ""

    def _refused(self, call: Call, ledger: Ledger, refusal: Refusal) -> Reply:
        tells = self.config.tells_numbers
        body = refusal_body(refusal, call.model) if tells else plain_refusal_body(call.model)
        wait = self._family.wait(refusal.wait_us, refusal.dimension)
        return Reply(429, body, self._headers(ledger) | wait)

    def end(self, running: Running) -> None:
        """Charge what was used, if it is trued up; the second time, do nothing."""
        if running.is_over:
            return
        running.is_over = True
        running.ledger.in_flight -= 1
        used = running.answer.prompt_tokens + running.told
        self._true_up(running.ledger, running.admission, used)

    def _true_up(self, ledger: Ledger, admission: Admission, tokens: int) -> None:
        if self.trues_up:
            ledger.settle(admission, {"tokens": tokens}, self._now_us())

    def headers(self, running: Running) -> dict[str, str]:
        """Tell the limits to a call that was admitted, as they stand now."""
        return self._headers(running.ledger, running.admission)

    def _headers(self, ledger: Ledger, admission: Admission | None = None) -> dict[str, str]:
        now_us = self._now_us()
        views = ledger.enforcer.view(now_us)
        charged = None if admission is None else admission.cost["tokens"]
        told = Told(views, self.config.period_us, now_us + self._offset_us, charged)
        return self._family.limits(told)

    def error(self, status: int, body: Any, headers: dict[str, str] | None = None) -> Reply:
        """Count an error, and give it as a reply."""
        self._errors += 1
        return Reply(status, body, headers or {})

    def stats(self) -> dict[str, Any]:
        """Give the counts of the one quota, or those of every model under `models`."""
        now_us = self._now_us()
        said = {name: ledger.snapshot(now_us) for name, ledger in self._ledgers.items()}
        counts = {
            "errors": self._errors,
            "in_flight": self._in_flight,
            "max_in_flight": self._max_in_flight,
        }
        if not self.config.per_model:
            return {**said[""], **counts}
        names = ("accepted", *get_args(Refused), "requests_accepted", "tokens_accepted")
        sums = {name: sum(snapshot[name] for snapshot in said.values()) for name in names}
        return {**sums, **counts, "models": said}

    def reset(self) -> None:
        """Forget the counts, not the levels."""
        self._errors, self._max_in_flight = 0, self._in_flight
        for ledger in self._ledgers.values():
            ledger.reset()

    def timeline(self, since_s: float) -> dict[str, Any]:
        """Give what happened in each second since a Unix time, of the last hour at most."""
        rows = {name: ledger.timeline.since(since_s) for name, ledger in self._ledgers.items()}
        now_s = (self._now_us() + self._offset_us) / 1_000_000
        if not self.config.per_model:
            return {"now_s": now_s, "seconds": rows[""]}
        return {"now_s": now_s, "models": rows}

    def limits(self) -> dict[str, Any]:
        """Say which limits hold."""
        config = self.config
        return {"rpm": config.rpm, "tpm": config.tpm, "period_s": config.period_s}

    def relimit(self, raw: bytes) -> dict[str, Any]:
        """Follow a command that sets limits.

        Raises:
            BadBodyError, ConfigError: it makes no sense, and changes nothing; so for all commands.
        """
        self.config = replace(self.config, **read_limits(raw))
        for ledger in self._ledgers.values():
            ledger.relimit(self.config.limits, self._now_us())
        return self.limits()

    def refusals(self) -> dict[str, Any]:
        """Say how calls are refused on command."""
        now_us = self._now_us()
        refusing = self._control.refusing(now_us)
        return {"refusing": None if refusing is None else refusing.told(now_us)}

    def refuse(self, raw: bytes) -> dict[str, Any]:
        """Follow a command that refuses calls."""
        self._control.refuse(read_refusal(raw, self._now_us()))
        return self.refusals()

    def faults(self) -> dict[str, Any]:
        """Say how calls fail at random, and on command."""
        now_us = self._now_us()
        failing = self._control.failing(now_us)
        rates = {name: getattr(self.config, name) for name in RATES}
        return {**rates, "failing": None if failing is None else failing.told(now_us)}

    def fail(self, raw: bytes) -> dict[str, Any]:
        """Follow a command that makes calls fail."""
        rates, failing = read_faults(raw, self._now_us())
        self.config = replace(self.config, **rates)
        if failing is not None:
            self._control.fail(failing)
        return self.faults()
