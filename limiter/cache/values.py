"""What functions return, as values that can be stored and come back as they were. Pure but for imports.

Stored is what JSON has (and bytes), and objects of pydantic as their class's name with their fields. A
name that comes back from the store imports nothing but modules of the provider SDKs that are installed,
or is that of the class that the function says it returns.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from limiter.cache.policy import is_complete
from limiter.providers.endpoints import Endpoint

# Their `construct` takes what the API sends, also what is newer than the SDK.
_SDK = re.compile(r"(openai|anthropic)(\.\w+)+")
_KINDS: Mapping[object, Endpoint] = {
    "chat.completion": "chat", "text_completion": "completions", "response": "responses",
    "message": "messages",
}  # fmt: skip
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_DEPTH_MAX = 100


class Value(NamedTuple):
    """Hold what a function returned, so that None is a value too."""

    value: Any


class NotStorable(Exception):
    """Name what it is that cannot be stored."""


def packed(value: Any, returns: object = None) -> list[Any]:
    """Return a value as it is stored: `[class or "", fields or value]`.

    Args:
        value: what a function returned.
        returns: the class that it says it returns.

    Raises:
        NotStorable: it would not come back as it was.
    """
    kind = type(value)
    if not callable(getattr(value, "model_dump", None)) or isinstance(value, type):
        _check(value, 0)
        return ["", value]
    # What was set, by the names that the API has: so it is read back as from the API.
    fields = value.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    stored = [f"{kind.__module__}.{kind.__qualname__}", fields]
    if unpacked(stored, returns) != Value(value):
        raise NotStorable(f"a {kind.__name__}, unless the function is annotated to return it")
    return stored


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if depth > _DEPTH_MAX:
        raise NotStorable("something nested too deeply")
    if value is None or kind in (bool, float, str, bytes):
        return
    if kind is int and _INT_MIN <= value <= _INT_MAX:
        return
    if kind is list:
        for each in value:
            _check(each, depth + 1)
    elif kind is dict and all(type(name) is str for name in value):
        for each in value.values():
            _check(each, depth + 1)
    else:
        raise NotStorable(f"a {kind.__name__}")


def unpacked(stored: Any, returns: object = None) -> Value | None:
    """Undo `packed`; None: its class is not to be had, or does not take the fields.

    Args:
        stored: as it came from the store.
        returns: the class that the function says it returns.
    """
    match stored:
        case ["", value]:
            return Value(value)
        case [str(name), dict(fields)]:
            try:
                made = _made(name, fields, returns)
            except Exception:  # noqa: BLE001 - a class is other people's code: the value is a miss
                return None
            return None if made is None else Value(made)
    return None


def _made(name: str, fields: dict[str, Any], returns: object) -> Any:
    if isinstance(returns, type) and name == f"{returns.__module__}.{returns.__qualname__}":
        kind: Any = returns
    else:
        module, _, attribute = name.rpartition(".")
        if not _SDK.fullmatch(name):
            return None
        kind = getattr(importlib.import_module(module), attribute)
    if not (isinstance(kind, type) and hasattr(kind, "model_fields")):
        return None
    if _SDK.fullmatch(name):
        return kind.construct(**fields)  # type: ignore[attr-defined]  # of the SDKs' base class
    return kind.model_validate(fields)  # type: ignore[attr-defined]  # of pydantic's


def is_answer(stored: list[Any]) -> bool:
    """Say whether a value is a provider's answer, rather than what one used."""
    answer = stored[1]
    if not isinstance(answer, Mapping):
        return False
    kind = answer.get("object") or answer.get("type")
    return kind in _KINDS or (kind == "list" and bool(answer.get("data")))


def is_worth_keeping(stored: list[Any], arguments: Mapping[str, Any]) -> bool:
    """Say whether a result is a whole answer, where it is one of a provider's at all."""
    answer = stored[1]
    if not isinstance(answer, Mapping):
        return True
    kind = _KINDS.get(answer.get("object") or answer.get("type"))
    return kind is None or is_complete(kind, arguments, answer)
