"""A worker process of `limiter run`: makes the calls that its parent hands to it.

Runs as `python -m limiter.cli.worker FD`, where FD is its end of a socket pair. Frames are msgpack
arrays, the first element says what they are.

    from the parent    settings {…} · line NUMBER RAW · stop
    to the parent      ready · done NUMBER OK OUTPUT · spent QUOTA AMOUNTS AT · refused · retry
                       saved BEFORE AFTER DROPPED · cached

End of file on the socket means that the parent is gone: everything is cancelled, so that
reservations are settled, and the process ends. It never touches a file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgpack

from limiter.bulk.calls import Ended
from limiter.bulk.settings import Settings
from limiter.queue.layout import Queued, Taken
from limiter.queue.ops import Want
from limiter.queue.worker import Worker

MAX_FRAME_BYTES = 2**31 - 1
_CHUNK_BYTES = 2**18
# A killed worker's reservations and tickets stand in the way of the others for so long.
LEASE_S = 10.0
_FAREWELL_S = 2.0
_ORPHAN_S = 10.0


def frames() -> msgpack.Unpacker:
    """Return what both ends read frames with."""
    return msgpack.Unpacker(raw=False, max_buffer_size=MAX_FRAME_BYTES)


def frame(*parts: Any) -> bytes:
    """Write one frame."""
    packed: bytes = msgpack.packb(parts)
    return packed


class Pipe:
    """Be the source of a worker whose calls are lines that its parent hands over.

    The parent knows which lines are here, so nothing is given back to it: what has no result when this
    process ends is another's. The order is the parent's, too; all lines have one priority.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines: deque[Taken] = deque()
        self._changed: Callable[[], None] = lambda: None

    def report(self, *parts: Any) -> None:
        """Tell the parent; what waits to be sent is bounded by the lines that it handed over."""
        if not self._writer.is_closing():
            self._writer.write(frame(*parts))

    async def take(self, want: Want) -> tuple[float | None, list[Taken]]:
        """Take lines that are here."""
        room = min(want.most, want.levels.get(0, want.each), len(self._lines))
        return None, [self._lines.popleft() for _ in range(room if want.above is None else 0)]

    async def finish(self, taken: Taken, ended: Ended) -> bool:
        """Tell a line's result."""
        self.report("done", taken.call.number, ended.ok, ended.line)
        return True

    async def give_back(self, taken: Sequence[Taken]) -> None:
        """Do nothing: the parent has the lines still."""

    async def put_off(self, taken: Taken, ended: Ended, _seconds: float) -> None:
        """Tell a line's result: another run does it again."""
        await self.finish(taken, ended)

    async def renew(self, held: Iterable[Taken]) -> None:
        """Do nothing: the parent sees when this process ends."""

    async def listen(self, changed: Callable[[], None]) -> Pipe:
        """Call `changed` when there are lines."""
        self._changed = changed
        return self

    async def close(self) -> None:
        """Do nothing: the socket is closed at the end."""

    async def serve(self) -> None:
        """Work until the parent has gone, or has said stop and the calls under way have ended."""
        from limiter.api import AsyncLimiter
        from limiter.bulk.calls import Caller

        incoming = self._frames()
        settings = Settings.from_dict((await anext(incoming))[1])
        quotas = settings.declared().values()
        limiter = AsyncLimiter(settings.url, quotas=quotas, lease=LEASE_S)
        worker = Worker(self, concurrency=settings.concurrency, lease=LEASE_S)
        caller = Caller(settings, limiter, self.report, worker.granted)
        async with limiter, caller:
            self.report("ready")
            reading = asyncio.create_task(self._read(incoming, worker))
            await worker.run(caller, grace=None)
            reading.cancel()

    async def _frames(self) -> Any:
        unpacker = frames()
        # A parent that was killed with unread reports resets the line rather than ending it.
        with suppress(ConnectionError):
            while data := await self._reader.read(_CHUNK_BYTES):
                unpacker.feed(data)
                for parts in unpacker:
                    yield parts

    async def _read(self, incoming: Any, worker: Worker) -> None:
        """Do what the parent says; once it is gone, end everything."""
        async for kind, *parts in incoming:
            if kind == "line":
                number, raw = parts
                self._lines.append(Taken(Queued("", number, "", "", raw), 0, "", 0))
                self._changed()
            else:
                self._lines.clear()
                worker.stop()
        # Nobody is left to hear of anything: whatever should still hang then must not stay behind.
        asyncio.get_running_loop().call_later(_ORPHAN_S, os._exit, 1)
        worker.abandon()


async def _main(line: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=line)
    with suppress(ConnectionError, StopAsyncIteration):
        await Pipe(reader, writer).serve()
    writer.close()
    with suppress(OSError):
        await asyncio.wait_for(writer.wait_closed(), _FAREWELL_S)


def main(descriptor: int) -> None:
    """Run until the parent is gone; a signal to the whole group is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # How tokens are counted is said by the parent, once.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="limiter")
    asyncio.run(_main(socket.socket(fileno=descriptor)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
