"""How much text, how many images and how many token ids a request body holds.

Bodies come from users and frameworks in every shape: a part that is not understood counts the
text in it, and nothing here raises. Base64 of images, audio and files is never counted as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Where text stands in a message that the provider counts at admission. Tool calls are not in it:
# four recorded exchanges of 2026-03-31 with an assistant message of 61 bytes of function name
# and arguments, and a tool result of 53 bytes, took 17 = ceil(53/4) + 2 + 1.
SPOKEN = frozenset({"content", "text", "refusal"})

# Where text stands that the model reads, and that is therefore billed as input.
READ = SPOKEN | {
    "arguments",
    "function",
    "function_call",
    "input",
    "name",
    "output",
    "summary",
    "thinking",
    "tool_calls",
}

# Where text stands in what a model writes, in a message or in a piece of a stream.
WRITTEN = SPOKEN | {
    "arguments",
    "function",
    "function_call",
    "partial_json",
    "reasoning",
    "reasoning_content",
    "thinking",
    "tool_calls",
}

_IMAGES = frozenset({"image", "image_url", "input_image"})
_OPAQUE = frozenset({"audio", "file", "input_audio", "input_file"})


@dataclass(frozen=True, slots=True)
class Content:
    """Hold what was found: UTF-8 bytes of text, images, and token ids given instead of text."""

    text_bytes: int = 0
    images: int = 0
    token_ids: int = 0


def utf8_bytes(text: str) -> int:
    """Count the bytes of `text` in UTF-8; a lone surrogate counts 3 and does not raise."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def measure(value: object, keys: frozenset[str] = SPOKEN) -> Content:
    """Add up the text under `keys`, the images and the token ids in `value`, at any depth.

    Cost: O(size), one walk with its own stack, so depth is no danger. `value` may hold pydantic
    objects, as when an earlier answer's message is sent back.
    """
    text_bytes = images = token_ids = 0
    for item in leaves(value, keys):
        if isinstance(item, str):
            text_bytes += utf8_bytes(item)
        elif isinstance(item, Mapping):
            images += 1
        else:
            token_ids += 1
    return Content(text_bytes, images, token_ids)


def texts(value: object, keys: frozenset[str] = SPOKEN) -> list[str]:
    """Return the texts under `keys` in `value`, at any depth, in no promised order."""
    return [item for item in leaves(value, keys) if isinstance(item, str)]


def leaves(value: object, keys: frozenset[str]) -> Iterator[str | int | Mapping[Any, object]]:
    """Yield every text, token id (int) and image part (mapping) in `value`."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) or (isinstance(item, int) and not isinstance(item, bool)):
            yield item
        elif isinstance(item, Mapping):
            if is_image(item):
                yield item
            elif not _is_opaque(item):
                stack.extend(item[key] for key in keys if key in item)
        else:
            stack.extend(children(item))


def is_image(part: Mapping[Any, object]) -> bool:
    """Say whether a content part is an image of any of the known spellings."""
    kind = part.get("type")
    return (isinstance(kind, str) and kind in _IMAGES) or "image_url" in part


def _is_opaque(part: Mapping[Any, object]) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and kind in _OPAQUE


def children(item: object) -> Sequence[object]:
    """Return what a list holds, or the fields of a pydantic object as one mapping, else nothing.

    Iterators are left alone: reading one here would take it from the caller.
    """
    if isinstance(item, Sequence) and not isinstance(item, (bytes, bytearray, memoryview)):
        return item
    dump = getattr(item, "model_dump", None)
    dumped = dump() if callable(dump) and not isinstance(item, type) else None
    return [dumped] if isinstance(dumped, Mapping) else []


def json_bytes(value: object) -> int:
    """Count the bytes of `value` as compact JSON, for tools and schemas; 0 if it cannot be."""
    if not value:
        return 0
    try:
        text = json.dumps(
            value, separators=(",", ":"), ensure_ascii=False, skipkeys=True, default=lambda _: ""
        )
    except (ValueError, RecursionError):
        return 0
    return utf8_bytes(text)


def amount(value: object) -> int | None:
    """Return a count from a body or a usage as an int, None if it is no whole number >= 0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None
