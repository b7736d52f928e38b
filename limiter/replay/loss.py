"""What makes a conversion give up, and the few checks that say so.

Nothing here guesses: a value of another type than the API's is a loss, never repaired.
"""

from __future__ import annotations

import json
from typing import Any

Payload = dict[str, Any]

_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Loss(Exception):
    """Say that something cannot be told in the other form without losing a part of it."""


def text(value: object) -> str:
    """Return what must be a text."""
    if not isinstance(value, str):
        raise Loss
    return value


def fields(value: object) -> Payload:
    """Return what must be an object."""
    if not isinstance(value, dict):
        raise Loss
    return value


def items(value: object) -> list[Any]:
    """Return what must be an array."""
    if not isinstance(value, list):
        raise Loss
    return value


def place(value: object) -> int:
    """Return what must be an index."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Loss
    return value


def kind_of(value: Payload) -> str:
    """Return the type that an event or a part of an answer names; "" if it names none."""
    kind = value.get("type")
    return kind if isinstance(kind, str) else ""


def storable(answer: Payload) -> Payload:
    """Return an answer that JSON in UTF-8 can hold: no NaN, no half of a surrogate pair."""
    try:
        _STRICT.encode(answer).encode()
    except (TypeError, ValueError) as exc:
        raise Loss from exc
    return answer
