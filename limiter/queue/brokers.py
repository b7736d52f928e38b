"""Which broker carries the calls of a queue, by its URL, and the doors to it, which are opened late.

Jobs and results are in the limiter's Redis whatever the broker; calls are there, too, or at a RabbitMQ.
Nothing here speaks to either.
"""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from limiter.errors import ConfigError
from limiter.shells import connect

VARIABLE = "LIMITER_BROKER_URL"

_RABBIT = frozenset({"amqp", "amqps"})
_REDIS = frozenset(connect.SCHEMES) - {"memory"}


def chosen(broker: str | None, url: Any) -> str | None:
    """Return the URL of the RabbitMQ that carries calls; None: the queue's Redis does.

    Args:
        broker: its URL; None: `LIMITER_BROKER_URL`, else Redis.
        url: of the queue's Redis, or its client.

    Raises:
        ConfigError: it is no broker's, or another Redis's.
    """
    if broker is None:
        broker = os.environ.get(VARIABLE) or None
    if broker is None:
        return None
    scheme = urlsplit(broker).scheme.lower() if isinstance(broker, str) else ""
    if scheme in _RABBIT:
        return broker
    if scheme not in _REDIS:
        raise ConfigError(
            f"broker= is the URL of a RabbitMQ (amqp:// or amqps://), or that of the queue's Redis, got "
            f"{_without_password(broker)!r:.80}."
        )
    if broker != (url or os.environ.get("LIMITER_URL")):
        raise ConfigError(
            f"What Redis carries is kept beside the jobs: leave the broker out (and {VARIABLE} unset), or "
            "give it the same URL as the limiter's store."
        )
    return None


def carrier(
    broker: str | None, name: str, level: int, tenant: str | None
) -> AbstractContextManager[Any]:
    """Return a block that yields what publishes the calls of a submission; without a broker, nothing."""
    if broker is None:
        return nullcontext()
    from limiter.queue.rabbit import SyncCarrier

    return SyncCarrier(broker, name, level, tenant or "")


def async_carrier(
    broker: str | None, name: str, level: int, tenant: str | None
) -> AbstractAsyncContextManager[Any]:
    """Return the same for asyncio."""
    if broker is None:
        return nullcontext()
    from limiter.queue.rabbit import Carrier

    return Carrier(broker, name, level, tenant or "")


def _without_password(broker: Any) -> Any:
    return broker.rpartition("@")[2] if isinstance(broker, str) else broker
