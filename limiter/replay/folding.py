"""Fold what a stream tells bit by bit into what it told: one rule for each kind of field.

What is folded into is owned: nothing here changes a payload, and the time is linear in the stream.
"""

from __future__ import annotations

from typing import Any

from limiter.replay.loss import Loss, Payload, fields, items, text


class Pieces(list[str]):
    """Be a text that comes in pieces: joined once, for `+=` would copy it for each of them."""


class Numbered(dict[int, Payload]):
    """Be a list whose entries come in pieces, each with its index."""


def _says_nothing(value: object) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def append(into: Payload, name: str, value: object) -> None:
    """Take the next piece of a text; null says that there is none so far."""
    if value is None:
        into.setdefault(name, None)
        return
    pieces = into.get(name)
    if not isinstance(pieces, Pieces):
        pieces = into[name] = Pieces()
    pieces.append(text(value))


def extend(into: Payload, name: str, value: object) -> None:
    """Take the next entries of an object of lists, as logprobs are; its other fields must agree."""
    if value is None:
        into.setdefault(name, None)
        return
    if into.get(name) is None:
        into[name] = {}
    for key, entries in fields(value).items():
        if isinstance(entries, list):
            into[name][key] = items(into[name].get(key) or [])
            into[name][key] += entries
        else:
            agree(into[name], key, entries)


def once(into: Payload, name: str, value: object) -> None:
    """Take a value of unknown meaning: told twice, it could be pieces as well as a repetition."""
    old = into.get(name)
    if _says_nothing(value):
        into.setdefault(name, value)
    elif _says_nothing(old):
        into[name] = value
    else:
        raise Loss


def agree(into: Payload, name: str, value: object) -> None:
    """Take a value that every event repeats, or one of them tells; objects are united."""
    old = into.get(name)
    if isinstance(value, dict) and (isinstance(old, dict) or _says_nothing(old)):
        into[name] = own = old or {}
        for key, inner in value.items():
            agree(own, key, inner)
    elif name not in into or old != value:
        once(into, name, value)


def joined(value: Any) -> Any:
    """Return what was folded: texts joined, numbered entries as a list.

    Raises:
        Loss: an index is missing.
    """
    match value:
        case Pieces():
            return "".join(value)
        case Numbered():
            if max(value, default=-1) != len(value) - 1:
                raise Loss
            return [joined(value[index]) for index in range(len(value))]
        case dict():
            return {name: joined(inner) for name, inner in value.items()}
        case _:
            return value
