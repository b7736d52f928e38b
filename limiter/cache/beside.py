"""Calls that are made for a flight: those that fail leave it, those beside the caller trouble nobody."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limiter.cache.api import AsyncCache, Cache
    from limiter.cache.flights import Flight

log = logging.getLogger("limiter")


@contextlib.contextmanager
def landing(cache: Cache, flight: Flight) -> Iterator[None]:
    """Leave a flight whose call raises: to the next one, at once."""
    try:
        yield
    except Exception:
        cache.leave(flight)
        raise
    except BaseException:
        cache.leave_now(flight)
        raise


@contextlib.asynccontextmanager
async def landing_async(cache: AsyncCache, flight: Flight | None) -> AsyncIterator[None]:
    """Leave a flight whose call raises; a cancelled task does not wait for that."""
    try:
        yield
    except Exception:
        if flight:
            await cache.leave(flight)
        raise
    except BaseException:
        if flight:
            cache.leave_now(flight)
        raise


def in_thread(work: Callable[[], Any]) -> None:
    """Get anew what was served when it was stale; nobody waits for it."""

    def quietly() -> None:
        try:
            work()
        except Exception as exc:  # noqa: BLE001 - the caller has an answer, and the next one tries
            log.info("A stale answer could not be got anew: %s", exc)

    threading.Thread(target=quietly, name="limiter-refresh", daemon=True).start()


class Beside:
    """Get anew in tasks what was served when it was stale; a task that nobody holds may be collected."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin; nobody waits for it."""

        async def quietly() -> None:
            try:
                await work
            except Exception as exc:  # noqa: BLE001 - the caller has an answer, and the next one tries
                log.info("A stale answer could not be got anew: %s", exc)

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
