"""Which stored answer a request may have: a digest of all that determines it. Pure.

The rule is to be sure rather than to hit: a field of the body, or a header, that is not known to be
beside the point counts. What cannot be written as canonical JSON (RFC 8785) has no key, and goes
past the cache.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from limiter.errors import ConfigError
from limiter.providers.endpoints import Endpoint, endpoint

# Part of every digest: a change of what is digested, or of how, makes other keys.
_FORM = "limiter/cache/1"

# Fields of a body that change nothing in what the model writes: who asks (`user`, `metadata`,
# `safety_identifier`), how it is delivered (`stream`), how soon and how cheaply it is computed.
BESIDE_THE_POINT = frozenset({
    "user", "metadata", "safety_identifier", "stream", "stream_options", "service_tier",
    "prompt_cache_key", "prompt_cache_retention", "timeout",
})  # fmt: skip

# Headers likewise: of HTTP itself, of tracing, of the SDKs' own bookkeeping, and our own.
_HEADERS_BESIDE = (
    "accept", "accept-*", "baggage", "b3", "connection", "content-*", "date", "host",
    "idempotency-key", "keep-alive", "proxy-*", "sentry-trace", "traceparent", "tracestate",
    "transfer-encoding", "user-agent", "via", "x-amz-content-sha256", "x-amz-date",
    "x-amz-security-token",
    "x-amzn-trace-id", "x-b3-*", "x-client-request-id", "x-correlation-id", "x-datadog-*",
    "x-forwarded-*", "x-limiter-*", "x-ms-client-request-id", "x-request-id", "x-stainless-*",
)  # fmt: skip

# Who pays. OpenAI, Azure, Anthropic and Google each have a header; Google's may be in the query.
_CREDENTIALS = (
    "authorization", "api-key", "x-api-key", "x-goog-api-key",
    "openai-organization", "openai-project", "cookie",
)  # fmt: skip
# Set by Cloudflare in front of an API, and anew every half hour; clients send them back.
_COOKIES_BESIDE = ("__cf*", "_cf*", "cf_*")
_CREDENTIAL_QUERIES = ("key", "api-key", "api_key")
_SIGNED = "AWS4-HMAC-SHA256 Credential="

# The endpoints whose answers are JSON that follows from the body.
CACHEABLE: frozenset[Endpoint | None] = frozenset({
    "chat", "responses", "completions", "messages", "embeddings", "generate", "converse", "invoke",
})  # fmt: skip

SHARED = "shared"


def request_key(
    url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    *,
    namespace: str | None = None,
    ignore: Collection[str] = (),
) -> str | None:
    """Return the key of a POST's answer, `namespace:sha256`; None: it must not be cached.

    Args:
        url: of the request, whole.
        headers: of the request.
        body: of the request, as JSON has it.
        namespace: of whom the answers are; None: of the request's credential.
        ignore: further fields of the body, and headers, that change nothing; `*` stands for any text.
    """
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return None
    if endpoint(parts.path) not in CACHEABLE or not _is_repeatable(body):
        return None
    user, _, host = parts.netloc.rpartition("@")
    form = {
        "url": f"{parts.scheme}://{host.lower()}{parts.path}",
        "query": sorted([name, value] for name, value in query if name not in _CREDENTIAL_QUERIES),
        "headers": _relevant_headers(headers, ignore),
        "body": {name: body[name] for name in body if _counts(name, ignore)},
    }
    digest = _digest(form)
    if digest is None:
        return None
    whose = namespace_of(headers, query, user) if namespace is None else namespace
    return f"{whose}:{digest}"


def call_key(name: str, arguments: Mapping[str, Any], namespace: str, version: str = "") -> str:
    """Return the key of what a function returns for its arguments.

    Raises:
        ConfigError: an argument is nothing that JSON has; names it.
    """
    plain = {each: _as_json(value) for each, value in arguments.items()}
    digest = _digest({"function": name, "version": version, "arguments": plain})
    if digest is None:
        odd = [each for each, value in plain.items() if _digest({"value": value}) is None]
        raise ConfigError(
            f"No key can be made of {', '.join(map(repr, odd))} of {name}(): only what JSON has "
            "(texts, numbers up to 2^53, lists, mappings) can be compared between processes. Give "
            "key=, a function of the arguments that returns such a value, or ignore=[…] to leave out "
            "what does not change the result, as 'self'."
        )
    return f"{namespace}:{digest}"


def namespace_of(
    headers: Mapping[str, str], query: Iterable[tuple[str, str]] = (), user: str = ""
) -> str:
    """Return 32 hex digits for the credential of a request, from which nobody gets it back.

    HMAC-SHA256 of a constant under the credential: whoever reads the cache's keys learns neither the
    credential nor, without it, which of two namespaces belongs to whom.
    """
    low = {name.lower(): value for name, value in headers.items()}
    told = {name: _credential(name, low[name]) for name in _CREDENTIALS if name in low}
    told |= {f"?{name}": value for name, value in query if name in _CREDENTIAL_QUERIES}
    told |= {"@": user}  # of the URL itself, `https://user:password@host`
    told = {name: value for name, value in told.items() if value}
    return keyed(json.dumps(told, sort_keys=True) if told else "")


def keyed(secret: str) -> str:
    """Return 32 hex digits that name a secret without telling it."""
    data = secret.encode("utf-8", "surrogatepass")
    return hmac.new(data, _FORM.encode(), hashlib.sha256).hexdigest()[:32]


def _credential(name: str, value: str) -> str:
    """Return what stays the same of a credential: AWS signs each request anew, with one key's id."""
    if name == "cookie":
        crumbs = sorted(crumb.strip() for crumb in value.split(";"))
        return "; ".join(each for each in crumbs if not _matches(each, _COOKIES_BESIDE))
    if value.startswith(_SIGNED):
        return value.removeprefix(_SIGNED).partition("/")[0]
    return value


def _is_repeatable(body: Mapping[str, Any]) -> bool:
    """Say whether the answer follows from the body: a conversation and a background job are state."""
    return not (body.get("background") or body.get("conversation"))


def _counts(name: object, ignore: Collection[str]) -> bool:
    if not isinstance(name, str):  # which has no form, so that the whole has none
        return True
    return name not in BESIDE_THE_POINT and not _matches(name, ignore)


def _relevant_headers(headers: Mapping[str, str], ignore: Collection[str]) -> dict[str, str]:
    low = {name.lower(): value for name, value in headers.items()}
    beside = (*_HEADERS_BESIDE, *_CREDENTIALS, *(name.lower() for name in ignore))
    return {name: value for name, value in low.items() if not _matches(name, beside)}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return _pattern(tuple(patterns)).match(name) is not None


@cache
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Compile patterns in which `*` stands for any text; none of them matches nothing."""
    return re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)")


def _digest(form: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 of the canonical form, in hex; None: it has none.

    Numbers are doubles in it, so that 1 and 1.0 are one number, and integers beyond 2^53 have no form.
    """
    import rfc8785

    try:
        canonical = rfc8785.dumps({"form": _FORM, **form})
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError, TypeError, ValueError):
        return None
    return hashlib.sha256(canonical).hexdigest()


def _as_json(value: Any) -> Any:
    try:
        return _plain(value)
    except RecursionError:  # it holds itself; so it has no form
        return value


def _plain(value: Any) -> Any:
    """Return pydantic objects, dataclass-like values and tuples as JSON has them."""
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return _plain(dump(mode="json"))
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
