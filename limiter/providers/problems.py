"""What the body of an error says, in one shape: its codes, its text, its structured parts.

Bodies come from providers, gateways and proxies in every shape, parsed or not. Nothing here raises;
what is not understood is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_LONGEST_BODY = 2**20
_LONGEST_MESSAGE = 2_000
_LONGEST_CODE = 100
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Problem:
    """Hold what a body tells of an error.

    Attributes:
        names: all codes, types and statuses that it gives, in lower case.
        code: the first of them that is a word, as it came; "" for none.
        message: at most 2,000 characters; "" for none.
        upstream: what a provider behind this one said (OpenRouter), of limits that are not ours.
        headers: those that the body repeats (OpenRouter).
        details: the structured part of Google's errors.
    """

    names: frozenset[str] = frozenset()
    code: str = ""
    message: str = ""
    upstream: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    details: tuple[Mapping[str, Any], ...] = ()


def read(body: object, errortype: str = "") -> Problem:
    """Read an error's body: parsed JSON, text, bytes, or None.

    Args:
        body: as it came.
        errortype: the header in which AWS names the error.
    """
    parsed = _parsed(body)
    outer = _first_object(parsed)
    if not outer:
        message = parsed[:_LONGEST_MESSAGE].strip() if isinstance(parsed, str) else ""
        # A proxy's page is for browsers.
        outer = {"message": "" if message.startswith("<") else message}
    inner = outer.get("error")
    error = inner if isinstance(inner, Mapping) else outer
    words = [word for word in _words(error, outer, errortype) if word]
    metadata = _object(error.get("metadata"))
    text = inner if isinstance(inner, str) else _message(error)
    return Problem(
        frozenset(word.lower() for word in words),
        next((word for word in words if not word.isdigit()), next(iter(words), "")),
        text[:_LONGEST_MESSAGE],
        text_of(metadata.get("raw"))[:_LONGEST_MESSAGE],
        _object(metadata.get("headers")),
        _objects(error.get("details")),
    )


def _parsed(body: object) -> object:
    """Return JSON as the value that it is, and other text as text."""
    if isinstance(body, (bytes, bytearray)):
        body = body[:_LONGEST_BODY].decode("utf-8-sig", "replace")
    if (
        not isinstance(body, str)
        or len(body) > _LONGEST_BODY
        or body.lstrip()[:1] not in {"{", "["}
    ):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _first_object(value: object) -> Mapping[str, Any]:
    """Return a JSON object, or the first one of a list: Gemini's streams fail with a list."""
    if isinstance(value, list):
        return next((item for item in value if isinstance(item, Mapping)), _NOTHING)
    return _object(value)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else _NOTHING


def _objects(value: object) -> tuple[Mapping[str, Any], ...]:
    return tuple(v for v in value if isinstance(v, Mapping)) if isinstance(value, list) else ()


def text_of(value: object) -> str:
    """Return a text, or a small whole number as one; "" for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**12 else ""
    return value if isinstance(value, str) else ""


def _words(error: Mapping[str, Any], outer: Mapping[str, Any], errortype: str) -> Iterator[str]:
    """Yield the codes, the most telling first.

    OpenAI: `code`, `type`. Anthropic: `type`, and `error_code` for its spend limits. Google:
    `status` (its `code` is the HTTP status). AWS: `__type`, with a namespace before a `#`, or the
    header, with an address after a `:`.
    """
    details, cause = _object(error.get("details")), _object(error.get("innererror"))
    for source in (details, error, outer, cause):
        yield text_of(source.get("error_code"))[:_LONGEST_CODE]
    for source in (error, outer, cause) if error is not outer else (error, cause):
        for name in ("code", "type", "status"):
            yield text_of(source.get(name))[:_LONGEST_CODE]
    yield text_of(outer.get("__type")).rpartition("#")[2][:_LONGEST_CODE]
    yield errortype.partition(":")[0].rpartition("#")[2][:_LONGEST_CODE]


def _message(error: Mapping[str, Any]) -> str:
    for name in ("message", "Message", "detail", "error"):
        if text := text_of(error.get(name)):
            return text
    return ""
