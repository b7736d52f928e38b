"""Which of several quotas to ask first, and which to leave alone for a while.

Pure but for a monotonic clock that can be given. What is known of failures is this process's own.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from limiter.errors import CallFailed, ConfigError, LimiterError, LimitExceeded

AVOID_S = 10.0  # how long a quota whose call failed comes last
_LONGEST_S = 86_400.0
# A status by which a provider says that it will not serve anybody just now, or not us.
_FAILING = frozenset({401, 403, 404, 408, 429})
_UNREACHABLE = frozenset({
    "APIConnectionError", "APITimeoutError", "ConnectError", "ConnectTimeout", "ConnectionError",
    "PoolTimeout", "ReadError", "ReadTimeout", "RemoteProtocolError", "TimeoutError",
})  # fmt: skip


@dataclass(slots=True)
class Choices:
    """Remember which quotas failed, and put names in the order in which to ask them."""

    clock: Callable[[], float] = time.monotonic
    random: random.Random = field(default_factory=random.Random)
    _until: dict[str, float] = field(default_factory=dict)

    def order(self, any_of: Sequence[str] | Mapping[str, float]) -> list[str]:
        """Return the names, first those to ask first; those that failed of late come last.

        A list is in the order of preference. A mapping has weights: each name comes first as often
        as its weight says.

        Raises:
            ConfigError: there is no name, one stands twice, or a weight is no number above 0.
        """
        names = _checked(any_of)
        if isinstance(any_of, Mapping):
            # Exponential keys: the first of the order is drawn by weight (Efraimidis, Spirakis 2006).
            names.sort(key=lambda name: self.random.expovariate(any_of[name]))
        return sorted(names, key=self.is_avoided)

    def is_avoided(self, name: str) -> bool:
        """Say whether a quota failed of late."""
        return self._until.get(name, 0.0) > self.clock()

    def to_wait_for(self, names: Sequence[str]) -> list[str]:
        """Return those to stand in line for: the ones that did not fail, or all if all did."""
        return [name for name in names if not self.is_avoided(name)] or list(names)

    def avoid(self, name: str, seconds: float = AVOID_S) -> None:
        """Let a quota come last for a while; 0 ends it."""
        self._until[name] = self.clock() + seconds

    def failed(self, name: str, error: BaseException) -> None:
        """Take note of how a call ended, if that says something of its provider.

        Where the answer says when to come again (`retry-after`, seconds), the quota comes last until
        then, else for `AVOID_S`.
        """
        if is_failure(error):
            self.avoid(name, _retry_after_s(error) or AVOID_S)


def soonest(reasons: Sequence[LimitExceeded]) -> LimitExceeded:
    """Return why none of several quotas granted a call: what is over first, by what is known."""
    waits = [reason.numbers.get("wait_s") for reason in reasons]
    known = [math.inf if wait_s is None else wait_s for wait_s in waits]
    return reasons[known.index(min(known))]


def is_failure(error: BaseException) -> bool:
    """Say whether an exception tells that a provider is away, overloaded or refuses us."""
    if isinstance(error, CallFailed):
        return True
    if isinstance(error, LimiterError):
        return False
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status >= 500 or status in _FAILING
    return any(kind.__name__ in _UNREACHABLE for kind in type(error).__mro__)


def _retry_after_s(error: BaseException) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        seconds = float(headers.get("retry-after", ""))
    except (ValueError, AttributeError, TypeError):
        return None
    return seconds if 0 < seconds <= _LONGEST_S else None


def _checked(any_of: Sequence[str] | Mapping[str, float]) -> list[str]:
    names = [] if isinstance(any_of, str) else list(any_of)
    if not names or len(set(names)) < len(names) or not all(isinstance(n, str) for n in names):
        raise ConfigError(
            f"any_of= is a list of different quotas, or a mapping of weights by quota; got "
            f"{any_of!r:.80}."
        )
    if isinstance(any_of, Mapping):
        for name, weight in any_of.items():
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not number or not 0 < weight < math.inf:
                raise ConfigError(
                    f"The weight of {name!r} in any_of= is a number above 0, got {weight!r:.40}."
                )
    return names
