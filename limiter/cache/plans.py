"""What a cached function was given: the question that a call asks, what is kept of its result. No I/O."""

from __future__ import annotations

import inspect
import logging
import os
import threading
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from limiter.cache import key as keys
from limiter.cache.api import AsyncCache, Cache
from limiter.cache.control import Control
from limiter.cache.entry import Entry
from limiter.cache.policy import Question
from limiter.cache.values import NotStorable, Value, is_worth_keeping, packed, unpacked
from limiter.observing import payload_of
from limiter.providers.profile import usage_of

log = logging.getLogger("limiter")

Function = Callable[..., Any]
AnyCache = Cache | AsyncCache

_lock = threading.Lock()
_default: Cache | None = None


def default_cache() -> Cache:
    """Return the cache that is used where none is named; made when first asked for."""
    global _default  # noqa: PLW0603 - that is its purpose
    with _lock:
        _default = _default or Cache()
        return _default


class Options(NamedTuple):
    """Hold the arguments of `cached`, and what only a limited function knows.

    Attributes:
        standing: says how urgent a call is, and how long it waits for the result of another one (None: as
            long as it takes).
    """

    cache: AnyCache | None = None
    key: Callable[..., Any] | None = None
    ignore: tuple[str, ...] = ()
    namespace: str | Callable[..., str | None] | None = None
    version: str = ""
    control: Any = None
    when: Callable[[Any], bool] | None = None
    standing: Callable[[], tuple[int, float | None]] = lambda: (0, None)


class Plan:
    """Hold what a cached function was given, and make each call's question."""

    def __init__(self, function: Function, options: Options, call: Function) -> None:
        self.call = call
        self._options = options
        self._signature = inspect.signature(function)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._returns = _returned(function)
        self._has_complained = False

    @property
    def cache(self) -> AnyCache:
        """Return the cache, or the process's."""
        return self._options.cache or default_cache()

    def question(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question | None:
        """Read what one call asks of the cache; None: it goes past it."""
        told = _said(self._options.control, args, kwargs)
        control = Control.of(told)
        if not (control.reads or control.stores):
            return None
        arguments = self._arguments(args, kwargs)
        told_apart = arguments
        if self._options.key is not None:
            told_apart = {"key": self._options.key(*args, **kwargs)}
        whose = self._whose(args, kwargs)
        name = keys.call_key(self._name, told_apart, whose, self._options.version)
        standing = self._options.standing()
        return Question(name, "request", "", arguments, False, False, control, *standing)

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        ignore = self._options.ignore
        return {name: value for name, value in bound.arguments.items() if name not in ignore}

    def _whose(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        named = _said(self._options.namespace, args, kwargs)
        whose = self.cache.settings.whose
        if named is None:
            return whose or credential()
        return f"{whose or credential()}.{keys.keyed(str(named))}"

    def serve(self, entry: Entry) -> Value | None:
        """Make of an entry what the function returned."""
        return unpacked(entry.data, self._returns) if entry.kind == "value" else None

    def serve_items(self, entry: Entry) -> list[Any] | None:
        """Make of an entry what the generator delivered."""
        if entry.kind != "items":
            return None
        items = [unpacked(each, self._returns) for each in entry.data]
        return None if None in items else [each.value for each in items if each]

    def kept(self, result: Any, arguments: Mapping[str, Any]) -> list[Any] | None:
        """Return a result as it is stored; None: it is not to be."""
        try:
            stored = packed(result, self._returns)
        except NotStorable as exc:
            self._complain(exc)
            return None
        if not is_worth_keeping(stored, arguments):
            return None
        when = self._options.when
        return stored if when is None or when(result) else None

    def _complain(self, what: NotStorable) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.warning("%s() returned %s, which cannot be stored: return what JSON has, bytes, or an "
                        "object of pydantic.", self._name, what)  # fmt: skip


def _said(told: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return told(*args, **kwargs) if callable(told) else told


def _returned(function: Function) -> object:
    """Return the class that a function, or each item of a generator, is annotated to be."""
    try:
        found = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - names that exist for type checkers only
        return None
    return next(iter(typing.get_args(found)), None) if typing.get_origin(found) else found


def credential() -> str:
    """Return the namespace of the credential that OpenAI's client reads from the environment."""
    told = {"authorization": os.environ.get("OPENAI_API_KEY", "")}
    told["openai-organization"] = os.environ.get("OPENAI_ORG_ID", "")
    told["openai-project"] = os.environ.get("OPENAI_PROJECT_ID", "")
    return keys.namespace_of(told)


def tokens_of(result: Any) -> int:
    """Return the tokens that a result was charged, as its usage tells; 0: it does not."""
    if isinstance(result, (int, float)):
        return 0
    usage = usage_of(payload_of(result))
    return (usage.total or 0) if usage else 0
