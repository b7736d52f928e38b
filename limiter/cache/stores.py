"""Where answers are kept: Redis, sync and async side by side, or this process. The only I/O here.

A look is one packet of two plain commands on a connection that is kept; of a value of any size no
more than an answer may have is read. The rest are small scripts (`lua/cache`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol

from limiter.cache import layout
from limiter.cache.shelf import Reply
from limiter.shells.scripted import AsyncCommands, Command, Commands, Radio, checked

Wake = Callable[[str], None]


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
        StoreError: the server says anything else than that it is no string.
    """
    stored, left_ms = replies
    for reply in replies:
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            checked(reply)
    if isinstance(stored, Exception) or len(stored) > most:
        return b"?", -1
    return stored, left_ms


def _keys(key: str) -> list[str]:
    return [layout.answer(key), layout.flight(key)]


def _figures(found: list[Any]) -> dict[str, int]:
    return {_text(name): int(n) for name, n in zip(found[::2], found[1::2], strict=True)}


def _text(data: Any) -> str:
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
        self._commands = Commands(client, owned=owned, revive=revive)
        self.client = client
        self._listener: Any = None

    def look(self, key: str, most: int) -> tuple[bytes, int]:
        """Return an answer and the ms that it lives; one packet."""
        return _looked(self._commands.send(_look_commands(key, most)), most)

    def claim(self, key: str, *asked: Any) -> Reply:
        """Run claim.lua."""
        reply: Reply = self._commands.run("cache/claim", _keys(key), *asked)
        return reply

    def fill(self, key: str, answer: bytes, lifetime_ms: int) -> None:
        """Run fill.lua."""
        self._commands.run("cache/fill", _keys(key), answer, lifetime_ms, key)

    def leave(self, key: str, id_: str, how: str, lease_ms: int) -> None:
        """Run leave.lua."""
        self._commands.run("cache/leave", _keys(key)[1:], id_, how, lease_ms, key)

    def drop(self, key: str) -> None:
        """Delete an answer."""
        self._commands.send([("UNLINK", layout.answer(key))])

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the figures; one packet."""
        self._commands.send([("HINCRBY", layout.FIGURES, name, n) for name, n in counts.items()])

    def listen(self, channel: str, wake: Wake) -> None:
        """Hear what comes on a channel, in a thread."""
        from limiter.shells.listen import Listener

        if self._listener is None:
            radio: Any = Radio(self.client, is_cluster=self._commands.is_cluster, is_async=False)
            self._listener = Listener(radio, lambda _, data: wake(_text(data)), lambda _: wake(""))
        self._listener.subscribe(channel)

    def figures(self) -> dict[str, int]:
        """Return the counts of the whole fleet."""
        return _figures(self._commands.one("HGETALL", layout.FIGURES))

    def scan(self) -> Iterator[str]:
        """List whose answers are kept; a scan."""
        for name in self._commands.scan(layout.ANSWERS):
            if (key := layout.key_of(name)) is not None:
                yield key

    def sizes(self, keys: list[str]) -> list[int]:
        """Return the bytes of answers; 0 for those that are gone; one packet."""
        found = self._commands.send([("STRLEN", layout.answer(key)) for key in keys])
        return [n if isinstance(n, int) else 0 for n in found]

    def clear_figures(self) -> None:
        """Begin to count anew."""
        self._commands.send([("UNLINK", layout.FIGURES)])

    def close(self) -> None:
        """Close the connections that we keep."""
        if self._listener:
            self._listener.close()
        self._commands.close()


class AsyncRedisStore:
    """Keep answers in Redis, within one event loop; see `RedisStore`."""

    def __init__(
        self, client: Any, timeout_s: float, *,
        owned: bool = True, revive: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        self._commands = AsyncCommands(client, timeout_s, owned=owned, revive=revive)
        self.client = client
        self._listener: Any = None

    async def look(self, key: str, most: int) -> tuple[bytes, int]:
        """Return an answer and the ms that it lives; one packet."""
        return _looked(await self._commands.send(_look_commands(key, most)), most)

    async def claim(self, key: str, *asked: Any) -> Reply:
        """Run claim.lua."""
        reply: Reply = await self._commands.run("cache/claim", _keys(key), *asked)
        return reply

    async def fill(self, key: str, answer: bytes, lifetime_ms: int) -> None:
        """Run fill.lua."""
        await self._commands.run("cache/fill", _keys(key), answer, lifetime_ms, key)

    async def leave(self, key: str, id_: str, how: str, lease_ms: int) -> None:
        """Run leave.lua."""
        await self._commands.run("cache/leave", _keys(key)[1:], id_, how, lease_ms, key)

    async def drop(self, key: str) -> None:
        """Delete an answer."""
        await self._commands.send([("UNLINK", layout.answer(key))])

    async def add(self, counts: Mapping[str, int]) -> None:
        """Add to the figures; one packet."""
        commands = [("HINCRBY", layout.FIGURES, name, n) for name, n in counts.items()]
        await self._commands.send(commands)

    def listen(self, channel: str, wake: Wake) -> None:
        """Hear what comes on a channel, in a task."""
        from limiter.shells.listen import AsyncListener

        if self._listener is None:
            radio: Any = Radio(self.client, is_cluster=self._commands.is_cluster, is_async=True)
            self._listener = AsyncListener(
                radio, lambda _, data: wake(_text(data)), lambda _: wake("")
            )
        self._listener.subscribe(channel)

    async def figures(self) -> dict[str, int]:
        """Return the counts of the whole fleet."""
        return _figures(await self._commands.one("HGETALL", layout.FIGURES))

    async def scan(self) -> AsyncIterator[str]:
        """List whose answers are kept; a scan."""
        async for name in self._commands.scan(layout.ANSWERS):
            if (key := layout.key_of(name)) is not None:
                yield key

    async def sizes(self, keys: list[str]) -> list[int]:
        """Return the bytes of answers; 0 for those that are gone; one packet."""
        found = await self._commands.send([("STRLEN", layout.answer(key)) for key in keys])
        return [n if isinstance(n, int) else 0 for n in found]

    async def clear_figures(self) -> None:
        """Begin to count anew."""
        await self._commands.send([("UNLINK", layout.FIGURES)])

    async def close(self) -> None:
        """Send what is left, close the connections that we keep."""
        if self._listener:
            await self._listener.close()
        await self._commands.close()
