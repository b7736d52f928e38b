"""The bytes of a stream: cut into events that stay as they were, and written anew.

Nothing here knows what an event says, beyond its being JSON, an error, or the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from limiter.providers.sse import Events
from limiter.replay.loss import Loss, Payload, fields

DONE = b"data: [DONE]\n\n"

_BOM = b"\xef\xbb\xbf"
# An event as all known providers write it, read at a third of the cost of cutting it by lines: a
# recorded stream of a thousand events is read before its first one goes out.
_PLAIN = re.compile(rb"(?:event: ([^\r\n]*)\n)?data: ([^\r\n]*)\n\n")
# Two line ends, of any kind. Atomic: the two halves of one CRLF are no blank line.
_BLANK = re.compile(rb"(?>\r\n|\n|\r){2}")

# In ASCII: readers that split lines as str.splitlines does would break an event at U+2028.
_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class Frame(NamedTuple):
    """Hold one event: its bytes as they came, and what they say; None is `[DONE]`."""

    raw: bytes
    payload: Payload | None


def frames(events: bytes) -> Iterator[Frame]:
    """Cut a body into its events; comments between them are left out.

    Raises:
        Loss: an event is an error or no JSON object, or the body ends within one.
    """
    at = len(_BOM) if events.startswith(_BOM) else 0
    while at < len(events):
        if plain := _PLAIN.match(events, at):
            at = plain.end()
            yield Frame(plain[0], _payload(plain[1], plain[2]))
        elif blank := _BLANK.search(events, at):
            raw = events[at : blank.end()]
            at = blank.end()
            # In a stream of its own each, after a comment: a mark within a stream is no mark.
            for event in Events().feed(b":\n" + raw):
                yield Frame(raw, _payload(event.name.encode(), event.data))
        elif events[at:].strip():
            raise Loss
        else:
            return


def _payload(name: bytes | None, data: bytes) -> Payload | None:
    if data == b"[DONE]":
        return None
    payload = parse(data)
    if name == b"error" or payload.get("type") == "error" or payload.get("error"):
        raise Loss
    return payload


def parse(data: bytes | str) -> Payload:
    """Read what must be a JSON object."""
    try:
        return fields(json.loads(data if isinstance(data, str) else data.decode()))
    except ValueError as exc:
        raise Loss from exc


def written(payload: Payload, *, is_named: bool) -> bytes:
    """Write one event, with its type as the name where the API names its events."""
    data = _JSON.encode(payload)
    head = f"event: {payload['type']}\n" if is_named else ""
    return f"{head}data: {data}\n\n".encode()
