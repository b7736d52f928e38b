"""What a streamed answer says about its cost, read from the bytes that pass by.

A tap never changes, delays or keeps the stream: it holds at most one event, and none that is
larger than `max_event_bytes`. The openai client stops reading at `[DONE]` and closes, so the end
of a stream is known from its content, never from the iterator's end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from limiter.providers.content import WRITTEN, measure, text_tokens, utf8_bytes
from limiter.providers.profile import Usage, usage_of

# A `response.completed` event holds the whole answer, with images in base64: some megabytes.
MAX_EVENT_BYTES = 16 * 2**20

_EOL = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "message_stop"})
_AUDIO = frozenset({"response.audio.delta", "response.output_audio.delta"})


class Event(NamedTuple):
    """Hold one server-sent event; `data` is empty when the event was too large to keep."""

    name: str
    data: bytes


class Events:
    """Cut a stream of bytes, in any split, into server-sent events (WHATWG HTML, section 9.2)."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._line = bytearray()
        self._line_is_long = False
        self._after_cr = False
        self._at_start = True
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes; iterate to the end, or bytes are lost."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        *lines, rest = _EOL.split(chunk)
        for line in lines:
            self._append(line)
            if (event := self._end_line()) is not None:
                yield event
        self._append(rest)

    def _append(self, piece: bytes) -> None:
        if len(self._line) + len(piece) > self._max:
            self._line_is_long = True
            self._line.clear()
        else:
            self._line += piece

    def _end_line(self) -> Event | None:
        line, is_long = bytes(self._line), self._line_is_long
        self._line.clear()
        self._line_is_long = False
        if self._at_start:
            line, self._at_start = line.removeprefix(_BOM), False
        if is_long:
            self._size = self._max + 1
            return None
        if not line:
            return self._dispatch()
        self._take(line)
        return None

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"data":
            self._size += len(value) + 1
            self._data.append(value)
            if self._size > self._max:
                self._data.clear()

    def _dispatch(self) -> Event | None:
        data = b"\n".join(self._data)
        event = Event(self._name, data if self._size <= self._max else b"")
        is_empty = not self._size
        self._name, self._data, self._size = "", [], 0
        return None if is_empty else event


@dataclass(frozen=True, slots=True)
class StreamError:
    """Hold an error that arrived inside a stream, after its status 200.

    Attributes:
        code: the provider's code or type, `"unknown"` if it gave none.
        message: at most 500 characters of its text.
        headers: `retry-after` and the like, in lower case, where the event carries them.
    """

    code: str
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Tap:
    """Watch a streamed answer: feed it every chunk, read the attributes at any moment.

    Args:
        read: finds the usage in an event, as `Profile.usage` does.

    Attributes:
        usage: the last usage that the stream told; None until then.
        done: the provider said that the answer is over.
        error: the first error inside the stream.
        output_bytes: UTF-8 bytes of what the model wrote so far: text, refusals, visible
            reasoning, tool arguments.
    """

    def __init__(
        self,
        max_event_bytes: int = MAX_EVENT_BYTES,
        read: Callable[[object], Usage | None] = usage_of,
    ) -> None:
        self._events = Events(max_event_bytes)
        self._read = read
        self.usage: Usage | None = None
        self.done = False
        self.error: StreamError | None = None
        self.output_bytes = 0
        self._untold_bytes = 0

    @property
    def seen(self) -> Usage:
        """Return what was told, and what was seen to be written since then.

        Anthropic tells the input at once and the output at the end, Gemini both as it goes on.
        """
        since = text_tokens(self._untold_bytes)
        if self.usage is None:
            return Usage(output_tokens=since)
        if not since or self.done:
            return self.usage
        total = self.usage.total_tokens
        return replace(
            self.usage,
            output_tokens=(self.usage.output_tokens or 0) + since,
            total_tokens=None if total is None else total + since,
        )

    def feed(self, chunk: bytes) -> None:
        """Read on; chunks may be cut anywhere. Never raises, whatever the bytes."""
        for event in self._events.feed(chunk):
            self._see(event)

    def _see(self, event: Event) -> None:
        if event.data.startswith(b"[DONE]"):
            self.done = True
            return
        payload = _json_object(event.data)
        kind = payload.get("type")
        kind = kind if isinstance(kind, str) else event.name
        self.done = self.done or kind in _ENDS
        self.error = self.error or _error(kind, payload)
        written = written_bytes(kind, payload)
        self.output_bytes += written
        self._untold_bytes += written
        self._see_usage(self._read(payload))

    def _see_usage(self, told: Usage | None) -> None:
        """Keep the newest; Anthropic tells the input at the start and the output at the end."""
        if told is None:
            return
        if self.usage and told.input_tokens is None and told.total_tokens is None:
            told = replace(
                told,
                input_tokens=self.usage.input_tokens,
                cached_tokens=self.usage.cached_tokens,
                cache_read_tokens=self.usage.cache_read_tokens,
            )
        self.usage, self._untold_bytes = told, 0


def written_bytes(kind: str, payload: Mapping[str, Any]) -> int:
    """Count the bytes that the model wrote in one event of a stream, of any API known here."""
    delta = payload.get("delta")
    if isinstance(delta, str):
        return 0 if kind in _AUDIO else utf8_bytes(delta)
    if isinstance(delta, Mapping):
        return measure(delta, WRITTEN).text_bytes
    return sum(
        measure([piece.get("delta"), piece.get("text"), piece.get("content")], WRITTEN).text_bytes
        for pieces in (payload.get("choices"), payload.get("candidates"))
        for piece in (pieces if isinstance(pieces, list) else [])
        if isinstance(piece, Mapping)
    )


def _error(kind: str, payload: Mapping[str, Any]) -> StreamError | None:
    response = payload.get("response")
    inner = payload.get("error") or (response.get("error") if isinstance(response, dict) else None)
    if not inner and kind not in {"error", "response.failed"}:
        return None
    told: Any = inner or payload
    if not isinstance(told, Mapping):
        return StreamError("unknown", str(told)[:500])
    code = told.get("code") or (inner and told.get("type")) or "unknown"
    headers = told.get("headers")
    return StreamError(
        str(code)[:100],
        str(told.get("message") or "")[:500],
        {str(k).lower(): str(v) for k, v in headers.items()} if isinstance(headers, dict) else {},
    )


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
