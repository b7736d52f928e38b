"""What the definitions of tools add to a prompt: an estimate, never exact. Pure.

The formula is that of OpenAI's cookbook ("How to count tokens with tiktoken"), exact for its own
example. Of 53 recorded sets of functions, those with flat parameters were billed between 13 less
and 4 more; it does not see what is nested, which was up to 74 more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from limiter.providers.content import as_json

Tokens = Callable[[str], int]

# The cookbook's constants: for a function, a set of properties, a property, an enumeration (it
# saves some), one of its items, and the end of all functions.
_FUNCTION, _OLDER_FUNCTION = 7, 10
_PROPERTIES, _PROPERTY, _ENUM, _ITEM, _END = 3, 3, -3, 3, 12
_OLDER = re.compile(r"(ft:)?gpt-(3\.5|4(?![.o\d]))")

# One recorded chat completion of gpt-5 was billed 223 for a tool whose JSON is 115 tokens, about 200
# more than the formula. Recorded /responses of gpt-5 models are not.
_CHAT_EXTRA = 200
_EXTRA = re.compile(r"(ft:)?gpt-[5-9]")

_BY_FORMULA = (
    "tools are counted by the formula of OpenAI's cookbook, which tells from 4 too few to 13 too "
    "many for flat parameters, and up to 74 too few for nested ones"
)


def tool_tokens(tools: Sequence[Any], model: str, count: Tokens, *, chat: bool) -> int:
    """Return the tokens of a request's function tools; the others add nothing.

    Args:
        tools: as in the body: chat's, the flat ones of /responses, or legacy `functions`.
        model: decides the constants.
        count: returns the tokens of a text.
        chat: whether it is a chat completion.
    """
    functions = [each for each in map(_function, tools) if each]
    if not functions:
        return 0
    first = _OLDER_FUNCTION if _OLDER.match(model) else _FUNCTION
    extra = _CHAT_EXTRA if chat and _EXTRA.match(model) else 0
    return extra + _END + sum(first + _of_function(each, count) for each in functions)


def doubts(tools: Sequence[Any]) -> Iterator[str]:
    """Yield what is assumed of the tools."""
    if any(map(_function, tools)):
        yield _BY_FORMULA
    others = {str(_field(tool, "type") or "unknown") for tool in tools if not _function(tool)}
    for kind in sorted(others):
        yield f"what a tool of the type {kind!r:.40} adds is not counted"


def _function(tool: object) -> Mapping[str, Any]:
    """Return the part of a tool that has name and parameters; an empty one for other tools."""
    inner = _field(tool, "function")
    found = inner if isinstance(inner, Mapping) else tool
    is_function = _field(tool, "type") in ("function", None) and _field(found, "name")
    return found if is_function and isinstance(found, Mapping) else {}


def _field(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _of_function(function: Mapping[str, Any], count: Tokens) -> int:
    tokens = count(f"{_text(function.get('name'))}:{_undotted(function)}")
    properties = _field(function.get("parameters"), "properties")
    if not isinstance(properties, Mapping) or not properties:
        return tokens
    return tokens + _PROPERTIES + sum(_of_property(*each, count) for each in properties.items())


def _of_property(name: str, schema: object, count: Tokens) -> int:
    tokens = _PROPERTY + count(f"{name}:{_text(_field(schema, 'type'))}:{_undotted(schema)}")
    items = _field(schema, "enum")
    if isinstance(items, Sequence) and not isinstance(items, str):
        tokens += _ENUM + sum(_ITEM + count(_text(item)) for item in items)
    return tokens


def _undotted(schema: object) -> str:
    return _text(_field(schema, "description")).removesuffix(".")


def _text(value: object) -> str:
    return value if isinstance(value, str) else as_json(value) if value is not None else ""
