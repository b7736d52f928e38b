"""Which quota an HTTP request belongs to and what it costs, by the caller's settings.

Nothing here sends or waits. A request is read, never changed but for what it accepts; a body that
cannot be read twice (an upload, an iterator) is left alone and counts as one request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from limiter import providers
from limiter.cache.control import CONTROL_HEADER, check_cache
from limiter.core.sketch import OutputKey
from limiter.errors import ConfigError
from limiter.providers import Profile, Provider
from limiter.providers.profile import Rule, check_rule
from limiter.retrying import Retry
from limiter.transport import coding
from limiter.transport.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from limiter.cache.api import AsyncCache, Cache
    from limiter.cache.policy import Question
    from limiter.core.quota import Quota

    Expected = Callable[[str, OutputKey], int | None]

Unmatched = Literal["error", "pass"]

# One call's own flow: `client.chat.completions.create(…, extra_headers={"x-limiter-tenant": "a"})`.
PRIORITY_HEADER, TENANT_HEADER = "x-limiter-priority", "x-limiter-tenant"

# What a call takes whose body cannot be read.
_PER_CALL = ("requests", "concurrency")

# A gzipped request may decode to this much and is still read; more counts as one request.
_BODY_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Rules:
    """Hold the settings of a limited client; see `limiter.transport.http_client`.

    Raises:
        ConfigError: a setting is wrong; the message says what to write.
    """

    provider: Provider | None = None
    rule: Rule = "admission"
    timeout_s: float | None = None
    quota: str | None = None
    unmatched: Unmatched = "error"
    priority: str | None = None
    tenant: str | None = None
    fail_fast: bool = True
    output_quantile: float | None = 0.9
    retry: Retry | None = None
    cache: Cache | AsyncCache | None = None

    def __post_init__(self) -> None:
        check_rule(self.rule)
        check_cache(self.cache)
        for name in ("priority", "tenant"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{name}= is a name, got {value!r:.60}.")
        if self.provider is not None:
            providers.profile(self.provider)
        wait = self.timeout_s
        if wait is not None and not (type(wait) in (int, float) and wait >= 0):
            raise ConfigError(
                f"timeout= is how long a call may wait in line: seconds from 0 on, or None; got "
                f"{wait!r:.60}. The time that HTTP may take is http_timeout=, or OpenAI(timeout=…)."
            )
        if self.unmatched not in get_args(Unmatched):
            raise ConfigError(f"unmatched= is 'error' or 'pass', got {self.unmatched!r:.40}.")
        if self.quota is not None and not isinstance(self.quota, str):
            raise ConfigError(f"quota= is the name of a quota, got {self.quota!r:.60}.")
        part = self.output_quantile
        if part is not None and not (type(part) in (int, float) and 0 < part <= 1):
            raise ConfigError(
                "output_quantile= is the part of the answers that what is reserved for one is enough "
                f"for: above 0, at most 1, or None for no learning; got {part!r:.60}."
            )

    def control(self, request: Any) -> str | None:
        """Return what a call's own header asks of the cache; it is for us, so it goes no further."""
        told: str | None = request.headers.pop(CONTROL_HEADER, None)
        return told

    def question(
        self, request: Any, attempt: Attempt | None, quotas: Mapping[str, Quota], told: str | None
    ) -> Question | None:
        """Read what a request asks of the cache; None: it goes past it.

        A call waits for another one's answer for as long as it would wait in line, and never for one that
        is less urgent.
        """
        if self.cache is None:
            return None
        rank, patience_s = 0, self.timeout_s
        if attempt is not None:
            quota = quotas.get(attempt.quota)
            policy = quota.policy(attempt.asked["priority"]) if quota else None
            rank = policy.level if policy else 0
            patience_s = policy.timeout if policy and patience_s is None else patience_s
        return self.cache.settings.question(
            request.method, str(request.url), request.url.path, dict(request.headers),
            attempt.body if attempt else _body(request),
            told=told, rank=rank, patience_s=patience_s,
        )  # fmt: skip

    def profile_of(self, request: Any) -> Profile:
        """Return the accounting of a request's provider."""
        return providers.profile(self.provider or _provider(request.url))

    def attempt(
        self, request: Any, quotas: Mapping[str, Quota], expected: Expected | None = None
    ) -> Attempt | None:
        """Read what a request will take from which quota; None when it takes nothing.

        Args:
            request: of httpx or httpx2.
            quotas: those that a model may belong to.
            expected: says how long answers to calls on a quota become, by what was learned.

        Raises:
            ConfigError: no quota is for the model, and that is an error by these rules.
        """
        asked = self._asked(request.headers)
        if request.method != "POST":
            return None
        path: str = request.url.path
        profile = self.profile_of(request)
        body = _body(request)
        key = self._output_key(profile, path, body)
        quota = self._quota(path, body or {}, quotas) if key else None
        learned = expected(quota, key) if expected and key and quota else None
        cost = profile.estimate(path, body or {}, rule=self.rule, output_tokens=learned)
        if cost is None:
            return None
        if body is None:
            cost = {name: n for name, n in cost.items() if name in _PER_CALL}
        quota = quota or self._quota(path, body or _form(request), quotas)
        if quota is None:
            return None
        return Attempt(
            quota,
            cost,
            profile=profile,
            path=path,
            body=body,
            rule=self.rule,
            asked=asked,
            output_key=key,
        )

    def _output_key(
        self, profile: Profile, path: str, body: Mapping[str, Any] | None
    ) -> OutputKey | None:
        """Name the calls whose answers are alike; None where the expected length decides nothing."""
        part = self.output_quantile
        if part is None or body is None or not profile.output_counts(path, body, self.rule):
            return None
        return OutputKey(providers.output_key(path, body), max(1, round(part * 1000)))

    def _asked(self, headers: Any) -> dict[str, Any]:
        """Return what a call asks of the line; its own headers say more than the settings.

        They are for us, so they go no further.
        """
        return {
            "priority": headers.pop(PRIORITY_HEADER, None) or self.priority,
            "tenant": headers.pop(TENANT_HEADER, None) or self.tenant,
            "timeout": self.timeout_s,
            "fail_fast": self.fail_fast,
        }

    def _quota(self, path: str, body: Mapping[str, Any], quotas: Mapping[str, Quota]) -> str | None:
        if self.quota:
            return self.quota
        model = providers.model_of(path, body)
        found = providers.route(model, quotas) if model else None
        if found is not None or self.unmatched == "pass":
            return found
        known = ", ".join(map(repr, quotas)) or "none"
        whose = f"the model {model!r:.100}" if model else f"{path!r:.100}, which names no model"
        raise ConfigError(
            f"There is no quota for {whose}; known: {known}. Declare Quota({model or '…'!r:.100}, "
            "…), or models=['pattern'] with an existing one; or set quota='name' for all calls, or "
            "unmatched='pass' to let such calls go unlimited."
        )


def _provider(url: Any) -> str:
    return providers.provider_of(url.host, url.path, url.query.decode("ascii", "replace"))


def is_kept(request: Any) -> bool:
    """Say whether a request's body is in memory, so that it can be read, and sent, again."""
    return hasattr(request, "_content") or type(request.stream).__name__ == "ByteStream"


def _body(request: Any) -> Mapping[str, Any] | None:
    """Return the JSON object that a request sends; None for anything else."""
    if not is_kept(request):
        return None  # reading it would take it from the one who sends it
    content: bytes | None = request.read()
    if packed := request.headers.get("content-encoding", ""):
        content = coding.decoded(content or b"", packed, _BODY_MAX_BYTES)
    try:
        body = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _form(request: Any) -> dict[str, Any]:
    """Return the model that an upload names: httpx keeps a form's fields beside its stream."""
    for field in getattr(request.stream, "fields", ()):
        value = getattr(field, "value", None)
        if getattr(field, "name", None) == "model" and value:
            return {"model": value.decode("utf-8", "replace") if type(value) is bytes else value}
    return {}
