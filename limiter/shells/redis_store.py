"""Redis as the store: sync and async side by side, a line per verb.

The hot path writes prepared bytes to a connection that it keeps; a cluster client, which must
choose the node itself, gets the same command as arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from redis import exceptions

from limiter import scripts
from limiter.core import layout
from limiter.core.layout import Keys
from limiter.core.request import Batch
from limiter.errors import ScriptError, StoreError, StoreRefused, StoreTimeout
from limiter.shells import connect
from limiter.shells.wire import Wire

AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
    exceptions.ClusterError,  # down, or a slot stayed between two nodes for long
    exceptions.RedisClusterException,  # no RedisError: nobody serves the slot, no node answers
    OSError,
    TimeoutError,
)
FOREIGN = (exceptions.RedisError, *AWAY)  # whatever redis-py raises for reasons outside of us
_REFUSED = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)

Found = tuple[str, str, str]  # version, definition, origin


def translated(error: BaseException) -> StoreError:
    """Return our error for one of redis-py's, with what the operator can do."""
    if isinstance(error, _REFUSED) or "NOPERM" in str(error) or "NOAUTH" in str(error):
        return StoreRefused(
            f"Redis refuses us: {error}. Check the user, password and ACL in the URL."
        )
    if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
        return StoreTimeout(f"Redis did not answer in time: {error}. Check its load and network.")
    if isinstance(error, AWAY):
        return StoreError(f"Redis is away: {error}. Check that it runs and can be reached.")
    return ScriptError(f"Redis refused a script: {error}. If its memory is full, raise maxmemory.")


def _is_unknown_script(error: exceptions.ResponseError) -> bool:
    return isinstance(error, exceptions.NoScriptError) or str(error).startswith("NOSCRIPT")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _found(values: list[Any]) -> Found | None:
    version, definition, origin = values
    return None if version is None else (_text(version), _text(definition), _text(origin))


def _sentinels(client: Any) -> list[Any]:
    """Return the clients that ask the sentinels, which nobody else closes."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return manager.sentinels if manager else []


def _home(cluster: Any, channel: str) -> Any:
    try:
        return cluster.get_node_from_key(channel)
    except AWAY:
        return None


def _known(node: Any) -> Any:
    if node is None:
        raise exceptions.ConnectionError("No node is known to serve the channel.")
    return node


_FIELDS = ("version", "definition", "origin")


class RedisStore:
    """Run batches on a sync redis-py client; safe to share between threads."""

    def __init__(
        self, client: Any, *, owned: bool = True, revive: Callable[[], object] | None = None
    ) -> None:
        self.client = client
        self._owned = owned  # we made the client, so we close it
        self._revive = revive  # starts a server that we are in charge of
        self.sharded = type(client).__name__ == "RedisCluster"
        self._lanes: deque[Any] = deque()

    def run(self, wire: Wire, batch: Batch) -> bytes | str:
        """Run one batch; one round trip.

        Raises:
            StoreError: no answer; the batch may or may not have run.
        """
        try:
            try:
                return self._evalsha(wire, batch)  # type: ignore[no-any-return]  # redis-py's
            except exceptions.ResponseError as exc:
                if not _is_unknown_script(exc):
                    raise
            keys = len(wire.keys.all())
            answer: bytes = self.client.eval(wire.script.source, keys, *wire.arguments(batch))
        except FOREIGN as exc:
            if self._revive:
                self._revive()
            raise translated(exc) from exc
        return answer

    def _evalsha(self, wire: Wire, batch: Batch) -> Any:
        if self.sharded:
            arguments = wire.arguments(batch)
            return self.client.evalsha(wire.script.sha, len(wire.keys.all()), *arguments)
        with self.lane() as connection:
            connection.send_packed_command((wire.packed(batch),), check_health=False)
            return connection.read_response()

    @contextlib.contextmanager
    def lane(self) -> Iterator[Any]:
        """Lend a connection of our own; a broken one is not lent again."""
        pool = self.client.connection_pool
        try:
            connection = self._lanes.pop()
        except IndexError:
            connection = pool.get_connection()
        try:
            yield connection
        except exceptions.ResponseError:
            self._lanes.append(connection)
            raise
        except BaseException:
            connection.disconnect()
            pool.release(connection)
            raise
        self._lanes.append(connection)

    def read(self, keys: Keys) -> Found | None:
        """Return a quota's definition, or None; one round trip."""
        try:
            return _found(self.client.hmget(keys.quota, _FIELDS))
        except FOREIGN as exc:
            raise translated(exc) from exc

    def declare(self, keys: Keys, seen: str, text: str, origin: str) -> tuple[bool, str]:
        """Replace a definition if it is still the one seen; one round trip."""
        source = scripts.load("declare").source
        try:
            answer = self.client.eval(source, 3, *keys.declaring(), 0, seen, text, origin)
        except FOREIGN as exc:
            raise translated(exc) from exc
        return bool(answer[0]), _text(answer[1])

    def names(self) -> list[str]:
        """List the declared quotas; a scan, for people."""
        try:
            found = self.client.scan_iter(match=layout.QUOTA_KEYS, count=1000)
            return sorted(layout.quota_of(_text(key)) for key in found)
        except FOREIGN as exc:
            raise translated(exc) from exc

    def home(self, channel: str) -> Any:
        """Return the node of the cluster that serves a channel; None: unknown, or no cluster."""
        return _home(self.client, channel) if self.sharded else None

    def find_nodes(self) -> None:
        """Ask the cluster which node serves what."""
        if self.sharded:
            self.client.nodes_manager.initialize()

    def pubsub(self, node: Any) -> Any:
        """Make a subscription connection to a node; its first command connects it."""
        if not self.sharded:
            return self.client.pubsub()
        return connect.sync_node(self.client, _known(node)).pubsub()

    def close(self) -> None:
        """Close the connections that we keep."""
        while self._lanes:
            connection = self._lanes.pop()
            connection.disconnect()
            self.client.connection_pool.release(connection)
        if self._owned:
            # A client that was given its pool leaves it open.
            self.client.close()
            if not self.sharded:
                self.client.connection_pool.disconnect()
            for sentinel in _sentinels(self.client):
                sentinel.close()


class AsyncRedisStore:
    """Run batches on an asyncio redis-py client, within one event loop."""

    def __init__(
        self, client: Any, timeout_s: float, *,
        owned: bool = True, revive: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        self.client = client
        self._owned = owned
        self._revive = revive
        self.timeout_s = timeout_s
        self.sharded = type(client).__name__ == "RedisCluster"
        self._lanes: deque[Any] = deque()

    async def run(self, wire: Wire, batch: Batch) -> bytes | str:
        """Run one batch; one round trip.

        Raises:
            StoreError: no answer; the batch may or may not have run.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                try:
                    return await self._evalsha(wire, batch)  # type: ignore[no-any-return]
                except exceptions.ResponseError as exc:
                    if not _is_unknown_script(exc):
                        raise
                keys = len(wire.keys.all())
                answer: bytes = await self.client.eval(
                    wire.script.source, keys, *wire.arguments(batch)
                )
        except FOREIGN as exc:
            if self._revive:
                await asyncio.to_thread(self._revive)
            raise translated(exc) from exc
        return answer

    async def _evalsha(self, wire: Wire, batch: Batch) -> Any:
        if self.sharded:
            arguments = wire.arguments(batch)
            return await self.client.evalsha(wire.script.sha, len(wire.keys.all()), *arguments)
        async with self.lane() as connection:
            await connection.send_packed_command((wire.packed(batch),), check_health=False)
            return await connection.read_response(timeout=math.inf)

    @contextlib.asynccontextmanager
    async def lane(self) -> AsyncIterator[Any]:
        """Lend a connection of our own; a broken one is not lent again."""
        pool = self.client.connection_pool
        connection = self._lanes.pop() if self._lanes else await pool.get_connection()
        try:
            yield connection
        except exceptions.ResponseError:
            self._lanes.append(connection)
            raise
        except BaseException:
            await connection.disconnect(nowait=True)
            await pool.release(connection)
            raise
        self._lanes.append(connection)

    async def read(self, keys: Keys) -> Found | None:
        """Return a quota's definition, or None; one round trip."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return _found(await self.client.hmget(keys.quota, _FIELDS))
        except FOREIGN as exc:
            raise translated(exc) from exc

    async def declare(self, keys: Keys, seen: str, text: str, origin: str) -> tuple[bool, str]:
        """Replace a definition if it is still the one seen; one round trip."""
        source = scripts.load("declare").source
        arguments = (*keys.declaring(), 0, seen, text, origin)
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await self.client.eval(source, 3, *arguments)
        except FOREIGN as exc:
            raise translated(exc) from exc
        return bool(answer[0]), _text(answer[1])

    async def names(self) -> list[str]:
        """List the declared quotas; a scan, for people."""
        try:
            found = self.client.scan_iter(match=layout.QUOTA_KEYS, count=1000)
            return sorted([layout.quota_of(_text(key)) async for key in found])
        except FOREIGN as exc:
            raise translated(exc) from exc

    def home(self, channel: str) -> Any:
        """Return the node of the cluster that serves a channel; None: unknown, or no cluster."""
        return _home(self.client, channel) if self.sharded else None

    async def find_nodes(self) -> None:
        """Ask the cluster which node serves what."""
        if self.sharded:
            await self.client.nodes_manager.initialize()

    def pubsub(self, node: Any) -> Any:
        """Make a subscription connection to a node; it is not connected yet."""
        if not self.sharded:
            return self.client.pubsub()
        return connect.async_node(_known(node)).pubsub()

    async def close(self) -> None:
        """Close the connections that we keep."""
        while self._lanes:
            connection = self._lanes.pop()
            await connection.disconnect(nowait=True)
            await self.client.connection_pool.release(connection)
        if self._owned:
            await self.client.aclose()
            if not self.sharded:
                await self.client.connection_pool.disconnect()
            for sentinel in _sentinels(self.client):
                await sentinel.aclose()
