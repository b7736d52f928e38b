"""The settings of a cache, checked, and what follows from them without asking anybody. Pure."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from limiter.cache import entry as entries
from limiter.cache import key as keys
from limiter.cache import layout
from limiter.cache.control import Control, Told
from limiter.cache.entry import Entry
from limiter.cache.policy import Cacheable, Question, is_complete, is_deterministic
from limiter.errors import ConfigError
from limiter.providers.endpoints import endpoint

log = logging.getLogger("limiter")

TTL_S, LEASE_S, TIMEOUT_S = 3600.0, 5.0, 0.5
ENTRY_BYTES = 2**20
# Most answers are text of some hundred bytes more; below this zlib gains little.
COMPRESS_BYTES = 512
# So that what was stored in one minute is not asked anew in one minute.
_JITTER = 0.1
_YEAR_S = 365 * 86_400.0


@dataclass(frozen=True)
class Settings:
    """Hold them; see `Cache`.

    Raises:
        ConfigError: one is wrong.
    """

    ttl_s: float = TTL_S
    stale_s: float = 0.0
    shared: bool = False
    namespace: str | None = None
    deterministic: bool = False
    cacheable: Cacheable | None = None
    ignore: frozenset[str] = frozenset()
    entry_bytes: int = ENTRY_BYTES
    compress_above: int = COMPRESS_BYTES
    single_flight: bool = True
    lease_s: float = LEASE_S
    timeout_s: float = TIMEOUT_S
    whose: str | None = field(init=False)

    def __post_init__(self) -> None:
        for name, least in (("ttl", 0.001), ("stale", 0.0), ("lease", 0.1), ("timeout", 0.001)):
            _check_seconds(name, getattr(self, f"{name}_s"), least)
        for name in ("entry_bytes", "compress_above"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= 2**29 - 1:
                raise ConfigError(f"{name}= is bytes, from 0 to 512 MB; got {value!r:.40}.")
        if self.shared and self.namespace is not None:
            raise ConfigError("shared=True and namespace= exclude each other: give one of them.")
        if self.namespace is not None and not (self.namespace and isinstance(self.namespace, str)):
            raise ConfigError(f"namespace= is a name, got {self.namespace!r:.60}.")
        if self.cacheable is not None and not callable(self.cacheable):
            raise ConfigError(
                "cacheable= is a function of a request's body and its answer (None before it is "
                f"asked) that says whether to cache it; got {self.cacheable!r:.60}."
            )
        object.__setattr__(self, "whose", self._whose())

    def _whose(self) -> str | None:
        if self.shared:
            return keys.SHARED
        return None if self.namespace is None else whose_name(self.namespace)

    def question(
        self, method: str, url: str, path: str, headers: Mapping[str, str], body: Any,
        *, told: Told = None, rank: int = 0, patience_s: float | None = None,
    ) -> Question | None:  # fmt: skip
        """Read what a request asks of the cache; None: it goes past it.

        Raises:
            ConfigError: its control is none.
        """
        control = Control.of(told)
        kind = endpoint(path)
        if method != "POST" or kind is None or not isinstance(body, Mapping):
            return None
        if not (control.reads or control.stores) or not self._wants(path, body, None):
            return None
        key = keys.request_key(url, headers, body, namespace=self.whose, ignore=self.ignore)
        if key is None:
            return None
        options = body.get("stream_options")
        wants_usage = isinstance(options, Mapping) and options.get("include_usage") is True
        is_stream = body.get("stream") is True
        return Question(key, kind, path, body, is_stream, wants_usage, control, rank, patience_s)

    def _wants(self, path: str, body: Mapping[str, Any], answer: Mapping[str, Any] | None) -> bool:
        if self.deterministic and not is_deterministic(endpoint(path), body):
            return False
        if self.cacheable is None:
            return True
        try:
            return bool(self.cacheable(body, answer))
        except Exception:
            # The call is as good as ever; what becomes of its answer nobody has said.
            log.exception("cacheable= raised, so the answer is not cached.")
            return False

    def is_kept(self, question: Question, answer: Mapping[str, Any]) -> bool:
        """Say whether an answer may be stored."""
        whole = is_complete(question.endpoint, question.body, answer)
        return whole and self._wants(question.path, question.body, answer)

    def written(
        self, question: Question, kind: str, data: Any, *,
        tokens: int = 0, headers: Mapping[str, str] | None = None,
    ) -> tuple[bytes, int] | None:  # fmt: skip
        """Return an answer as it is stored, and for how many ms; None: it is too large, or no JSON."""
        ttl_s = self.ttl_s if question.control.ttl_s is None else question.control.ttl_s
        fresh_ms = max(1, round(1000 * ttl_s * random.uniform(1 - _JITTER, 1)))
        lifetime_ms = fresh_ms + round(1000 * self.stale_s)
        entry = Entry(kind, data, lifetime_ms, fresh_ms, tokens, dict(headers or {}))
        try:
            stored = entries.write(question.key, entry, self.compress_above, self.entry_bytes)
        except (ValueError, TypeError, OverflowError):
            return None
        return stored, lifetime_ms


def whose_name(namespace: str) -> str:
    """Return what stands in keys for a namespace that the caller named.

    No name makes the namespace of others: theirs are hexadecimal digits, or "shared". Nor does one that
    looks like what stands for another.
    """
    return f"n-{namespace}" if layout.is_simple(namespace) else f"h-{keys.keyed(namespace)}"


def _check_seconds(name: str, value: object, least: float) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not least <= value <= _YEAR_S
    ):
        raise ConfigError(f"{name}= is seconds from {least:g} to a year, got {value!r:.40}.")


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Read the keyword arguments of a cache.

    Raises:
        ConfigError: one is not known, or wrong; names the nearest.
    """
    seconds = {name: f"{name}_s" for name in ("ttl", "stale", "lease", "timeout")}
    known = [name.removesuffix("_s") for name in inspect.signature(Settings).parameters]
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise ConfigError(f"A cache has no option {name!r}; it has {', '.join(known)}.")
        values[seconds.get(name, name)] = value
    if "ignore" in values:
        values["ignore"] = _names(values["ignore"])
    return Settings(**values)


def _names(value: object) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"ignore= is a list of names, as ['x-request-*']; got {value!r:.60}.")
    names = list(value)
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"ignore= is a list of names, as ['x-request-*']; got {names!r:.60}.")
    return frozenset(names)
