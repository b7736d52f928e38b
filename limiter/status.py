"""What `peek` returns: a quota's limits, levels and line at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from limiter.core.definition import Definition
from limiter.core.layout import Reply
from limiter.core.quota import Limit


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """Hold one limit and what is left of it; a negative level is a debt."""

    limit: Limit
    level: int


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """Hold a quota's state at one moment.

    Attributes:
        name: the quota's name.
        limits: by label, as `tokens/minute`.
        waiting: tickets in the line.
        held: reservations not yet settled.
        next_s: seconds until the head of the line fits; None: nobody waits, or only the end of
            another call can help.
    """

    name: str
    limits: dict[str, LimitStatus]
    waiting: int
    held: int
    next_s: float | None

    @classmethod
    def of(cls, definition: Definition, reply: Reply) -> QuotaStatus:
        """Read it from the answer to an observation."""
        limits = {
            limit.label: LimitStatus(limit, level)
            for limit, level in zip(definition.limits, reply.levels, strict=True)
        }
        next_s = reply.next_us / 1e6 if reply.next_us >= 0 else None
        return cls(definition.name, limits, reply.waiting, reply.held, next_s)
