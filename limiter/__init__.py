"""One fair line in front of an LLM quota, for a whole fleet of processes.

    from limiter import Limiter, Quota

    limiter = Limiter("redis://localhost:6379/0", quotas=[Quota("gpt-4o", rpm=500, tpm=30_000)])
    with limiter.reserve("gpt-4o", tokens=1_200) as r:
        response = client.chat.completions.create(...)
        r.settle(response)

Every name is imported when it is first used: this package costs nothing that is not needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter, Limiter
    from limiter.core.priority import Priority
    from limiter.core.quota import Limit, Quota
    from limiter.decorator import rate_limited
    from limiter.default import default_limiter
    from limiter.errors import (
        CallFailed,
        CircuitOpen,
        ConfigError,
        LimiterError,
        LimitExceeded,
        LineFull,
        NeverFits,
        ReservationError,
        RetriesSpent,
        ScriptError,
        StoreError,
        StoreRefused,
        StoreTimeout,
        WaitTimeout,
    )
    from limiter.providers import estimate
    from limiter.reservation import AsyncReservation, Reservation, UnsettledWarning
    from limiter.retrying import Retry
    from limiter.status import Declaration, LimitStatus, PriorityStatus, QuotaStatus
    from limiter.tickets import AsyncTicket, Ticket

_HOMES = {
    "limiter.api": ["AsyncLimiter", "Limiter"],
    "limiter.status": ["Declaration", "LimitStatus", "PriorityStatus", "QuotaStatus"],
    "limiter.tickets": ["AsyncTicket", "Ticket"],
    "limiter.core.priority": ["Priority"],
    "limiter.core.quota": ["Limit", "Quota"],
    "limiter.decorator": ["rate_limited"],
    "limiter.default": ["default_limiter"],
    "limiter.errors": [
        "CallFailed", "CircuitOpen", "ConfigError", "LimiterError", "LimitExceeded", "LineFull",
        "NeverFits", "ReservationError", "RetriesSpent", "ScriptError", "StoreError",
        "StoreRefused", "StoreTimeout", "WaitTimeout",
    ],
    "limiter.providers": ["estimate"],
    "limiter.reservation": ["AsyncReservation", "Reservation", "UnsettledWarning"],
    "limiter.retrying": ["Retry"],
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [  # noqa: RUF022 - the order in which a reader meets them
    "Limiter", "AsyncLimiter", "Quota", "Limit", "Priority",
    "Retry", "rate_limited", "default_limiter",
    "Reservation", "AsyncReservation", "Ticket", "AsyncTicket",
    "QuotaStatus", "LimitStatus", "PriorityStatus", "Declaration", "estimate",
    "LimiterError", "ConfigError", "LimitExceeded", "NeverFits", "LineFull", "WaitTimeout",
    "CircuitOpen", "RetriesSpent", "CallFailed",
    "ReservationError", "StoreError", "StoreTimeout", "StoreRefused", "ScriptError",
    "UnsettledWarning",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'limiter' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
