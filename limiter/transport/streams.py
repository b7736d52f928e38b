"""Bodies on their way to the caller: looked at, settled at their end, read in advance if an error's.

Every byte passes as it came. A stream exists four times (sync and asyncio, httpx and httpx2): the
code is here, the families give the bases.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from limiter.errors import StoreError
from limiter.transport import coding
from limiter.transport.effects import ERROR_MAX_BYTES, Follow, Http, Told

if TYPE_CHECKING:
    from limiter.reservation import AsyncReservation, Reservation
    from limiter.transport.attempt import Attempt

log = logging.getLogger("limiter")


class _Followed:
    """Hold what both kinds of stream know; settle what is dropped without a close."""

    def __init__(self, inner: Http, follow: Follow) -> None:
        self._inner = inner
        self._attempt, self._held, self._late = follow

    def _hear(self) -> None:
        """Report an error inside the stream as soon as it was seen."""
        if (trouble := self._attempt.trouble()) is not None:
            self._held.report_soon(trouble)

    def _leave(self) -> None:
        """Settle without waiting, for one who is interrupted."""
        if self._held.state == "held":
            self._held.settle_soon(self._attempt.used(), self._late)

    def __del__(self) -> None:
        if self._held.state == "held":
            self._held.settle_from_finalizer(self._attempt.used(), self._late)


class SyncStream(_Followed):
    """Pass a response's bytes on, and settle at their end."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                is_over = self._attempt.saw(chunk)
                self._hear()
                if is_over:
                    self._finish()
                yield chunk
        except Exception:
            self._finish()
            raise
        except BaseException:
            self._leave()
            raise
        self._finish()

    def close(self) -> None:
        """Settle by what was seen, if that was not done, and close."""
        try:
            self._finish()
        finally:
            self._inner.close()

    def _finish(self) -> None:
        if self._held.state == "held":
            settle(self._held, ended(self._held, self._attempt), self._late)


class AsyncStream(_Followed):
    """Pass a response's bytes on, and settle at their end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._inner)
        try:
            async for chunk in chunks:
                is_over = self._attempt.saw(chunk)
                self._hear()
                if is_over:
                    await self._finish()
                yield chunk
        except Exception:
            await self._finish()
            raise
        except BaseException:
            self._leave()
            raise
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        await self._finish()

    async def aclose(self) -> None:
        """Settle by what was seen, if that was not done, and close."""
        try:
            await self._finish()
        finally:
            await self._inner.aclose()

    async def _finish(self) -> None:
        if self._held.state == "held":
            await settle_async(self._held, ended(self._held, self._attempt), self._late)


def ended(held: Any, attempt: Attempt) -> Mapping[str, int] | None:
    """Return what a call used; how long its answer became is told along with that."""
    amounts = attempt.used()
    if attempt.output_key and attempt.output_tokens is not None:
        held.record_output(attempt.output_key, attempt.output_tokens)
    return amounts


def settle(held: Reservation, used: Mapping[str, int] | None, late: Any = None) -> None:
    """End a reservation, then report; a store that is away does not cost the caller its answer."""
    with _warned(held):
        held.cancel() if used is None else held.settle(**used)
    if late is not None:
        held.report_soon(late)


async def settle_async(
    held: AsyncReservation, used: Mapping[str, int] | None, late: Any = None
) -> None:
    """End a reservation, then report; see `settle`."""
    with _warned(held):
        await (held.cancel() if used is None else held.settle(**used))
    if late is not None:
        held.report_soon(late)


@contextlib.contextmanager
def _warned(held: Any) -> Iterator[None]:
    try:
        yield
    except StoreError as exc:
        log.warning(
            "The answer of a call on %r is here, but what it used could not be told: %s "
            "It will be when the store is back.", held.quota, exc,
        )  # fmt: skip


# --- errors -----------------------------------------------------------------------------------


class Rest:
    """Pass on a body of which a part was read: that part, then what is left."""

    def __init__(self, inner: Http, begun: list[bytes], chunks: Any) -> None:
        self._inner, self._begun, self._chunks = inner, begun, chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._begun
        yield from self._chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._begun:
            yield piece
        async for piece in self._chunks:
            yield piece

    def close(self) -> None:
        """Close what it comes from."""
        self._inner.close()

    async def aclose(self) -> None:
        """Close what it comes from, and the iteration, which nothing else ends."""
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()
        await self._inner.aclose()


def read(response: Http, whole: type, follow: Any) -> Told:
    """Read an error's body; the response then holds it in memory.

    What breaks off is an error as far as it came: its status says more than the broken line.

    Args:
        response: as it came from the transport inside.
        whole: the family's stream of bytes.
        follow: makes a stream of the family from one that is not read to its end.
    """
    if hasattr(response, "_content"):
        return Told(response.content)
    body = _Body()
    chunks = iter(response.stream)
    try:
        while body.has_room and (chunk := next(chunks, None)) is not None:
            body.take(chunk)
    except Exception:
        log.debug("The body of an error broke off.", exc_info=True)
    except BaseException:
        response.stream.close()
        raise
    if not body.has_room:
        response.stream = follow(Rest(response.stream, body.pieces, chunks))
    else:
        response.stream.close()
        response.stream = whole(b"".join(body.pieces))
    return body.told(response.headers)


async def read_async(response: Http, whole: type, follow: Any) -> Told:
    """Read an error's body; see `read`."""
    if hasattr(response, "_content"):
        return Told(response.content)
    body = _Body()
    chunks = aiter(response.stream)
    try:
        while body.has_room and (chunk := await anext(chunks, None)) is not None:
            body.take(chunk)
    except Exception:
        log.debug("The body of an error broke off.", exc_info=True)
    except BaseException:
        await response.stream.aclose()
        raise
    if not body.has_room:
        response.stream = follow(Rest(response.stream, body.pieces, chunks))
    else:
        await response.stream.aclose()
        response.stream = whole(b"".join(body.pieces))
    return body.told(response.headers)


class _Body:
    """Gather a body, as it goes over the wire, up to the most that is read of an error."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._size = 0

    @property
    def has_room(self) -> bool:
        return self._size <= ERROR_MAX_BYTES

    def take(self, chunk: bytes) -> None:
        self.pieces.append(chunk)
        self._size += len(chunk)

    def told(self, headers: Mapping[str, str]) -> Told:
        packed = headers.get("content-encoding", "")
        content = coding.decoded(b"".join(self.pieces), packed, ERROR_MAX_BYTES)
        return Told(content, is_whole=self.has_room)
