"""A connection to RabbitMQ, and the lines of a queue there. aio-pika is imported here alone, and late.

There is a line for each level, a durable classic queue, and for each time that calls are put off one more,
which they leave for the first when it is over. What was delivered and not acknowledged when a connection
ends comes back by itself. Raises this package's errors only.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from limiter.errors import ConfigError, StoreError, StoreRefused, StoreTimeout

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection

TIMEOUT_S = 10.0
# A call that was put off goes before those that never were taken, as one that is given back does.
NEW, AGAIN = 0, 1
# Calls wait on disk, where they are for safety anyway: a long queue must not be the broker's memory. From
# RabbitMQ 3.12 on all classic queues do so.
_LINE: Any = {"x-queue-type": "classic", "x-max-priority": AGAIN, "x-queue-mode": "lazy"}
_LATER_MAX_S = 1024


class Link:
    """Hold a connection to RabbitMQ and one channel, opened anew where they are lost.

    Args:
        url: of the broker.
        name: of the queue.
        silence_s: after which the broker takes us for lost; None: what it proposes.
    """

    def __init__(self, url: str, name: str, silence_s: float | None = None) -> None:
        _aio_pika()
        self._url, self._name, self._silence_s = url, name, silence_s
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._declared: dict[str, Any] = {}

    async def channel(self) -> AbstractChannel:
        """Return the channel; that it is another one says that all that was delivered comes again."""
        async with self._lock:
            if self._channel is not None and self._is_open():
                return self._channel
            await self.drop()
            with translated():
                self._connection = await _aio_pika().connect(self._address(), timeout=TIMEOUT_S)
                self._channel = await self._connection.channel()
            return self._channel

    def _is_open(self) -> bool:
        both = (self._connection, self._channel)
        return all(each is not None and not each.is_closed for each in both)

    def _address(self) -> Any:
        from yarl import URL

        try:
            url = URL(self._url)
        except ValueError as exc:
            raise ConfigError(f"The broker's URL cannot be read: {exc}.") from exc
        if self._silence_s is None or "heartbeat" in url.query:
            return url
        return url.update_query(heartbeat=str(max(1, math.ceil(self._silence_s))))

    async def line(self, level: int) -> Any:
        """Declare the line of a level; return it, with how many calls wait there."""
        channel = await self.channel()
        with translated():
            return await channel.declare_queue(
                self._named(level), durable=True, arguments=_LINE, timeout=TIMEOUT_S
            )

    async def known_line(self, level: int) -> Any:
        """Return the line of a level; it is declared once for each channel."""
        await self.channel()
        name = self._named(level)
        if name not in self._declared:
            self._declared[name] = await self.line(level)
        return self._declared[name]

    async def later(self, level: int, seconds: float) -> str:
        """Declare the line in which calls of a level wait for so long or a bit more; return its name.

        All of a line wait for the same time: RabbitMQ looks at the first one only.
        """
        wait_s = min(_LATER_MAX_S, 2 ** max(0, math.ceil(math.log2(max(seconds, 1)))))
        name = f"{self._named(level)}.later.{wait_s}s"
        await self.known_line(level)
        channel = await self.channel()
        if name not in self._declared:
            back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self._named(level)}
            arguments: Any = {"x-queue-type": "classic", "x-message-ttl": wait_s * 1000, **back}
            with translated():
                self._declared[name] = await channel.declare_queue(
                    name, durable=True, arguments=arguments, timeout=TIMEOUT_S
                )
        return name

    async def publish(
        self, line: str, calls: Sequence[bytes], tenant: str, priority: int = NEW
    ) -> None:
        """Put calls into a line; return when the broker has them for good."""
        from aio_pika import DeliveryMode, Message

        exchange = (await self.channel()).default_exchange
        messages = [
            Message(call, headers={"tenant": tenant}, priority=priority,
                    delivery_mode=DeliveryMode.PERSISTENT)
            for call in calls
        ]  # fmt: skip
        sending = [exchange.publish(each, line, timeout=TIMEOUT_S) for each in messages]
        with translated():
            done = await asyncio.gather(*sending, return_exceptions=True)
            for error in done:
                if isinstance(error, BaseException):
                    raise error

    def _named(self, level: int) -> str:
        return f"limiter.{self._name}.{level}"

    async def drop(self) -> None:
        """Close the connection; what was delivered on it comes back."""
        connection, self._connection, self._channel = self._connection, None, None
        self._declared.clear()
        if connection is not None:
            with contextlib.suppress(*_foreign()):
                async with asyncio.timeout(TIMEOUT_S):
                    await connection.close()


def _aio_pika() -> Any:
    try:
        import aio_pika
    except ImportError as exc:
        raise ConfigError(
            "RabbitMQ is spoken to by aio-pika: pip install 'llm-limiter[rabbitmq]'."
        ) from exc
    return aio_pika


def _foreign() -> tuple[type[BaseException], ...]:
    from aio_pika.exceptions import CONNECTION_EXCEPTIONS

    return (*CONNECTION_EXCEPTIONS, TimeoutError)


async def quietly(ending: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Tell the broker how a delivery ended; a channel that is lost has forgotten it."""
    with contextlib.suppress(*_foreign()):
        await ending()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise our errors for aio-pika's, with what the operator can do."""
    from aio_pika import exceptions as theirs

    try:
        yield
    except (theirs.AuthenticationError, theirs.ProbableAuthenticationError) as exc:
        raise StoreRefused(
            f"RabbitMQ refuses us: {exc}. Check the user and password in the URL."
        ) from exc
    except theirs.ChannelPreconditionFailed as exc:
        raise StoreRefused(
            f"RabbitMQ has a queue of this name that is another: {exc}. Delete it, or name ours otherwise."
        ) from exc
    except TimeoutError as exc:
        raise StoreTimeout("RabbitMQ did not answer in time. Check its load and network.") from exc
    except _foreign() as exc:
        raise StoreError(
            f"RabbitMQ is away: {exc}. Check that it runs and can be reached."
        ) from exc
