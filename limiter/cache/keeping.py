"""The cache before `reserve`: one call with a body, from the look to its answer's storing.

The body is the caller's word for what he is going to ask; what he settles with is its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limiter.cache import key as keys
from limiter.cache.api import AsyncCache, Cache
from limiter.cache.control import Control
from limiter.cache.entry import Entry
from limiter.cache.flights import Flight
from limiter.cache.plans import credential, tokens_of
from limiter.cache.policy import Question
from limiter.cache.settings import Settings
from limiter.cache.values import NotStorable, Value, is_answer, is_worth_keeping, packed, unpacked
from limiter.errors import ConfigError
from limiter.observing import payload_of

_NAME = "limiter.reserve"


def check(cache: object, body: object) -> None:
    """Check the arguments of `reserve`.

    Raises:
        ConfigError: one is wrong, or missing.
    """
    if cache is None and body is None:
        return
    if not isinstance(cache, (Cache, AsyncCache)) or not isinstance(body, Mapping):
        raise ConfigError(
            "reserve() takes cache= and body= together: a Cache, and the body of the call that is to be "
            f"made, as {{'model': …, 'messages': […]}}; got {cache!r:.40} and {body!r:.40}."
        )


def question_of(
    settings: Settings, body: Mapping[str, Any], tenant: str | None, rank: int,
    patience_s: float | None,
) -> Question | None:  # fmt: skip
    """Read what a call asks of the cache; None: it goes past it.

    Raises:
        ConfigError: the body is nothing that JSON has.
    """
    control = Control.of()
    if not (control.reads or control.stores):
        return None
    beside = keys.BESIDE_THE_POINT | settings.ignore
    told_apart = {name: body[name] for name in body if name not in beside}
    whose = settings.whose or credential()
    if tenant:
        whose = f"{whose}.{keys.keyed(tenant)}"
    key = keys.call_key(_NAME, told_apart, whose)
    return Question(key, "request", "", body, False, False, control, rank, patience_s)


def serve(entry: Entry) -> Value | None:
    """Make of an entry what was settled with."""
    return unpacked(entry.data) if entry.kind == "value" else None


def _kept(flight: Flight, answer: Any) -> list[Any] | None:
    try:
        stored = packed(payload_of(answer))
    except NotStorable:
        return None
    is_kept = is_answer(stored) and is_worth_keeping(stored, flight.question.body)
    return stored if is_kept else None


class Keeping:
    """Be the cache's part of one reservation."""

    def __init__(self, cache: Cache, question: Question | None) -> None:
        self._cache, self._question = cache, question
        self._flight: Flight | None = None

    def look(self) -> Value | None:
        """Return the stored answer; None: the call is to be made."""
        if self._question is None:
            return None
        found, self._flight = self._cache.look(self._question, serve)
        # Nobody else can make the call: so of those who find a stale answer, one makes it himself.
        answer: Value | None = None if self._flight else found.served
        return answer

    def end(self, answer: Any = None, *, given_up: bool = False) -> None:
        """Store what was settled with, if it is an answer; else the next one tries."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        kept = None if answer is None else _kept(flight, answer)
        if kept is None:
            self._cache.leave(flight, failed=not given_up)
        else:
            self._cache.fill(flight, "value", kept, tokens=tokens_of(answer))


class AsyncKeeping:
    """Be the cache's part of one reservation; see `Keeping`."""

    def __init__(self, cache: AsyncCache, question: Question | None) -> None:
        self._cache, self._question = cache, question
        self._flight: Flight | None = None

    async def look(self) -> Value | None:
        """Return the stored answer; None: the call is to be made."""
        if self._question is None:
            return None
        found, self._flight = await self._cache.look(self._question, serve)
        answer: Value | None = None if self._flight else found.served
        return answer

    async def end(self, answer: Any = None, *, given_up: bool = False) -> None:
        """Store what was settled with, if it is an answer; else the next one tries."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        kept = None if answer is None else _kept(flight, answer)
        if kept is None:
            await self._cache.leave(flight, failed=not given_up)
        else:
            await self._cache.fill(flight, "value", kept, tokens=tokens_of(answer))

    def let_go(self) -> None:
        """End it for one who is interrupted."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self._cache.leave_now(flight)
