"""One line's call, from the reservation to the output line, with all its attempts.

A worker makes one `Caller`; its calls share a limiter, a pool of connections and a brake. Nothing
here knows of files or of other processes.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from limiter.amounts import used_by_failure
from limiter.cli import results
from limiter.cli.lines import Call, read_line
from limiter.cli.results import Answer
from limiter.cli.retries import Verdict, judge, keeps_tokens, pause_s
from limiter.errors import LimiterError, LineFull, StoreError
from limiter.providers import model_of, profile, route

if TYPE_CHECKING:
    import httpx2

    from limiter.api import AsyncLimiter
    from limiter.cli.settings import Settings
    from limiter.reservation import AsyncReservation

Report = Callable[..., None]

_RELEASE_JITTER_S = 0.05
# How soon a call comes again that found its line full: the expected wait, within these.
_FULL_LEAST_S, _FULL_MOST_S = 0.25, 5.0


class Brake:
    """Hold back the calls on a quota until the moment that the provider asked for.

    Times are of the monotonic clock, which all processes of a machine share.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def hold(self, quota: str, until: float) -> None:
        """Let nobody pass before `until`."""
        self._until[quota] = max(until, self._until.get(quota, 0.0))

    async def passed(self, quota: str) -> None:
        """Wait for as long as it holds; a little longer at random, so that not all start at once."""
        while (left_s := self._until.get(quota, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(left_s + random.random() * _RELEASE_JITTER_S)


class _Failure(Exception):
    """End an attempt; its verdict says whether another one may help."""

    def __init__(self, verdict: Verdict, answer: Answer | None = None) -> None:
        super().__init__(verdict.message)
        self.verdict, self.answer = verdict, answer


class Caller:
    """Make calls.

    Args:
        settings: what was asked for.
        limiter: of this process; its store is shared by all.
        client: with one connection for each call under way.
        report: told `spent`, `refused`, `retry` and `brake` as they happen.
    """

    def __init__(
        self,
        settings: Settings,
        limiter: AsyncLimiter,
        client: httpx2.AsyncClient,
        report: Report,
    ) -> None:
        self._settings = settings
        self._limiter = limiter
        self._client = client
        self._report = report
        self._profile = profile(settings.provider)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self.brake = Brake()
        self.sending: set[asyncio.Task[Any] | None] = set()

    async def run(self, number: int, raw: bytes) -> tuple[bool, bytes]:
        """Make the call of a line; return whether it succeeded, and its output line."""
        call = read_line(raw, number, self._settings.model)
        async with self._slots:
            try:
                answer = await self._attempts(call)
            except _Failure as end:
                verdict = end.verdict
                line = results.failure(call.custom_id, verdict.code, verdict.message, end.answer)
                return False, line
        return True, results.success(call.custom_id, answer)

    async def _attempts(self, call: Call) -> Answer:
        quota, cost = self._quota(call), self._cost(call)
        attempt = 0
        while True:
            try:
                return await self._attempt(call, quota, cost)
            except _Failure as end:
                if not end.verdict.again or attempt >= self._settings.max_retries:
                    raise
                told_s = end.verdict.wait_s
            self._report("retry")
            await asyncio.sleep(pause_s(attempt, told_s, random.random()))
            attempt += 1

    def _quota(self, call: Call) -> str:
        """Return the name of the call's quota: the only one, or the one of its model."""
        quotas = self._limiter.quotas
        if len(quotas) == 1:
            return next(iter(quotas))
        model = model_of(call.path, call.body) or ""
        name = route(model, quotas)
        if name is None:
            raise _Failure(Verdict(
                "no_quota", f"No quota is for the model {model!r:.80}: add [quotas.{model:.80}], or "
                f"the model to models = […] of one of {', '.join(quotas)}.", again=False,
            ))  # fmt: skip
        return name

    def _cost(self, call: Call) -> Mapping[str, int]:
        cost = self._profile.estimate(call.path, call.body, rule=self._settings.rule)
        # An endpoint that no rule is known for is a request all the same.
        return cost or {"requests": 1}

    async def _attempt(self, call: Call, quota: str, cost: Mapping[str, int]) -> Answer:
        held = await self._reserve(quota, cost)
        granted_at = time.monotonic()
        task, used = asyncio.current_task(), held.estimate
        self.sending.add(task)
        try:
            answer, headers = await self._send(call)
            used = self._used(call, held, answer)
        except Exception as exc:
            used = used_by_failure(exc, held.estimate)
            raise _lost(exc) from exc
        finally:
            self.sending.discard(task)
            held.settle_soon(used)
            self._report("spent", quota, used, granted_at)
        if 200 <= answer.status < 300:
            return _json_or_failure(answer)
        raise self._refusal(quota, answer, headers)

    async def _reserve(self, quota: str, cost: Mapping[str, int]) -> AsyncReservation:
        try:
            held = await self._granted(quota, cost)
        except LimiterError as exc:
            again = isinstance(exc, StoreError) and exc.retry
            raise _Failure(Verdict(type(exc).__name__, str(exc), again)) from exc
        try:
            await self.brake.passed(quota)
        except BaseException:
            held.settle_soon(None)
            raise
        return held

    async def _granted(self, quota: str, cost: Mapping[str, int]) -> AsyncReservation:
        """Wait for as long as it takes, whatever the priority says: a bulk run has the time.

        Where the line is full for its priority, the call comes again a little later.
        """
        settings = self._settings
        while True:
            try:
                return await self._limiter.acquire(
                    quota, cost, timeout=math.inf, priority=settings.priority,
                    tenant=settings.tenant,
                )  # fmt: skip
            except LineFull as full:
                pause_s = min(_FULL_MOST_S, max(_FULL_LEAST_S, full.wait_s))
                await asyncio.sleep(pause_s * (0.5 + random.random()))

    async def _send(self, call: Call) -> tuple[Answer, Mapping[str, str]]:
        path = call.path.removeprefix("/v1")
        url = f"{self._settings.base_url}{path}"
        response = await self._client.post(url, content=call.content)
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            body = response.text
        answer = Answer(response.status_code, response.headers.get("x-request-id"), body)
        return answer, response.headers

    def _used(self, call: Call, held: AsyncReservation, answer: Answer) -> dict[str, int]:
        """Return what an answered call took from the quota.

        A refusal that is about tokens keeps its own: it shows that the provider's level is below
        ours by about so much, and keeping them brings ours down to it. Given back, the same
        difference would refuse one call after the other.
        """
        estimate = held.estimate
        if answer.status == 429 and keeps_tokens(answer.body):
            return estimate
        if answer.status >= 300:
            return self._profile.failure(answer.status, estimate)
        usage = self._profile.usage(answer.body)
        rule = self._settings.rule
        return self._profile.settled(call.path, estimate, usage, rule=rule, body=call.body)

    def _refusal(self, quota: str, answer: Answer, headers: Mapping[str, str]) -> _Failure:
        verdict = judge(answer.status, headers, answer.body, datetime.now(UTC))
        if answer.status == 429:
            self._report("refused")
            if verdict.wait_s is not None:
                until = time.monotonic() + verdict.wait_s
                self.brake.hold(quota, until)
                self._report("brake", quota, until)
        return _Failure(verdict, answer)


def _json_or_failure(answer: Answer) -> Answer:
    if isinstance(answer.body, str):
        message = "The server's answer is not JSON: check --base-url, and the line's url."
        raise _Failure(Verdict("not_json", message, again=False), answer)
    return answer


def _lost(exc: Exception) -> _Failure:
    """Say how a call without an answer ends; whatever broke the connection may have passed."""
    import httpx2

    again = isinstance(exc, httpx2.TransportError) and not isinstance(
        exc, httpx2.UnsupportedProtocol
    )
    code = "connection_error" if again else "request_error"
    text = str(exc) or "no more is known"
    return _Failure(Verdict(code, f"{type(exc).__name__}: {text}", again))


def headers(provider: str) -> dict[str, str]:
    """Return what says who we are, from the variables that the OpenAI client reads."""
    told = {"Content-Type": "application/json"}
    key = os.environ.get("OPENAI_API_KEY")
    if provider == "azure":
        key = os.environ.get("AZURE_OPENAI_API_KEY") or key
        told |= {"api-key": key} if key else {}
    elif key:
        told["Authorization"] = f"Bearer {key}"
    for name, variable in (("Organization", "OPENAI_ORG_ID"), ("Project", "OPENAI_PROJECT_ID")):
        if value := os.environ.get(variable):
            told[f"OpenAI-{name}"] = value
    return told
