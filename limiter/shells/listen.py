"""Wake-ups: one subscription per process, however many wait.

A lost connection is made anew for as long as anybody listens; what was missed meanwhile the
fallback poll of the lines finds out.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import exceptions

from limiter.shells.redis_store import AsyncRedisStore, RedisStore

Deliver = Callable[[str, bytes], None]
_PAUSE_S = 0.2
_FAREWELL_S = 2.0
_LOST = (exceptions.RedisError, OSError, ValueError)
_MESSAGES = ("message", "smessage")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Listener:
    """Read wake-ups in a daemon thread that starts with the first channel."""

    def __init__(self, store: RedisStore, deliver: Deliver) -> None:
        self._store = store
        self._deliver = deliver
        self._wanted: list[str] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pubsub: Any = None
        self._closed = False

    def subscribe(self, channel: str) -> None:
        """Listen on one more channel from soon on."""
        with self._lock:
            self._wanted.append(channel)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._listen, name="limiter-listener", daemon=True
                )
                self._thread.start()
            elif self._pubsub is not None:
                # A failure shows at the reader, who begins again with all channels.
                with contextlib.suppress(*_LOST):
                    self._join(self._pubsub, [channel])

    def _join(self, pubsub: Any, channels: list[str]) -> None:
        (pubsub.ssubscribe if self._store.sharded else pubsub.subscribe)(*channels)

    def _listen(self) -> None:
        while not self._closed:
            pubsub = self._store.pubsub()
            try:
                with self._lock:
                    self._join(pubsub, self._wanted)
                    self._pubsub = pubsub
                while not self._closed:
                    self._hear(pubsub)
            except _LOST:
                if not self._closed:
                    time.sleep(_PAUSE_S)
            finally:
                with self._lock:
                    self._pubsub = None
                with contextlib.suppress(*_LOST):
                    pubsub.close()

    def _hear(self, pubsub: Any) -> None:
        read = pubsub.get_sharded_message if self._store.sharded else pubsub.get_message
        message = read(ignore_subscribe_messages=True, timeout=1.0)
        if message and message["type"] in _MESSAGES:
            self._deliver(_text(message["channel"]), message["data"])

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        thread = self._thread
        if thread and thread is not threading.current_thread():
            client = self._store.client
            with contextlib.suppress(*_LOST):
                # An empty message ends the wait for the next one.
                (client.spublish if self._store.sharded else client.publish)(self._wanted[0], "")
            thread.join(timeout=3)


class AsyncListener:
    """Read wake-ups in a task that starts with the first channel."""

    def __init__(self, store: AsyncRedisStore, deliver: Deliver) -> None:
        self._store = store
        self._deliver = deliver
        self._wanted: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def subscribe(self, channel: str) -> None:
        """Listen on one more channel from soon on."""
        self._wanted.append(channel)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        while not self._closed:
            pubsub = self._store.pubsub()
            try:
                await self._hear(pubsub)
            except _LOST:
                await asyncio.sleep(_PAUSE_S)
            finally:
                with contextlib.suppress(*_LOST):
                    await pubsub.aclose()

    async def _hear(self, pubsub: Any) -> None:
        joined = 0
        read = pubsub.get_sharded_message if self._store.sharded else pubsub.get_message
        join = pubsub.ssubscribe if self._store.sharded else pubsub.subscribe
        while not self._closed:
            if joined < len(self._wanted):
                fresh = self._wanted[joined:]
                joined += len(fresh)
                await join(*fresh)
            # A new channel is joined within this time at the latest; until then the poll serves it.
            message = await read(ignore_subscribe_messages=True, timeout=0.1)
            if message and message["type"] in _MESSAGES:
                self._deliver(_text(message["channel"]), message["data"])

    async def close(self) -> None:
        """Stop listening."""
        self._closed = True
        task, self._task = self._task, None
        if task:
            # It looks up by itself; a cancellation could be taken for its read's own timeout.
            _, late = await asyncio.wait({task}, timeout=_FAREWELL_S)
            if late:
                task.cancel()
                await asyncio.wait({task}, timeout=_FAREWELL_S)
