"""Limit every attempt of an unmodified OpenAI client, where it goes over the wire.

    client = OpenAI(http_client=limiter.http_client())     # a new client
    limiter.instrument(client)                              # one that exists

Each attempt is reserved before it is sent, its answer is reported to the fleet, and it is settled
when that is known: at the end of the body, at `[DONE]` or `response.completed` of a stream, or when
the caller leaves it or it breaks. What failed and is worth it is repeated here, once for all, so
that the client's own retries have nothing left to do. Realtime and other WebSocket calls do not
pass here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter, Limiter
    from limiter.cache.api import AsyncCache, Cache
    from limiter.providers import Provider, Rule
    from limiter.retrying import Retry
    from limiter.transport.rules import Unmatched

C = TypeVar("C")


def http_client(
    limiter: Limiter | AsyncLimiter,
    *,
    provider: Provider | None = None,
    rule: Rule = "admission",
    timeout: float | None = None,
    quota: str | None = None,
    unmatched: Unmatched = "error",
    priority: str | None = None,
    tenant: str | None = None,
    fail_fast: bool = True,
    output_quantile: float | None = 0.9,
    retry: Retry | bool | None = True,
    cache: Cache | AsyncCache | None = None,
    family: str | None = None,
    http_timeout: Any = None,
    **client_settings: Any,
) -> Any:
    """Return an HTTP client for `OpenAI(http_client=…)`, async if the limiter is.

    Args:
        limiter: whose quotas limit it. It stays open when the client is closed.
        provider: whose accounting estimates a call: `openai`, `azure`, `azure-ptu`, `anthropic`,
            `gemini`, `bedrock`, `mistral`, `groq`, `xai`, `together`, `deepseek`, `cerebras`,
            `openrouter`, `self-hosted`, `generic`, or a profile of your own
            (`limiter.providers.Accounting`). None: by the URL's host, `openai` where it is unknown.
        rule: how that provider counts, see `limiter.estimate`.
        timeout: seconds that a call may wait in line, all its attempts together; 0: not at all;
            None: what its priority says, else as long as it takes. No timeout of HTTP or of the
            openai client cuts this wait.
        quota: the quota of all calls. None: by the model that the body names, or the deployment
            in Azure's path, among the limiter's quotas and their `models`.
        unmatched: what becomes of a call that no quota is for: `error`, or `pass` (unlimited).
        priority: of all calls; one call's own: `extra_headers={"x-limiter-priority": "batch"}`.
        tenant: of all calls; one call's own: `extra_headers={"x-limiter-tenant": "search"}`. Neither
            header goes to the provider.
        fail_fast: fail at once when the wait is expected to be longer than `timeout`.
        output_quantile: where the expected answer is reserved (see "Which estimate?" in the README), what
            is reserved for it was enough for this part of the answers to calls like it, by what the
            whole fleet has seen. None: nothing is learned.
        retry: how often, and for how long, failed calls are repeated: `limiter.Retry(…)`; True: as
            `Retry()` says; None or False: not here, but by the SDK. What is repeated here the SDK
            does not repeat again.
        cache: answers what was asked before, and lets one of many who ask the same go; a hit takes nothing
            from the quota. One call's own: `extra_headers={"x-limiter-cache": "no-store"}`, `refresh`, or
            the seconds that an answer may be old. Responses that come from it say so in a header of
            the same name.
        family: `httpx2` or `httpx`. None: the one that the installed openai is built on.
        http_timeout: the `timeout` of the client. None: 600 s, 5 s to connect, as openai's own.
        **client_settings: whatever else the family's client takes, as `transport`, `proxy`,
            `verify`, `limits`.

    Raises:
        ConfigError: a setting is wrong, or the family is not installed.
    """
    from limiter.retrying import Retry
    from limiter.transport import clients
    from limiter.transport.rules import Rules

    rules = Rules(
        provider, rule, timeout, quota, unmatched, priority, tenant, fail_fast, output_quantile,
        Retry.of(retry), cache,
    )  # fmt: skip
    if http_timeout is not None:
        client_settings["timeout"] = http_timeout
    return clients.build(limiter, rules, family, client_settings)


def instrument(
    client: C,
    limiter: Limiter | AsyncLimiter,
    *,
    provider: Provider | None = None,
    rule: Rule = "admission",
    timeout: float | None = None,
    quota: str | None = None,
    unmatched: Unmatched = "error",
    priority: str | None = None,
    tenant: str | None = None,
    fail_fast: bool = True,
    output_quantile: float | None = 0.9,
    retry: Retry | bool | None = True,
    cache: Cache | AsyncCache | None = None,
) -> C:
    """Limit every call of a client that exists, and of its `with_options()` copies; return it.

    The HTTP client inside is changed in place, so whoever shares it is limited too. Doing it again
    with the same limiter and settings changes nothing.

    Args:
        client: of openai (sync or async, Azure or not), or a client of httpx or httpx2.
        limiter: sync or async, whatever the client is.
        provider: see `http_client`, as for the others.
        rule: how the provider counts.
        timeout: seconds that a call may wait in line.
        quota: the quota of all calls; None: by the model.
        unmatched: what becomes of a call that no quota is for.
        priority: of all calls, unless their headers say otherwise.
        tenant: of all calls, unless their headers say otherwise.
        fail_fast: fail at once when the wait is expected to be longer than `timeout`.
        output_quantile: how many of the answers what is reserved for one was enough for.
        retry: how often, and for how long, failed calls are repeated.
        cache: answers what was asked before.

    Raises:
        ConfigError: it is no such client, is limited already otherwise, or a setting is wrong.
    """
    from limiter.retrying import Retry
    from limiter.transport import clients
    from limiter.transport.rules import Rules

    rules = Rules(
        provider, rule, timeout, quota, unmatched, priority, tenant, fail_fast, output_quantile,
        Retry.of(retry), cache,
    )  # fmt: skip
    clients.limit(getattr(client, "_client", client), limiter, rules)
    return client
