"""`@cached` on generators: their items are recorded as they are delivered, and come back one by one.

Only a generator that has ended by itself is stored: not one that was left early, was sent something, or
returned a value besides its items.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any

from limiter.cache.beside import Beside, in_thread, landing, landing_async
from limiter.cache.flights import Flight
from limiter.cache.plans import Function, Plan, tokens_of

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class _Items:
    """Record what a generator delivers, as long as it can be stored."""

    def __init__(self, plan: Plan, flight: Flight) -> None:
        self._plan, self._flight = plan, flight
        self._most = plan.cache.settings.entry_bytes
        self._items: list[Any] | None = []
        self._size = 0
        self.tokens = 0

    def take(self, item: Any) -> Any:
        """Note an item, and return it."""
        if self._items is not None:
            kept = self._plan.kept(item, self._flight.question.body)
            self._size += 0 if kept is None else len(repr(kept))
            if kept is None or self._size > self._most:
                self._items = None
            else:
                self._items.append(kept)
                self.tokens = tokens_of(item) or self.tokens
        return item

    def spoil(self) -> None:
        """Note that the caller had a hand in what comes next: it is not the same for others."""
        self._items = None

    def whole(self, value: object = None) -> list[Any] | None:
        """Return all items once the generator has ended; None: they are not to be stored."""
        return self._items if value is None else None


def of_threads(plan: Plan) -> Function:
    """Return the wrapper of a generator function."""

    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        question = plan.question(args, kwargs)
        if question is None:
            return (yield from plan.call(*args, **kwargs))
        found, flight = plan.cache.as_sync().look(question, plan.serve_items)
        if found.served is None:
            return (yield from _run(plan, flight, args, kwargs))
        if flight is not None:
            in_thread(lambda: list(_run(plan, flight, args, kwargs)))
        yield from found.served
        return None

    return call


def _run(plan: Plan, flight: Flight | None, args: Args, kwargs: Kwargs) -> Generator[Any, Any, Any]:
    inner = plan.call(*args, **kwargs)
    if flight is None:
        return (yield from inner)
    cache, items = plan.cache.as_sync(), _Items(plan, flight)
    with landing(cache, flight):
        value = yield from _recorded(inner, items)
    if (kept := items.whole(value)) is None:
        cache.leave(flight)
    else:
        cache.fill(flight, "items", kept, tokens=items.tokens)
    return value


def _recorded(inner: Generator[Any, Any, Any], items: _Items) -> Generator[Any, Any, Any]:
    """Pass a generator on, with what is sent and thrown into it."""
    try:
        item = next(inner)
        while True:
            try:
                sent = yield items.take(item)
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as exc:  # noqa: BLE001 - the inner generator decides
                items.spoil()
                item = inner.throw(exc)
            else:
                if sent is not None:
                    items.spoil()
                item = inner.send(sent)
    except StopIteration as stop:
        return stop.value


def of_tasks(plan: Plan) -> Function:
    """Return the wrapper of an async generator function."""
    beside = Beside()

    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        question, served, flight = plan.question(args, kwargs), None, None
        if question is not None:
            found, flight = await plan.cache.as_async().look(question, plan.serve_items)
            served = found.served
        if served is None:
            items = _run_async(plan, flight, args, kwargs)
            async with aclosing(items):
                sent = None
                while True:
                    try:
                        item = await items.asend(sent)
                    except StopAsyncIteration:
                        return
                    sent = yield item
        if flight is not None:
            beside.start(_drained(_run_async(plan, flight, args, kwargs)))
        for item in served:
            yield item

    return call


async def _run_async(
    plan: Plan, flight: Flight | None, args: Args, kwargs: Kwargs
) -> AsyncGenerator[Any, Any]:
    inner, cache = plan.call(*args, **kwargs), plan.cache.as_async()
    items = _Items(plan, flight) if flight else None
    async with landing_async(cache, flight), aclosing(inner):
        sent = None
        while True:
            try:
                item = await inner.asend(sent)
            except StopAsyncIteration:
                break
            sent = yield items.take(item) if items else item
            if items and sent is not None:
                items.spoil()
    if flight is None or items is None:
        return
    if (kept := items.whole()) is None:
        await cache.leave(flight)
    else:
        await cache.fill(flight, "items", kept, tokens=items.tokens)


async def _drained(items: AsyncGenerator[Any, Any]) -> None:
    async for _ in items:
        pass
