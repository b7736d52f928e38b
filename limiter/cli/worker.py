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
from contextlib import suppress
from typing import Any

import msgpack

from limiter.bulk import answers
from limiter.bulk.settings import Settings

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


class Worker:
    """Take lines from the parent, and give it their results."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def report(self, *parts: Any) -> None:
        """Tell the parent; what waits to be sent is bounded by the lines that it handed over."""
        if not self._writer.is_closing():
            self._writer.write(frame(*parts))

    async def serve(self) -> None:
        """Work until the parent has gone, or has said stop and the calls under way have ended."""
        from limiter.api import AsyncLimiter
        from limiter.bulk.calls import Caller

        incoming = self._frames()
        settings = Settings.from_dict((await anext(incoming))[1])
        quotas = settings.declared().values()
        limiter = AsyncLimiter(settings.url, quotas=quotas, lease=LEASE_S)
        self._caller = Caller(settings, limiter, self.report)
        async with limiter, self._caller:
            self.report("ready")
            reading = asyncio.create_task(self._read(incoming))
            await self._stopping.wait()
            if self._tasks:
                await asyncio.wait(self._tasks)
            reading.cancel()

    async def _frames(self) -> Any:
        unpacker = frames()
        # A parent that was killed with unread reports resets the line rather than ending it.
        with suppress(ConnectionError):
            while data := await self._reader.read(_CHUNK_BYTES):
                unpacker.feed(data)
                for parts in unpacker:
                    yield parts

    async def _read(self, incoming: Any) -> None:
        """Do what the parent says; once it is gone, cancel everything."""
        async for kind, *parts in incoming:
            match kind:
                case "line":
                    self._start(*parts)
                case _:
                    self._cancel(self._tasks - self._caller.sending)
        # Nobody is left to hear of anything: whatever should still hang then must not stay behind.
        asyncio.get_running_loop().call_later(_ORPHAN_S, os._exit, 1)
        self._cancel(set(self._tasks))

    def _cancel(self, tasks: set[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        self._stopping.set()

    def _start(self, number: int, raw: bytes) -> None:
        task = asyncio.create_task(self._call(number, raw))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, number: int, raw: bytes) -> None:
        try:
            ok, line, *_ = await self._caller.run(number, raw)
        except Exception as exc:  # noqa: BLE001 - one line must not end the others
            ok, line = False, answers.failure(None, type(exc).__name__, f"A defect: {exc!r}")
        self.report("done", number, ok, line)


async def _main(line: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=line)
    with suppress(ConnectionError, StopAsyncIteration):
        await Worker(reader, writer).serve()
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
