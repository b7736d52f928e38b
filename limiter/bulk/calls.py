"""One line's call, from what it asks for to the output line; a limited client does the rest.

A worker makes one `Caller`; its calls share a limiter and a pool of connections. Reserving, settling,
headers, refusals and repeats are the client's (`limiter.transport`), which all users of the quota
share. Nothing here knows of files or of other processes.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from limiter.bulk import answers
from limiter.bulk.answers import Answer
from limiter.bulk.lines import Call, read_line
from limiter.bulk.patient import Counting, Granted, Patient, Report, nobody
from limiter.errors import CallFailed, ConfigError, LimiterError
from limiter.providers import judge, profile
from limiter.providers.profile import usage_of
from limiter.retrying import Retry

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter
    from limiter.bulk.settings import Settings
    from limiter.cache import AsyncCache

# A bulk run repeats for as long as it takes; `--max-retries` bounds it.
_FLOW_HEADERS = {"priority": "x-limiter-priority", "tenant": "x-limiter-tenant"}
_WITHIN_S = 7 * 86_400.0


class Ended(NamedTuple):
    """Hold how a line's call ended.

    Attributes:
        ok: it has an answer.
        line: its output line.
        tokens: that it took, as the answer's usage tells.
        code: why it failed; "": it did not.
    """

    ok: bool
    line: bytes
    tokens: int = 0
    code: str = ""


class _Failure(Exception):
    """End a call that has no answer to be written as a success."""

    def __init__(self, code: str, message: str, answer: Answer | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.answer = code, message, answer


class Caller:
    """Make calls.

    Args:
        settings: what was asked for.
        limiter: of this process; its store is shared by all.
        granted: called when a call has its turn, and goes on the wire.
        report: told `saved`, `cached`, `spent`, `refused` and `retry` as they happen.
    """

    def __init__(
        self, settings: Settings, limiter: AsyncLimiter, report: Report, granted: Granted = nobody
    ) -> None:
        self._settings = settings
        self._report = report
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._patient = Patient(limiter, report, granted)
        self._cache = _cache(settings)
        self.client = _client(settings, self._patient, self._cache)

    @property
    def sending(self) -> set[asyncio.Task[Any] | None]:
        """Return the tasks whose call is on the wire."""
        return self._patient.sending

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        if self._cache is not None:
            await self._cache.aclose()

    async def run(self, number: int, raw: bytes, **flow: str | None) -> Ended:
        """Make the call of a line.

        Args:
            number: of the line.
            raw: the line.
            **flow: its `priority` and `tenant`; without them, those of the settings.
        """
        call = read_line(raw, number, self._settings.model)
        named = {_FLOW_HEADERS[name]: value for name, value in flow.items() if value}
        async with self._slots:
            try:
                answer = await self._call(self._shorter(call), named)
            except _Failure as end:
                line = answers.failure(call.custom_id, end.code, end.message, end.answer)
                return Ended(ok=False, line=line, code=end.code)
        usage = usage_of(answer.body)
        tokens = (usage.total or 0) if usage else 0
        return Ended(ok=True, line=answers.success(call.custom_id, answer), tokens=tokens)

    def _shorter(self, call: Call) -> Call:
        """Shorten a call's prompt as was asked for, and tell what that saved."""
        compact, fit = self._settings.compact, self._settings.fit
        if not compact and fit is None:
            return call
        from limiter.prompts import optimize_body

        try:
            body, saved = optimize_body(call.body, compact=compact, fit=fit)
        except ConfigError as exc:
            raise _Failure("prompt_too_long", str(exc)) from exc
        self._report("saved", saved.before, saved.after, saved.dropped)
        return replace(call, body=body)

    async def _call(self, call: Call, headers: dict[str, str]) -> Answer:
        url = f"{self._settings.base_url}{call.path.removeprefix('/v1')}"
        try:
            response = await self.client.post(url, content=call.content, headers=headers)
        except CallFailed as exc:
            answer = None if exc.response is None else _answer(exc.response)
            raise _Failure(_code(exc), exc.verdict.message or str(exc), answer) from exc
        except ConfigError as exc:
            raise _Failure("no_quota", str(exc)) from exc
        except LimiterError as exc:
            raise _Failure(type(exc).__name__, str(exc)) from exc
        except Exception as exc:
            raise _lost(exc) from exc
        if "x-limiter-cache" in response.headers:
            self._report("cached")
        answer = _answer(response)
        if 200 <= answer.status < 300:
            return _json_or_failure(answer)
        verdict = judge(answer.status, response.headers, answer.body)
        raise _Failure(verdict.code, verdict.message, answer)


def _cache(settings: Settings) -> AsyncCache | None:
    if not settings.cached:
        return None
    from limiter.cache import AsyncCache

    return AsyncCache(settings.cache_url, ttl=settings.cache_ttl_s)


def _client(settings: Settings, patient: Patient, cache: AsyncCache | None) -> Any:
    import httpx2

    from limiter import transport

    connections, names = settings.concurrency, list(settings.quotas)
    return transport.http_client(
        patient,  # type: ignore[arg-type]  # it has the verbs of one
        provider=Counting(profile(settings.provider)),
        rule=settings.rule,
        timeout=math.inf,
        quota=names[0] if len(names) == 1 else None,
        priority=settings.priority,
        tenant=settings.tenant,
        cache=cache,
        retry=Retry(attempts=settings.max_retries + 1, within=_WITHIN_S),
        family="httpx2",
        http_timeout=httpx2.Timeout(settings.timeout_s, connect=min(10.0, settings.timeout_s)),
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        headers=headers(settings.provider),
    )


def _answer(response: Any) -> Answer:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        body = response.text
    return Answer(response.status_code, response.headers.get("x-request-id"), body)


def _code(failed: CallFailed) -> str:
    """Name a failure; one without an answer is a lost connection, whatever broke it."""
    return failed.verdict.code if failed.status else "connection_error"


def _json_or_failure(answer: Answer) -> Answer:
    if isinstance(answer.body, str):
        message = "The server's answer is not JSON: check --base-url, and the line's url."
        raise _Failure("not_json", message, answer)
    return answer


def _lost(exc: Exception) -> _Failure:
    """Say how a call without an answer ends that was not worth another attempt."""
    import httpx2

    broken = isinstance(exc, httpx2.TransportError)
    is_lost = broken and not isinstance(exc, httpx2.UnsupportedProtocol)
    code = "connection_error" if is_lost else "request_error"
    return _Failure(code, f"{type(exc).__name__}: {str(exc) or 'no more is known'}")


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
