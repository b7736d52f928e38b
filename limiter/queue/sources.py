"""Where a worker's calls come from, and the one on Redis.

Whatever the broker, jobs and results are in the limiter's Redis (`lua/queue`); a source only carries calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from limiter.bulk.calls import Ended
from limiter.queue import ops
from limiter.queue.api import AsyncQueue
from limiter.queue.layout import Taken
from limiter.queue.ops import Want

Changed = Callable[[], None]


class Source(Protocol):
    """Say what a worker needs of a broker. Every verb may be repeated; `StoreError`: it is away."""

    async def take(self, want: Want) -> tuple[float | None, list[Taken]]:
        """Take calls, without waiting; also say in how many seconds more may be there by themselves.

        Calls of a higher level first, within a level of each tenant in turn where the broker can.
        """

    async def finish(self, taken: Taken, ended: Ended) -> bool:
        """Store a call's result, then let it go; say whether it was the first one."""

    async def give_back(self, taken: Sequence[Taken]) -> None:
        """Put calls back where they came from, at the head: they were not made."""

    async def put_off(self, taken: Taken, _ended: Ended, seconds: float) -> None:
        """Put a call back for later that ended as it did by the fault of the moment."""

    async def renew(self, held: Iterable[Taken]) -> None:
        """Say that these calls are still being made."""

    async def listen(self, changed: Changed) -> Any:
        """Call `changed` when there may be something to take; return what is to be awaited `close()`d."""


@asynccontextmanager
async def opened(queue: AsyncQueue, lease: float, tries: int) -> AsyncIterator[Source]:
    """Open what carries a queue's calls to a worker: its broker, or its Redis; see `RedisSource`."""
    beside = RedisSource(queue, lease, tries)
    if queue.broker is None:
        yield beside
        return
    from limiter.queue.rabbit import RabbitSource

    async with RabbitSource(queue.broker, queue, beside, lease, tries) as source:
        yield source


class RedisSource:
    """Take calls from a queue in Redis.

    Args:
        queue: which; it stays open.
        lease: seconds of silence after which its calls go to others.
        tries: a call whose worker was lost so often is dead.
    """

    def __init__(self, queue: AsyncQueue, lease: float, tries: int) -> None:
        self._queue, self._lease_ms, self._tries = queue, int(lease * 1000), tries

    async def take(self, want: Want) -> tuple[float | None, list[Taken]]:
        """Take calls; one round trip."""
        return await self._queue.do(ops.take_gen(want, self._lease_ms, self._tries))

    async def finish(self, taken: Taken, ended: Ended) -> bool:
        """Store a call's result and let it go, in one step; one round trip."""
        return await self._queue.do(ops.finish_gen(taken, ended.line, ended.tokens, ok=ended.ok))

    async def give_back(self, taken: Sequence[Taken]) -> None:
        """Put calls back at the heads of their lines."""
        await self._queue.do(ops.back_gen([each.call.id for each in taken], "back"))

    async def put_off(self, taken: Taken, _ended: Ended, seconds: float) -> None:
        """Put a call back for later."""
        await self._queue.do(ops.back_gen([taken.call.id], "later", int(seconds * 1000)))

    async def renew(self, held: Iterable[Taken]) -> None:
        """Begin the leases of calls anew."""
        ids = [taken.call.id for taken in held]
        await self._queue.do(ops.back_gen(ids, "alive", self._lease_ms))

    async def listen(self, changed: Changed) -> Any:
        """Hear of calls that are put in."""
        from limiter.shells.listen import AsyncListener

        radio = await self._queue.radio()
        listener = AsyncListener(radio, lambda *_: changed(), lambda _: changed())
        listener.subscribe(f"{self._queue.root}wake")
        return listener
