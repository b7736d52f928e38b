"""Be the provider behind the server: admit calls, charge them, and keep count of them.

No HTTP here and no waiting: `app` speaks to clients, and says when a call begins and ends. All API
keys share one provider, as all keys of an OpenAI organisation do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from limiter.mock.answer import Answer, make_answer
from limiter.mock.call import TRUED_UP
from limiter.mock.enforce import Admission, Refusal
from limiter.mock.headers import FAMILIES, Told
from limiter.mock.ledger import Ledger, Refused
from limiter.mock.wire import FAULTS, plain_refusal_body, refusal_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from limiter.mock.call import Call
    from limiter.mock.config import MockConfig


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
    """Decide on calls within the limits of a configuration."""

    def __init__(self, config: MockConfig, clock_us: Callable[[], int]) -> None:
        self.config = config
        self._family = FAMILIES[config.headers]
        self._now_us = clock_us
        self._offset_us = time.time_ns() // 1_000 - clock_us()
        self._ledgers: dict[str, Ledger] = {}
        self._random = Random(config.seed)
        self._errors = self._in_flight = self._max_in_flight = 0
        if not config.per_model:
            self._ledger("")

    def _ledger(self, model: str) -> Ledger:
        name = model if self.config.per_model else ""
        if name not in self._ledgers:
            self._ledgers[name] = Ledger(self.config, self._offset_us)
        return self._ledgers[name]

    @property
    def trues_up(self) -> bool:
        """Say whether a call is charged at its end what it used."""
        return self.config.charge in TRUED_UP

    def begin(self, call: Call) -> Running | Reply:
        """Admit a call, or say why not; who admits must end it."""
        ledger = self._ledger(call.model)
        cost = {"requests": 1, "tokens": call.admission_tokens(self.config.charge)}
        outcome = ledger.admit(cost, self._now_us())
        if isinstance(outcome, Refusal):
            return self._refused(call, ledger, outcome)
        fault = self._draw_fault()
        if fault in FAULTS:
            # What failed wrote nothing: of what was reserved for its answer, it keeps none.
            self._true_up(ledger, outcome, call.prompt_tokens)
            status, body = FAULTS[fault]
            return self.error(status, body, self._headers(ledger, outcome))
        self._in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)
        answer = make_answer(call, self.config)
        return Running(call, answer, ledger, outcome, fault == "cut")

    def _refused(self, call: Call, ledger: Ledger, refusal: Refusal) -> Reply:
        tells = self.config.tells_numbers
        body = refusal_body(refusal, call.model) if tells else plain_refusal_body(call.model)
        wait = self._family.wait(refusal.wait_us, refusal.dimension)
        return Reply(429, body, self._headers(ledger) | wait)

    def _draw_fault(self) -> str:
        drawn = self._random.random()
        for name in ("error", "overload", "slow_down", "cut"):
            drawn -= getattr(self.config, f"{name}_rate")
            if drawn < 0:
                return name
        return ""

    def end(self, running: Running) -> None:
        """Charge what was used, if it is trued up; the second time, do nothing."""
        if running.is_over:
            return
        running.is_over = True
        self._in_flight -= 1
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
