"""Scripts and plain commands on a Redis that is not the limiter's own store: caches and queues.

Sync and async side by side, a line per verb. What goes together travels in one packet; replies are
bytes, whatever the client decodes. Raises this package's errors only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from limiter import scripts
from limiter.errors import LimiterError, StoreError
from limiter.shells import redis_store
from limiter.shells.redis_store import FOREIGN, translated

Command = tuple[Any, ...]
Revive = Callable[[], object] | None

_NEVER_DECODE = {"NEVER_DECODE": True}  # a client of the caller's may have decode_responses=True
_PACKET_MAX = 64  # jobs: a reply may be a megabyte, and the first ones should not wait for all


def _called(
    name: str, keys: Sequence[str], arguments: Sequence[Any]
) -> tuple[scripts.Script, Command]:
    """Return a script, and its keys and arguments behind their number."""
    return scripts.load(name), (len(keys), *keys, *arguments)


def _is_unknown(reply: Any) -> bool:
    if not isinstance(reply, Exception):
        return False
    return str(reply).startswith("NOSCRIPT") or type(reply).__name__ == "NoScriptError"


def checked(reply: Any) -> Any:
    """Return a reply; a hash as names and values in turn, as RESP2 has it, whatever the protocol.

    Raises:
        StoreError: it is an error of the server's.
    """
    if isinstance(reply, Exception):
        raise translated(reply) from reply
    if isinstance(reply, Mapping):
        return [part for pair in reply.items() for part in pair]
    return reply


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


class Commands:
    """Run them on a sync client; safe to share between threads.

    Args:
        client: of redis-py.
        owned: it is closed with this.
        revive: starts a server that we are in charge of.
    """

    def __init__(self, client: Any, *, owned: bool = True, revive: Revive = None) -> None:
        self._redis = redis_store.RedisStore(client, owned=owned, revive=revive)
        self._revive = revive
        self.client = client
        self.is_cluster = self._redis.sharded

    def run(self, name: str, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script; one round trip."""
        script, rest = _called(name, keys, arguments)
        (reply,) = self.send([("EVALSHA", script.sha, *rest)])
        if _is_unknown(reply):
            (reply,) = self.send([("EVAL", script.source, *rest)])
        return checked(reply)

    def send(self, commands: list[Command]) -> list[Any]:
        """Send commands in one packet; return the replies, an error of the server's among them."""

        def told(read: Callable[..., Any], *command: Any, **options: Any) -> Any:
            try:
                return read(*command, **options)
            except ResponseError as exc:
                return exc

        try:
            if self.is_cluster:
                execute = self.client.execute_command
                return [told(execute, *each, **_NEVER_DECODE) for each in commands]
            with self._redis.lane() as connection:
                packed = b"".join(connection.pack_commands(commands))
                connection.send_packed_command((packed,), check_health=False)
                return [told(connection.read_response, disable_decoding=True) for _ in commands]
        except FOREIGN as exc:
            if self._revive:
                self._revive()
            raise translated(exc) from exc

    def one(self, *command: Any) -> Any:
        """Send one command; return its reply."""
        (reply,) = self.send([command])
        return checked(reply)

    def scan(self, pattern: str) -> Iterator[str]:
        """List the keys that a pattern covers; a scan, for people."""
        try:
            for name in self.client.scan_iter(match=pattern, count=1000):
                yield _text(name)
        except FOREIGN as exc:
            raise translated(exc) from exc

    def close(self) -> None:
        """Close the connections that we keep."""
        self._redis.close()


class AsyncCommands:
    """Run them on an asyncio client, within one event loop; see `Commands`.

    What is ready in one turn of the loop leaves in one packet. A caller who is cancelled tears nothing
    apart: the packet is a task's of our own.
    """

    def __init__(
        self, client: Any, timeout_s: float, *, owned: bool = True, revive: Revive = None
    ) -> None:
        self._redis = redis_store.AsyncRedisStore(client, timeout_s, owned=owned, revive=revive)
        self._revive, self._timeout_s = revive, timeout_s
        self.client = client
        self.is_cluster = self._redis.sharded
        self._outbox: list[tuple[list[Command], asyncio.Future[list[Any]]]] = []
        self._flight: asyncio.Task[None] | None = None

    async def run(self, name: str, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script; one round trip."""
        script, rest = _called(name, keys, arguments)
        (reply,) = await self.send([("EVALSHA", script.sha, *rest)])
        if _is_unknown(reply):
            (reply,) = await self.send([("EVAL", script.source, *rest)])
        return checked(reply)

    async def one(self, *command: Any) -> Any:
        """Send one command; return its reply."""
        (reply,) = await self.send([command])
        return checked(reply)

    async def send(self, commands: list[Command]) -> list[Any]:
        """Send commands in one packet; return the replies, an error of the server's among them."""
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
            except FOREIGN as exc:
                _fail(jobs, translated(exc))
                await self._revived()
            except BaseException as exc:
                _fail(
                    [*jobs, *self._outbox], StoreError(f"The connection was closed: {exc!r:.60}.")
                )
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
        async def told(reading: Any) -> Any:
            try:
                return await reading
            except ResponseError as exc:
                return exc

        if self.is_cluster:
            execute = self.client.execute_command
            return [await told(execute(*each, **_NEVER_DECODE)) for each in commands]
        async with self._redis.lane() as connection:
            packed = b"".join(connection.pack_commands(commands))
            await connection.send_packed_command((packed,), check_health=False)
            read = connection.read_response
            never = float("inf")  # the timeout is around it
            return [await told(read(disable_decoding=True, timeout=never)) for _ in commands]

    async def scan(self, pattern: str) -> AsyncIterator[str]:
        """List the keys that a pattern covers; a scan, for people."""
        try:
            async for name in self.client.scan_iter(match=pattern, count=1000):
                yield _text(name)
        except FOREIGN as exc:
            raise translated(exc) from exc

    async def close(self) -> None:
        """Send what is left, close the connections that we keep."""
        if self._flight:
            await asyncio.wait([self._flight])
        await self._redis.close()


class Radio:
    """Be what a listener needs of a store, for channels that belong to no key: plain pub/sub everywhere.

    PUBLISH reaches all nodes of a cluster; it is sent only where somebody waits.
    """

    sharded = False

    def __init__(self, client: Any, *, is_cluster: bool, is_async: bool) -> None:
        self._client, self._is_cluster, self._is_async = client, is_cluster, is_async

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


def _fail(jobs: list[tuple[list[Command], asyncio.Future[list[Any]]]], error: Exception) -> None:
    for _, answered in jobs:
        if not answered.done():
            answered.set_exception(error)
