"""How many tokens a text or a message takes: the one door from here to the vocabularies.

Counts what the model reads, tool calls and their results with it, so that a budget holds for
those too. Never counts too little where `limiter.tokens.count` knows better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from limiter.errors import ConfigError
from limiter.providers.content import READ, children, leaves

Count = Callable[[str], int]

DEFAULT_MODEL = "gpt-4o"

# As `limiter.tokens.count` has it: 3 to start the reply, 3 for each message and 1 for its name, 3 for
# each call of a tool in it.
_PRIMING, _PER_MESSAGE, _PER_CALL = 3, 3, 3

# OpenAI's admission was recorded to charge 765 for an image; other providers count by its size.
_IMAGE_TOKENS = 765


def counter(model: str, count: Count | None = None) -> Count:
    """Return what counts the tokens of a text: `count` itself, or the model's vocabulary."""
    if count is not None:
        return count
    from limiter import tokens

    return partial(tokens.count, model=model)


def prompt_tokens(messages: Iterable[object], count: Count) -> int:
    """Return the tokens of a list of messages or items, with their tool calls and images."""
    return _PRIMING + sum(message_tokens(each, count) for each in messages)


def message_tokens(message: object, count: Count) -> int:
    """Return the tokens that one message adds. Audio and files are not counted."""
    named = as_mapping(message)
    extra = count(str(named["role"])) if named.get("role") else 0
    extra += 1 if named.get("name") else 0
    calls = named.get("tool_calls")
    extra += _PER_CALL * (len(calls) if isinstance(calls, (list, tuple)) else 0)
    extra += _PER_CALL if named.get("function_call") else 0
    return _PER_MESSAGE + extra + content_tokens(message, count)


def content_tokens(content: object, count: Count) -> int:
    """Return the tokens of the texts, token ids and images in a content, at any depth."""
    return sum(
        count(leaf) if isinstance(leaf, str) else _IMAGE_TOKENS if isinstance(leaf, Mapping) else 1
        for leaf in leaves(content, READ)
    )


def as_mapping(message: object) -> Mapping[str, object]:
    """Return a message as a mapping to be read, whether it is one or an SDK's object."""
    if isinstance(message, Mapping):
        return message
    found = children(message) if not isinstance(message, str) else ()
    return found[0] if len(found) == 1 and isinstance(found[0], Mapping) else {}


def check_tokens(value: object, what: str, least: int = 1) -> int:
    """Return a number of tokens.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{what} is a whole number of tokens from {least} on, got {value!r:.40}.")
    return value
