"""Answers on their way to the caller, kept for the cache; and answers of the cache as responses.

A recorder sees the bytes that the caller gets, and holds no more of them than an entry may have. What
is not whole at the end, or not to be kept, leaves the flight to the next one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from limiter import replay
from limiter.cache.policy import charged_tokens, parsed
from limiter.providers import Profile, Tap
from limiter.transport.coding import Decoder
from limiter.transport.effects import Http

if TYPE_CHECKING:
    from limiter.cache.entry import Entry
    from limiter.cache.flights import Flight
    from limiter.cache.looking import Found
    from limiter.cache.policy import Question
    from limiter.cache.settings import Settings

EVENTS = "text/event-stream"
_KEPT_HEADERS = ("content-type", "x-request-id", "request-id", "openai-version")


class Served(NamedTuple):
    """Hold the body of a response: `pieces` of it as they are delivered."""

    kind: str
    pieces: list[bytes]


def serve(question: Question, entry: Entry) -> Served | None:
    """Make of a stored answer what a request wants, stream or not; None: it will not do."""
    kind, data = entry.kind, entry.data
    if kind not in ("json", "sse"):
        return None
    if not question.stream:
        return _whole(question, kind, data)
    pieces: list[bytes] | None = None
    if kind == "sse":
        pieces = replay.as_asked(question.endpoint, data, include_usage=question.include_usage)
    elif (answer := parsed(data)) is not None:
        usage = question.include_usage
        pieces = replay.render(question.endpoint, answer, include_usage=usage)
    return Served(EVENTS, pieces) if pieces else None


def _whole(question: Question, kind: str, data: bytes) -> Served | None:
    if kind == "json":
        return Served("application/json", [data])
    answer = replay.assemble(question.endpoint, data)
    if answer is None or not replay.has_usage(question.endpoint, answer):
        return None  # who asks for no stream is told the usage
    return Served("application/json", [json.dumps(answer, ensure_ascii=False).encode()])


def headers_of(found: Found) -> dict[str, str]:
    """Return the headers of a response from the cache."""
    kept = dict(found.entry.headers) if found.entry else {}
    kept["content-type"] = found.served.kind
    return kept | {"x-limiter-cache": found.how, "age": str(int(found.age_s))}


class Kept(NamedTuple):
    """Hold an answer that is to be stored."""

    kind: str
    data: bytes
    tokens: int
    headers: dict[str, str]


class Recorder:
    """Follow the body of one response.

    Attributes:
        flight: whose answer it is.
    """

    def __init__(
        self, flight: Flight, settings: Settings, profile: Profile, headers: Mapping[str, str]
    ) -> None:
        self.flight = flight
        self._settings, self._profile = settings, profile
        self._headers = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self._tap = Tap() if kind == EVENTS else None
        self._decoder = Decoder(headers.get("content-encoding", ""))
        self._body = bytearray()
        self._is_lost = not (self._tap or kind.endswith("json"))

    def saw(self, chunk: bytes) -> bool:
        """Take a piece as it went over the wire; say whether that was the end of a stream."""
        if self._is_lost:
            return False
        for piece in self._decoder.feed(chunk):
            self.saw_plain(piece)
        self._is_lost = self._is_lost or self._decoder.lost
        return self._tap is not None and self._tap.done

    def saw_plain(self, piece: bytes) -> None:
        """Take a piece without its coding."""
        self._body += piece
        if self._tap:
            self._tap.feed(piece)
        if len(self._body) > self._settings.entry_bytes:
            self._is_lost = True
            self._body.clear()

    def kept(self) -> Kept | None:
        """Return what is to be stored; None: nothing, or not yet."""
        if self._is_lost:
            return None
        question, body = self.flight.question, bytes(self._body)
        answer = replay.assemble(question.endpoint, body) if self._tap else parsed(body)
        if answer is None or not self._settings.is_kept(question, answer):
            return None
        tokens = charged_tokens(self._profile, answer)
        return Kept("sse" if self._tap else "json", body, tokens, self._headers)


class _Recorded:
    """Hold what both kinds of stream know; let the flight go of what is dropped without a close."""

    def __init__(self, inner: Http, recorder: Recorder, cache: Any) -> None:
        self._inner, self._recorder, self._cache = inner, recorder, cache

    @property
    def _is_open(self) -> bool:
        return self._recorder.flight.state == "open"

    def __del__(self) -> None:
        if self._is_open:
            self._cache.leave_soon(self._recorder.flight)


class RecordedSync(_Recorded):
    """Pass a response's bytes on, and store them at their end."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                if self._recorder.saw(chunk):
                    store(self._cache, self._recorder)
                yield chunk
        except Exception:
            self._cache.leave(self._recorder.flight)
            raise
        except BaseException:
            self._cache.leave_now(self._recorder.flight)
            raise
        store(self._cache, self._recorder)

    def close(self) -> None:
        """Close; a body that was left early is not stored."""
        if self._is_open:
            self._cache.leave(self._recorder.flight, failed=False)
        self._inner.close()


class RecordedAsync(_Recorded):
    """Pass a response's bytes on, and store them at their end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._inner)
        try:
            async for chunk in chunks:
                if self._recorder.saw(chunk):
                    await store_async(self._cache, self._recorder)
                yield chunk
        except Exception:
            await self._cache.leave(self._recorder.flight)
            raise
        except BaseException:
            self._cache.leave_now(self._recorder.flight)
            raise
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        await store_async(self._cache, self._recorder)

    async def aclose(self) -> None:
        """Close; a body that was left early is not stored."""
        if self._is_open:
            await self._cache.leave(self._recorder.flight, failed=False)
        await self._inner.aclose()


def store(cache: Any, recorder: Recorder) -> None:
    """End a flight by what was recorded."""
    if recorder.flight.state == "open":
        kept = recorder.kept()
        if kept is None:
            cache.leave(recorder.flight)
        else:
            cache.fill(
                recorder.flight, kept.kind, kept.data, tokens=kept.tokens, headers=kept.headers
            )


async def store_async(cache: Any, recorder: Recorder) -> None:
    """End a flight by what was recorded; see `store`."""
    if recorder.flight.state == "open":
        kept = recorder.kept()
        if kept is None:
            await cache.leave(recorder.flight)
        else:
            await cache.fill(
                recorder.flight, kept.kind, kept.data, tokens=kept.tokens, headers=kept.headers
            )


class Replayed:
    """Deliver the events of a stored stream, one by one, to either kind of client."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    def close(self) -> None:
        """Do nothing: no connection is behind it."""

    async def aclose(self) -> None:
        """Do nothing: no connection is behind it."""
