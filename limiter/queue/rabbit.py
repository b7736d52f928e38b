"""A RabbitMQ that carries the calls of a queue: putting them in, and taking them out.

Workers get from the highest line first, as many calls as they want and no more: a consumer's prefetch would
count those under way, and what must be bounded are those that wait. Whether a delivery is still to be made is
asked in Redis (`lua/queue/claim.lua`), where jobs and results are: the broker alone does not know.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from limiter.bulk.calls import Ended
from limiter.errors import StoreError
from limiter.queue import ops
from limiter.queue.amqp import AGAIN, TIMEOUT_S, Link, quietly, translated
from limiter.queue.api import AsyncQueue
from limiter.queue.layout import Taken, read
from limiter.queue.ops import Carry, Want
from limiter.queue.sources import Changed, Source

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

log = logging.getLogger("limiter")

# Takes in a row that may find nothing but calls of jobs that were cancelled.
_ROUNDS = 100


# --- putting in -------------------------------------------------------------------------------


class Carrier:
    """Publish the calls of one submission; a block.

    Args:
        url: of the broker.
        name: of the queue.
        level, tenant: of the calls.
    """

    def __init__(self, url: str, name: str, level: int, tenant: str) -> None:
        self._link = Link(url, name)
        self._level, self._tenant = level, tenant

    async def __call__(self, wanted: Carry) -> tuple[int, int]:
        """Publish calls as far as there is room; return how many, and how many wait then."""
        lines = {level: await self._link.line(level) for level in wanted.levels}
        waiting = sum(line.declaration_result.message_count or 0 for line in lines.values())
        room = max(0, wanted.most - waiting) if wanted.most else len(wanted.calls)
        calls = wanted.calls[:room]
        await self._link.publish(lines[self._level].name, calls, self._tenant)
        return len(calls), waiting + len(calls)

    async def __aenter__(self) -> Self:
        await self._link.channel()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.drop()


class SyncCarrier:
    """Publish from threads, whether or not a loop runs in the caller's; see `Carrier`."""

    def __init__(self, url: str, name: str, level: int, tenant: str) -> None:
        self._carrier = Carrier(url, name, level, tenant)
        self._thread = ThreadPoolExecutor(1, "limiter-broker")
        self._runner = asyncio.Runner()

    def _run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self._thread.submit(self._runner.run, what).result()

    def __call__(self, wanted: Carry) -> Any:
        """Publish calls; see `Carrier`."""
        return self._run(self._carrier(wanted))

    def __enter__(self) -> Self:
        try:
            self._run(self._carrier.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        try:
            self._run(self._carrier.__aexit__())
        finally:
            self._end()

    def _end(self) -> None:
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()


# --- taking out -------------------------------------------------------------------------------


class RabbitSource:
    """Take calls from a RabbitMQ; those that were failed and tried again are in Redis, and come first.

    Args:
        url: of the broker.
        queue: which; it stays open.
        beside: takes what is in Redis.
        lease: seconds of silence after which the broker gives its calls to others.
        tries: a call whose worker was lost so often is dead.
    """

    def __init__(
        self, url: str, queue: AsyncQueue, beside: Source, lease: float, tries: int
    ) -> None:
        self._link = Link(url, queue.name, lease)
        self._queue, self._beside, self._tries = queue, beside, tries
        # What the broker believes us to have, by the calls' ids.
        self._held: dict[str, AbstractIncomingMessage] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.drop()

    async def take(self, want: Want) -> tuple[float | None, list[Taken]]:
        """Take calls; a round trip for each, one for each line, and two of Redis."""
        levels, (due_s, taken) = await asyncio.gather(
            self._queue.do(ops.carried_gen()), self._beside.take(want)
        )
        try:
            for _ in range(_ROUNDS):
                found = await self._get(levels, _less(want, taken))
                more = await self._claim(found)
                taken += more
                if more or not found:
                    return due_s, taken
        except StoreError:
            if not taken:
                raise
        return 0.0, taken

    async def _get(self, levels: list[int], want: Want) -> list[Taken]:
        """Get what the broker has, the highest level first."""
        found: list[Taken] = []
        try:
            for level in levels:
                if want.above is not None and level <= want.above:
                    break
                room = min(want.most - len(found), want.levels.get(level, want.each))
                found += await self._get_from(level, room) if room > 0 else []
        except BaseException:
            # A delivery may be on its way that nobody would acknowledge: all of it is to come again.
            await self._link.drop()
            self._forget(found)
            raise
        return found

    async def _get_from(self, level: int, room: int) -> list[Taken]:
        line, found = await self._link.known_line(level), list[Taken]()
        while len(found) < room:
            with translated():
                message = await line.get(fail=False, timeout=TIMEOUT_S)
            if message is None:
                break
            taken = await self._read(message, level)
            if taken is not None:
                found.append(taken)
        return found

    async def _read(self, message: AbstractIncomingMessage, level: int) -> Taken | None:
        """Read a delivery; None: it is no call, or one that we make already."""
        try:
            call = read(message.body)
        except ValueError:
            log.warning("What is no call was put into the queue %r: dropped.", self._queue.name)
            await quietly(message.ack)
            return None
        before, self._held[call.id] = self._held.get(call.id), message
        if before is not None:
            # The connection was lost and the broker delivered it again, or it was put in twice.
            await quietly(before.ack)
            return None
        return Taken(call, level, str(message.headers.get("tenant", "")), 0)

    async def _claim(self, found: list[Taken]) -> list[Taken]:
        """Return those that are to be made; let go of the others."""
        if not found:
            return []
        try:
            losses = await self._queue.do(ops.claim_gen([each.call.id for each in found]))
            return [
                each._replace(lost=lost)
                for each, lost in zip(found, losses, strict=True)
                if await self._is_made(each, lost)
            ]
        except BaseException:
            for each in found:
                await self._reject(each)
            raise

    async def _is_made(self, taken: Taken, lost: int) -> bool:
        if lost >= self._tries:
            await self._queue.do(ops.lost_gen(taken, lost))
        elif lost >= 0:
            return True
        await self._let_go(taken)
        return False

    async def finish(self, taken: Taken, ended: Ended) -> bool:
        """Store a call's result, then acknowledge it."""
        stored = await self._beside.finish(taken, ended)
        await self._let_go(taken)
        return stored

    async def give_back(self, taken: Sequence[Taken]) -> None:
        """Put calls back where they came from: the broker knows their places."""
        carried = [each for each in taken if each.call.id in self._held]
        try:
            if others := [each for each in taken if each not in carried]:
                await self._beside.give_back(others)
            if carried:
                await self._queue.do(ops.release_gen([each.call.id for each in carried]))
        finally:
            for each in carried:
                await self._reject(each)

    async def put_off(self, taken: Taken, ended: Ended, seconds: float) -> None:
        """Put a call into a line that nobody gets from, whence it comes back."""
        if taken.call.id not in self._held:
            await self._beside.put_off(taken, ended, seconds)
            return
        try:
            line = await self._link.later(taken.level, seconds)
            await self._link.publish(line, [taken.call.written()], taken.tenant, AGAIN)
            await self._queue.do(ops.release_gen([taken.call.id]))
        except BaseException:
            await self._reject(taken)
            raise
        await self._let_go(taken)

    async def renew(self, held: Iterable[Taken]) -> None:
        """Say that the calls from Redis go on; the broker hears from the connection."""
        await self._beside.renew([each for each in held if each.call.id not in self._held])

    async def listen(self, changed: Changed) -> Any:
        """Hear of calls that are put in, through Redis."""
        return await self._beside.listen(changed)

    async def _let_go(self, taken: Taken) -> None:
        message = self._held.pop(taken.call.id, None)
        if message is not None:
            await quietly(message.ack)

    async def _reject(self, taken: Taken) -> None:
        message = self._held.pop(taken.call.id, None)
        if message is not None:
            await quietly(lambda: message.reject(requeue=True))

    def _forget(self, found: list[Taken]) -> None:
        for each in found:
            self._held.pop(each.call.id, None)


def _less(want: Want, taken: list[Taken]) -> Want:
    """Return what is still wanted."""
    counts = Counter(each.level for each in taken)
    left = {level: want.levels.get(level, want.each) - count for level, count in counts.items()}
    return Want(want.most - len(taken), want.each, want.above, {**want.levels, **left})
