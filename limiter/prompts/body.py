"""Shorten the body of a call: its texts are compacted, its chat is made to fit.

Changes only what people wrote for a model to read. What tools were given and gave back, JSON,
reasoning that a provider has signed, and texts that are cited by position stay as they are. Never
changes the body that it was given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from limiter.errors import ConfigError
from limiter.prompts import compacting, fitting
from limiter.prompts.counting import (
    DEFAULT_MODEL,
    Count,
    check_tokens,
    content_tokens,
    counter,
    message_tokens,
    prompt_tokens,
)
from limiter.prompts.savings import Savings

Body = Mapping[str, Any]
Change = Callable[[str], str]

_CHATS = ("messages", "input")
_TEXTS = ("system", "instructions", "prompt")
_SPEAKERS = frozenset({"system", "developer", "user", "assistant"})
_PARTS = frozenset({"text", "input_text", "output_text"})


def optimize_body(
    body: Body,
    *,
    compact: int = 0,
    fit: int | None = None,
    model: str | None = None,
    count: Count | None = None,
) -> tuple[dict[str, Any], Savings]:
    """Return a body whose prompt is shorter, and what that saved.

    The prompt is `messages` or `input`, `prompt`, `system` and `instructions`.

    Args:
        body: of chat completions, /responses, completions, embeddings, or Anthropic's messages.
        compact: the level, see `compact`.
        fit: tokens of the whole prompt at most; old messages go, see `fit_messages`.
        model: whose tokens are counted; None: the body's own.
        count: counts them instead.

    Raises:
        ConfigError: what must stay does not fit (`needed`, `budget`): a text alone is not cut.
    """
    check_options(compact, fit)
    named = model or body.get("model")
    number = counter(named if isinstance(named, str) else DEFAULT_MODEL, count)
    shorter = dict(body)
    if compact:
        shorter |= _compacted(body, lambda text: _compact(text, compact, number))
    dropped = 0
    if fit is not None:
        dropped = _fit(shorter, fit, number)
    return shorter, Savings(_tokens(body, number), _tokens(shorter, number), dropped)


def check_options(compact: object, fit: object) -> None:
    """Check a level and a budget.

    Raises:
        ConfigError: one of them is none.
    """
    compacting.check_level(compact)
    if fit is not None:
        check_tokens(fit, "fit")


# --- compacting -----------------------------------------------------------------------------------


def _compact(text: str, level: int, count: Count) -> str:
    return text if _is_json(text) else compacting.compact(text, level, count=count).text


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in {"{", "["}:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _compacted(body: Body, change: Change) -> dict[str, Any]:
    found = {name: _items(body[name], change) for name in _CHATS if name in body}
    return found | {name: _texts(body[name], change) for name in _TEXTS if name in body}


def _items(value: Any, change: Change) -> Any:
    if not isinstance(value, (list, tuple)):
        return change(value) if isinstance(value, str) else value
    return [change(item) if isinstance(item, str) else _message(item, change) for item in value]


def _message(message: Any, change: Change) -> Any:
    """Shorten what one message says; an SDK's object, as of an earlier answer, stays."""
    if not isinstance(message, Mapping) or str(message.get("role")) not in _SPEAKERS:
        return message
    if "content" not in message:
        return message
    return {**message, "content": _texts(message["content"], change)}


def _texts(content: Any, change: Change) -> Any:
    if isinstance(content, (list, tuple)):
        return [change(p) if isinstance(p, str) else _part(p, change) for p in content]
    return change(content) if isinstance(content, str) else content


def _within(text: Any, change: Change) -> Any:
    """Shorten a part; white space at its ends, which may part it from its neighbours, stays."""
    if not isinstance(text, str) or not (words := text.strip()):
        return text
    start = text.index(words)
    return text[:start] + change(words) + text[start + len(words) :]


def _part(part: Any, change: Change) -> Any:
    is_text = isinstance(part, Mapping) and str(part.get("type")) in _PARTS
    # Annotations and citations point to characters of the text.
    if not is_text or part.get("annotations") or part.get("citations"):
        return part
    return {**part, "text": _within(part.get("text"), change)}


# --- fitting --------------------------------------------------------------------------------------


def _fit(body: dict[str, Any], fit: int, count: Count) -> int:
    """Make a body fit, in place; return how many messages that took."""
    if (tokens := _tokens(body, count)) <= fit:
        return 0
    name = next((n for n in _CHATS if body.get(n) and _is_chat(body[n])), None)
    if name is None:
        raise ConfigError(
            f"The prompt has {tokens:,} tokens, {fit:,} may be, and there are no old messages to "
            "leave out: raise fit, or split it (split_text, map_reduce).",
            needed=tokens,
            budget=fit,
        )
    chat = prompt_tokens(body[name], count)
    beside = tokens - chat
    if beside >= fit:
        raise ConfigError(
            f"What stands beside the messages has {beside:,} tokens, {fit:,} may be in all: "
            "raise fit, or shorten the system prompt.",
            needed=tokens,
            budget=fit,
        )
    fitted = fitting.fit_messages(body[name], fit - beside, count=count)
    body[name] = fitted.messages
    return len(fitted.dropped)


def _is_chat(value: object) -> bool:
    """Say whether a list is a chat; of texts to embed, or token ids, none may go."""
    return isinstance(value, (list, tuple)) and not any(
        isinstance(item, (str, int, list, tuple)) for item in value
    )


def _tokens(body: Body, count: Count) -> int:
    """Return the tokens of a body's prompt."""
    chats = [body[name] for name in _CHATS if body.get(name)]
    tokens = sum(
        prompt_tokens(chat, count) if _is_chat(chat) else content_tokens(chat, count)
        for chat in chats
    )
    beside = [body[name] for name in _TEXTS if body.get(name)]
    return tokens + sum(
        content_tokens(text, count) if isinstance(text, str) else message_tokens(text, count)
        for text in beside
    )
