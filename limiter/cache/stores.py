"""Where answers are kept: Redis, sync and async side by side, or this process. The only I/O here.

A look is one packet of two plain commands on a connection that is kept; of a value of any size no
more than an answer may have is read. The rest are small scripts (`lua/cache`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol

from limiter import scripts
from limiter.cache import layout
from limiter.cache.shelf import Reply
from limiter.errors import LimiterError, StoreError

Wake = Callable[[str], None]
Command = tuple[Any, ...]

_PACKET_MAX = 64  # jobs: a hit may be a megabyte, and the first ones should not wait for all
_NEVER_DECODE = {"NEVER_DECODE": True}  # a client of the caller's may have decode_responses=True


class Store(Protocol):
    """Say what the sync driver needs of a store."""

    def look(self, key: str, most: int) -> tuple[bytes, int]:
        """Return an answer and the ms that it lives; b"" where there is none."""

    def claim(self, key: str, *asked: Any) -> Reply:
        """Ask for an answer, or for the task of getting it; see claim.lua."""

    def fill(self, key: str, answer: bytes, lifetime_ms: int) -> None:
        """Store an answer, wake those who wait."""

    def leave(self, key: str, id_: str, how: str, lease_ms: int) -> None:
        """Give a flight up, or say that it goes on."""

    def drop(self, key: str) -> None:
        """Delete an answer."""

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the figures."""

    def listen(self, channel: str, wake: Wake) -> None:
        """Call `wake` with each key that comes on a channel, and with "" when it is first heard."""

    def close(self) -> None:
        """Close what it holds."""


def _look_commands(key: str, most: int) -> list[Command]:
    # One byte more than an answer may have tells one that is too long.
    name = layout.answer(key)
    return [("GETRANGE", name, 0, most), ("PTTL", name)]


def _looked(replies: list[Any], most: int) -> tuple[bytes, int]:
    """Return what a look found; what is no string, or too long, is damaged: b"?" is no entry.

    Raises:
        Exception: the server's, if it says anything else than that it is no string.
    """
    stored, left_ms = replies
    for reply in replies:
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    if isinstance(stored, Exception) or len(stored) > most:
        return b"?", -1
    return stored, left_ms


def _call(name: str, key: str, *arguments: Any) -> tuple[scripts.Script, tuple[Any, ...]]:
    """Return a script, and its keys and arguments behind their number."""
    keys = [layout.answer(key), layout.flight(key)]
    keys = keys[1:] if name == "leave" else keys
    return scripts.load(f"cache/{name}"), (len(keys), *keys, *arguments)


def _is_unknown(error: Exception) -> bool:
    return str(error).startswith("NOSCRIPT") or type(error).__name__ == "NoScriptError"


def _fail(jobs: list[tuple[list[Command], asyncio.Future[list[Any]]]], error: Exception) -> None:
    for _, answered in jobs:
        if not answered.done():
            answered.set_exception(error)


def _key(data: Any) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)


class RedisStore:
    """Keep answers in Redis; safe to share between threads.

    Args:
        client: of redis-py, sync.
        owned: it is closed with the store.
        revive: starts a server that we are in charge of.
    """

    def __init__(
        self, client: Any, *, owned: bool = True, revive: Callable[[], object] | None = None
    ) -> None:
        from limiter.shells import redis_store

        self._redis = redis_store.RedisStore(client, owned=owned, revive=revive)
        self._errors, self._translated = redis_store.FOREIGN, redis_store.translated
        self._revive = revive
        self.client = client
        self._listener: Any = None

    def look(self, key: str, most: int) -> tuple[bytes, int]:
        """Return an answer and the ms that it lives; one packet."""
        replies = self._send(_look_commands(key, most))
        try:
            return _looked(replies, most)
        except self._errors as exc:
            raise self._translated(exc) from exc

    def claim(self, key: str, *asked: Any) -> Reply:
        """Run claim.lua."""
        reply: Reply = self._run("claim", key, *asked)
        return reply

    def fill(self, key: str, answer: bytes, lifetime_ms: int) -> None:
        """Run fill.lua."""
        self._run("fill", key, answer, lifetime_ms, key)

    def leave(self, key: str, id_: str, how: str, lease_ms: int) -> None:
        """Run leave.lua."""
        self._run("leave", key, id_, how, lease_ms, key)

    def drop(self, key: str) -> None:
        """Delete an answer."""
        self._send([("UNLINK", layout.answer(key))])

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the figures; one packet."""
        self._send([("HINCRBY", layout.FIGURES, name, n) for name, n in counts.items()])

    def _run(self, name: str, key: str, *arguments: Any) -> Any:
        script, rest = _call(name, key, *arguments)
        (reply,) = self._send([("EVALSHA", script.sha, *rest)])
        if isinstance(reply, Exception) and _is_unknown(reply):
            (reply,) = self._send([("EVAL", script.source, *rest)])
        if isinstance(reply, Exception):
            raise self._translated(reply) from reply
        return reply

    def _send(self, commands: list[Command]) -> list[Any]:
        """Send commands in one packet; return the replies, an error of the server's among them."""
        from redis.exceptions import ResponseError

        def told(read: Callable[..., Any], *command: Any, **options: Any) -> Any:
            try:
                return read(*command, **options)
            except ResponseError as exc:
                return exc

        try:
            if self._redis.sharded:
                execute = self.client.execute_command
                return [told(execute, *each, **_NEVER_DECODE) for each in commands]
            with self._redis.lane() as connection:
                packed = b"".join(connection.pack_commands(commands))
                connection.send_packed_command((packed,), check_health=False)
                return [told(connection.read_response, disable_decoding=True) for _ in commands]
        except self._errors as exc:
            if self._revive:
                self._revive()
            raise self._translated(exc) from exc

    def listen(self, channel: str, wake: Wake) -> None:
        """Hear what comes on a channel, in a thread."""
        from limiter.shells.listen import Listener

        if self._listener is None:
            radio: Any = _Radio(self.client, sharded=self._redis.sharded, is_async=False)
            self._listener = Listener(radio, lambda _, data: wake(_key(data)), lambda _: wake(""))
        self._listener.subscribe(channel)

    def figures(self) -> dict[str, int]:
        """Return the counts of the whole fleet."""
        try:
            found = self.client.hgetall(layout.FIGURES)
        except self._errors as exc:
            raise self._translated(exc) from exc
        return {_key(name): int(n) for name, n in found.items()}

    def scan(self) -> Iterator[str]:
        """List whose answers are kept; a scan."""
        try:
            for name in self.client.scan_iter(match=layout.ANSWERS, count=1000):
                if (key := layout.key_of(_key(name))) is not None:
                    yield key
        except self._errors as exc:
            raise self._translated(exc) from exc

    def clear_figures(self) -> None:
        """Begin to count anew."""
        self._send([("UNLINK", layout.FIGURES)])

    def close(self) -> None:
        """Close the connections that we keep."""
        if self._listener:
            self._listener.close()
        self._redis.close()


class AsyncRedisStore:
    """Keep answers in Redis, within one event loop; see `RedisStore`."""

    def __init__(
        self, client: Any, timeout_s: float, *,
        owned: bool = True, revive: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        from limiter.shells import redis_store

        self._redis = redis_store.AsyncRedisStore(client, timeout_s, owned=owned, revive=revive)
        self._errors, self._translated = redis_store.FOREIGN, redis_store.translated
        self._revive, self._timeout_s = revive, timeout_s
        self.client = client
        self._listener: Any = None
        self._outbox: list[tuple[list[Command], asyncio.Future[list[Any]]]] = []
        self._flight: asyncio.Task[None] | None = None

    async def look(self, key: str, most: int) -> tuple[bytes, int]:
        """Return an answer and the ms that it lives; one packet."""
        replies = await self._send(_look_commands(key, most))
        try:
            return _looked(replies, most)
        except self._errors as exc:
            raise self._translated(exc) from exc

    async def claim(self, key: str, *asked: Any) -> Reply:
        """Run claim.lua."""
        reply: Reply = await self._run("claim", key, *asked)
        return reply

    async def fill(self, key: str, answer: bytes, lifetime_ms: int) -> None:
        """Run fill.lua."""
        await self._run("fill", key, answer, lifetime_ms, key)

    async def leave(self, key: str, id_: str, how: str, lease_ms: int) -> None:
        """Run leave.lua."""
        await self._run("leave", key, id_, how, lease_ms, key)

    async def drop(self, key: str) -> None:
        """Delete an answer."""
        await self._send([("UNLINK", layout.answer(key))])

    async def add(self, counts: Mapping[str, int]) -> None:
        """Add to the figures; one packet."""
        await self._send([("HINCRBY", layout.FIGURES, name, n) for name, n in counts.items()])

    async def _run(self, name: str, key: str, *arguments: Any) -> Any:
        script, rest = _call(name, key, *arguments)
        (reply,) = await self._send([("EVALSHA", script.sha, *rest)])
        if isinstance(reply, Exception) and _is_unknown(reply):
            (reply,) = await self._send([("EVAL", script.source, *rest)])
        if isinstance(reply, Exception):
            raise self._translated(reply) from reply
        return reply

    async def _send(self, commands: list[Command]) -> list[Any]:
        """Send commands with whatever is ready in this turn of the loop, in one packet.

        A caller who is cancelled tears nothing apart: the packet is a task's of our own.
        """
        answered = asyncio.get_running_loop().create_future()
        self._outbox.append((commands, answered))
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly())
        replies: list[Any] = await answered
        return replies

    async def _fly(self) -> None:
        while self._outbox:
            jobs, self._outbox = self._outbox[:_PACKET_MAX], self._outbox[_PACKET_MAX:]
            commands = [command for job, _ in jobs for command in job]
            try:
                async with asyncio.timeout(self._timeout_s):
                    replies = deque(await self._exchange(commands))
            except self._errors as exc:
                _fail(jobs, self._translated(exc))
                await self._revived()
            except BaseException as exc:
                _fail([*jobs, *self._outbox], StoreError(f"The cache was closed: {exc!r:.60}."))
                self._outbox, self._flight = [], None
                raise
            else:
                for job, answered in jobs:
                    told = [replies.popleft() for _ in job]
                    if not answered.done():
                        answered.set_result(told)
        self._flight = None

    async def _revived(self) -> None:
        """Start a server that we are in charge of; those who ask next are told if it does not."""
        if self._revive:
            with contextlib.suppress(LimiterError):
                await asyncio.to_thread(self._revive)

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        from redis.exceptions import ResponseError

        async def told(reading: Any) -> Any:
            try:
                return await reading
            except ResponseError as exc:
                return exc

        if self._redis.sharded:
            execute = self.client.execute_command
            return [await told(execute(*each, **_NEVER_DECODE)) for each in commands]
        async with self._redis.lane() as connection:
            packed = b"".join(connection.pack_commands(commands))
            await connection.send_packed_command((packed,), check_health=False)
            read = connection.read_response
            never = float("inf")  # the timeout is around it
            return [await told(read(disable_decoding=True, timeout=never)) for _ in commands]

    def listen(self, channel: str, wake: Wake) -> None:
        """Hear what comes on a channel, in a task."""
        from limiter.shells.listen import AsyncListener

        if self._listener is None:
            radio: Any = _Radio(self.client, sharded=self._redis.sharded, is_async=True)
            self._listener = AsyncListener(
                radio, lambda _, data: wake(_key(data)), lambda _: wake("")
            )
        self._listener.subscribe(channel)

    async def figures(self) -> dict[str, int]:
        """Return the counts of the whole fleet."""
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self.client.hgetall(layout.FIGURES)
        except self._errors as exc:
            raise self._translated(exc) from exc
        return {_key(name): int(n) for name, n in found.items()}

    async def scan(self) -> AsyncIterator[str]:
        """List whose answers are kept; a scan."""
        try:
            async for name in self.client.scan_iter(match=layout.ANSWERS, count=1000):
                if (key := layout.key_of(_key(name))) is not None:
                    yield key
        except self._errors as exc:
            raise self._translated(exc) from exc

    async def clear_figures(self) -> None:
        """Begin to count anew."""
        await self._send([("UNLINK", layout.FIGURES)])

    async def close(self) -> None:
        """Send what is left, close the connections that we keep."""
        if self._flight:
            await asyncio.wait([self._flight])
        if self._listener:
            await self._listener.close()
        await self._redis.close()


class _Radio:
    """Be what a listener needs of a store; wake-ups of the cache are plain pub/sub, in a cluster too.

    Their channels are a process's, in no slot of a key: PUBLISH reaches all nodes, but is sent only where
    somebody waits.
    """

    sharded = False

    def __init__(self, client: Any, *, sharded: bool, is_async: bool) -> None:
        self._client, self._is_cluster, self._is_async = client, sharded, is_async

    def home(self, _channel: str) -> None:
        """Return no node: any will do."""

    def find_nodes(self) -> Any:
        """Do nothing: a lost node is replaced by asking the client for one."""
        return asyncio.sleep(0) if self._is_async else None

    def pubsub(self, _node: Any) -> Any:
        """Make a subscription connection."""
        from limiter.shells import connect

        if not self._is_cluster:
            return self._client.pubsub()
        node = self._client.get_default_node()
        return (connect.async_node(node) if self._is_async
                else connect.sync_node(self._client, node)).pubsub()  # fmt: skip
