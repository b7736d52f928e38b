"""Wake-ups: one subscription connection per process and node, however many wait and on how much.

Pub/sub loses what is sent while nobody listens: so each (re)subscription that a server confirms is
passed on, and the line asks about its tickets. In a cluster the channels are sharded: PUBLISH goes
to every node, SPUBLISH to the slot's shard alone, so that a process keeps a connection to each node
that serves a quota it waits for. Lists (BLPOP) would bridge a cut, but need a connection that blocks
for each quota, and lose the message with a lost reply: it is popped and gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from redis import exceptions

from limiter.shells.redis_store import FOREIGN, AsyncRedisStore, RedisStore

Deliver = Callable[[str, bytes], None]
Confirm = Callable[[str], None]
_PAUSE_S = 0.02  # before the first new try; what was missed until then is found out after it
_PAUSE_MAX_S = 1.0
_LOOK_S = 1.0  # how often a thread looks whether its connection still stands
_CONNECT_S = 5.0
_FAREWELL_S = 2.0
_LOST = (*FOREIGN, ValueError)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Ear:
    """Hold the channels of one node, the connection that hears them, and what is unconfirmed."""

    def __init__(self) -> None:
        self.node: Any = None
        self.channels: set[str] = set()
        self.pending: set[str] = set()
        self.pubsub: Any = None  # set while the connection takes further channels
        self.reader: Any = None  # the thread or the task
        self._pause_s = _PAUSE_S

    def begin(self) -> set[str]:
        """Return what a new connection must subscribe to."""
        self.pending = set(self.channels)
        return set(self.channels)

    def confirm(self, channel: str) -> None:
        """Note that the server sends us what comes on a channel."""
        self.pending.discard(channel)
        if not self.pending:
            self._pause_s = _PAUSE_S

    def pause_s(self) -> float:
        """Return how long to wait before the next try: longer after each that did not succeed."""
        pause_s, self._pause_s = self._pause_s, min(_PAUSE_MAX_S, 2 * self._pause_s)
        return pause_s * random.uniform(0.5, 1.0)


class _Listening:
    """Say who hears which channel, and what a message means; all of it without I/O."""

    def __init__(self, home: Callable[[str], Any], deliver: Deliver, confirm: Confirm) -> None:
        self._home = home
        self._deliver = deliver
        self._confirm = confirm
        self._ears: dict[str, _Ear] = {}
        self._closed = False

    def _place(self, channel: str) -> _Ear:
        """Give a channel to the ear at the node that serves it."""
        node = self._home(channel)
        ear = self._ears.setdefault(getattr(node, "name", ""), _Ear())
        ear.node = node
        ear.channels.add(channel)
        ear.pending.add(channel)
        return ear

    def _drop_if_unused(self, ear: _Ear) -> bool:
        """Forget an ear whose channels have all moved; say whether it was one."""
        if not ear.channels:
            self._ears = {name: other for name, other in self._ears.items() if other is not ear}
        return not ear.channels

    def _hear(self, ear: _Ear, message: Any) -> None:
        kind, channel = message["type"], _text(message["channel"])
        if kind in ("message", "smessage"):
            self._deliver(channel, message["data"])
        elif kind in ("subscribe", "ssubscribe"):
            ear.confirm(channel)
            self._confirm(channel)
        elif kind in ("unsubscribe", "sunsubscribe") and not self._closed:
            raise exceptions.ConnectionError(f"The node no longer serves {channel}.")


class Listener(_Listening):
    """Read wake-ups in a daemon thread for each node, from its first channel on."""

    def __init__(self, store: RedisStore, deliver: Deliver, confirm: Confirm) -> None:
        super().__init__(store.home, deliver, confirm)
        self._store = store
        self._lock = threading.Lock()  # never held while a server is waited for
        self._closing = threading.Event()

    def subscribe(self, channel: str) -> None:
        """Listen on one more channel; `confirm` is called once the server does its part."""
        with self._lock:
            ear = self._place(channel)
            pubsub = ear.pubsub
            if ear.reader is None:
                ear.reader = threading.Thread(
                    target=self._listen, args=(ear,), name="limiter-listener", daemon=True
                )
                ear.reader.start()
        if pubsub is not None:
            # A failure shows at the reader, who begins again with all channels.
            with contextlib.suppress(*_LOST):
                self._join(pubsub, {channel})

    def _join(self, pubsub: Any, channels: set[str]) -> None:
        for group in _commands(channels, sharded=self._store.sharded):
            (pubsub.ssubscribe if self._store.sharded else pubsub.subscribe)(*group)

    def _listen(self, ear: _Ear) -> None:
        while not self._closed:
            with contextlib.suppress(*_LOST):
                self._attend(ear)
            if self._closing.wait(ear.pause_s()) or not self._settle(ear):
                return

    def _attend(self, ear: _Ear) -> None:
        """Hear one connection until it is lost."""
        pubsub = self._store.pubsub(ear.node)
        try:
            with self._lock:
                channels = ear.begin()
            self._join(pubsub, channels)
            with self._lock:
                ear.pubsub, late = pubsub, ear.channels - channels
            self._join(pubsub, late)
            while not self._closed:
                message = _read(pubsub)
                if message:
                    self._hear(ear, message)
        finally:
            with self._lock:
                ear.pubsub = None
            with contextlib.suppress(*_LOST):
                pubsub.close()

    def _settle(self, ear: _Ear) -> bool:
        """Ask who serves the channels now, and pass on those that moved; say if any are left."""
        with contextlib.suppress(*_LOST):
            self._store.find_nodes()
        with self._lock:
            channels, ear.channels = ear.channels, set()
        for channel in channels:
            self.subscribe(channel)
        with self._lock:
            return not self._drop_if_unused(ear)

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self._closing.set()
        with self._lock:
            ears = list(self._ears.values())
        for ear in ears:
            if ear.pubsub is not None:
                # The answer ends the wait for the next message.
                with contextlib.suppress(*_LOST):
                    (ear.pubsub.sunsubscribe if self._store.sharded else ear.pubsub.unsubscribe)()
        for ear in ears:
            if ear.reader is not threading.current_thread():
                ear.reader.join(timeout=_FAREWELL_S)


class AsyncListener(_Listening):
    """Read wake-ups in a task for each node, from its first channel on."""

    def __init__(self, store: AsyncRedisStore, deliver: Deliver, confirm: Confirm) -> None:
        super().__init__(store.home, deliver, confirm)
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()

    def subscribe(self, channel: str) -> None:
        """Listen on one more channel; `confirm` is called once the server does its part."""
        ear = self._place(channel)
        if ear.reader is None:
            ear.reader = self._spawn(self._listen(ear))
        elif ear.pubsub is not None:
            self._spawn(self._join_late(ear.pubsub, channel))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _join(self, pubsub: Any, channels: set[str]) -> None:
        for group in _commands(channels, sharded=self._store.sharded):
            if not self._store.sharded:
                await pubsub.subscribe(*group)
            elif hasattr(pubsub, "ssubscribe"):
                await pubsub.ssubscribe(*group)
            else:  # redis-py 7 in asyncio, which reads what it cannot ask for
                await pubsub.execute_command("SSUBSCRIBE", *group)

    async def _join_late(self, pubsub: Any, channel: str) -> None:
        # A failure shows at the reader, who begins again with all channels.
        with contextlib.suppress(*_LOST):
            await self._join(pubsub, {channel})

    async def _listen(self, ear: _Ear) -> None:
        while True:
            with contextlib.suppress(*_LOST):
                await self._attend(ear)
            await asyncio.sleep(ear.pause_s())
            if not await self._settle(ear):
                return

    async def _attend(self, ear: _Ear) -> None:
        """Hear one connection until it is lost."""
        pubsub = self._store.pubsub(ear.node)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await pubsub.connect()
                ear.pubsub = pubsub
                await self._join(pubsub, ear.begin())
            while True:
                message = await pubsub.get_message(timeout=None)
                if message:
                    self._hear(ear, message)
        finally:
            ear.pubsub = None
            with contextlib.suppress(*_LOST):
                await pubsub.aclose()

    async def _settle(self, ear: _Ear) -> bool:
        """Ask who serves the channels now, and pass on those that moved; say if any are left."""
        with contextlib.suppress(*_LOST):
            async with asyncio.timeout(_CONNECT_S):
                await self._store.find_nodes()
        channels, ear.channels = ear.channels, set()
        for channel in channels:
            self.subscribe(channel)
        return not self._drop_if_unused(ear)

    async def close(self) -> None:
        """Stop listening."""
        self._closed = True
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_FAREWELL_S)


def _read(pubsub: Any) -> Any:
    try:
        return pubsub.get_message(timeout=_LOOK_S)
    except (AttributeError, TypeError) as exc:
        # What redis-py makes of a connection that another thread has closed under it.
        raise exceptions.ConnectionError("The subscription was closed.") from exc


def _commands(channels: set[str], *, sharded: bool) -> list[list[str]]:
    """Divide channels into those that one command may name: in a cluster, a slot's; here, one."""
    if not channels:
        return []
    return [[channel] for channel in channels] if sharded else [list(channels)]
