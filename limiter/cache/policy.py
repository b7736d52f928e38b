"""Which answers may be stored, and what one is worth. Pure.

By default: whole answers that ended as the caller let them, of any temperature. An answer that was
filtered, refused half-way or cut by a limit that the caller did not set is not one of them: asked
again it may well be better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from limiter.cache.control import Control
from limiter.providers import Profile
from limiter.providers.endpoints import Endpoint

Cacheable = Callable[[Mapping[str, Any], Mapping[str, Any] | None], bool]

_ENDED = frozenset({
    "stop", "tool_calls", "function_call",  # OpenAI
    "end_turn", "tool_use", "stop_sequence",  # Anthropic, Bedrock
    "STOP",  # Gemini
})  # fmt: skip
_CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens")
_NESTED = ("generationConfig", "inferenceConfig")

# Where an answer says why it ended: for each of its choices, or ("") for itself.
_REASONS: dict[Endpoint | None, tuple[str, str]] = {
    "chat": ("choices", "finish_reason"),
    "completions": ("choices", "finish_reason"),
    "generate": ("candidates", "finishReason"),
    "messages": ("", "stop_reason"),
    "converse": ("", "stopReason"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """Hold what a request asks, as far as the cache must know it.

    Attributes:
        key: of its answer.
        endpoint, path, body: of the request.
        stream: the caller wants events.
        include_usage: … and the usage at their end.
        control: what the call asks of the cache.
        rank: how urgent it is; it does not wait for a less urgent one.
        patience_s: how long it waits for another call's answer; None: as long as it takes.
    """

    key: str
    endpoint: Endpoint
    path: str
    body: Mapping[str, Any]
    stream: bool
    include_usage: bool
    control: Control
    rank: int = 0
    patience_s: float | None = None


def is_deterministic(endpoint: Endpoint | None, body: Mapping[str, Any]) -> bool:
    """Say whether a request asks for the same answer each time: temperature 0, or a seed."""
    if endpoint == "embeddings":
        return True
    inner = [body, *(body[name] for name in _NESTED if isinstance(body.get(name), Mapping))]
    return any(each.get("temperature") == 0 or each.get("seed") is not None for each in inner)


def is_complete(
    endpoint: Endpoint | None, body: Mapping[str, Any], answer: Mapping[str, Any]
) -> bool:
    """Say whether an answer came to its end as its request let it."""
    if answer.get("error"):
        return False
    if endpoint in _REASONS:
        where, name = _REASONS[endpoint]
        return _all_ended(body, answer.get(where) if where else [answer], name)
    if endpoint == "responses":
        return _is_response_done(body, answer)
    if endpoint == "embeddings":
        return any(answer.get(name) for name in ("data", "embedding", "embeddings"))
    return endpoint == "invoke"


def _all_ended(body: Mapping[str, Any], choices: object, name: str) -> bool:
    if not isinstance(choices, list) or not choices:
        return False
    reasons = [each.get(name) if isinstance(each, Mapping) else None for each in choices]
    fine = _ENDED | _CUT if has_cap(body) else _ENDED
    return all(isinstance(reason, str) and reason in fine for reason in reasons)


def _is_response_done(body: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    if answer.get("status") == "completed":
        return True
    details = answer.get("incomplete_details")
    is_cut = isinstance(details, Mapping) and details.get("reason") == "max_output_tokens"
    return answer.get("status") == "incomplete" and is_cut and has_cap(body)


def has_cap(body: Mapping[str, Any]) -> bool:
    """Say whether the caller himself bounds the answer: one that was cut there is what he asked for."""
    inner = [body, *(body[name] for name in _NESTED if isinstance(body.get(name), Mapping))]
    return any(each.get(cap) is not None for each in inner for cap in _CAPS)


def charged_tokens(profile: Profile, answer: Mapping[str, Any]) -> int:
    """Return the tokens that an answer was charged, all input and output; 0 where it does not say."""
    try:
        usage = profile.usage(answer)
    except Exception:  # noqa: BLE001 - a profile may be the caller's own
        return 0
    sides = usage.sides if usage else None
    return sides[0] + sides[2] if sides else (usage and usage.total) or 0


def parsed(content: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None: it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
