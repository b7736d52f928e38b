"""What a priority means for the limits of a quota, in the integers that the scripts calculate with.

Pure. A policy is what a definition holds of a priority; it has an entry for each of its limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limiter.core.exact import to_us
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Share

UNSAID = -1  # a script reads no null


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold a priority and what it says of each limit.

    Attributes:
        priority: as its declarer wrote it.
        floors: units per limit that its calls leave in the bucket; None: none.
        shares: the bucket per limit that its calls draw as well; None: none.
        retired: nobody declares it any more; its tickets and its index stay valid.
    """

    priority: Priority
    floors: tuple[int, ...] | None
    shares: tuple[Share, ...] | None
    retired: bool = False

    @classmethod
    def of(cls, priority: Priority, limits: Sequence[Limit], *, retired: bool = False) -> Policy:
        """Calculate what a priority means for these limits.

        Raises:
            ConfigError: a share of one of them is too small to be counted.
        """
        floors = tuple(limit.floor(priority.floor) for limit in limits) if priority.floor else None
        part = priority.share
        shares = None if part is None else tuple(limit.share(part) for limit in limits)
        return cls(priority, floors, shares, retired)

    @property
    def name(self) -> str:
        """Return the priority's name."""
        return self.priority.name

    @property
    def max_waiting(self) -> int:
        """Say how many may wait; −1: any number."""
        return UNSAID if self.priority.max_waiting is None else self.priority.max_waiting

    @property
    def timeout_us(self) -> int:
        """Say how long a call waits that does not say it; −1: as long as it takes."""
        return UNSAID if self.priority.timeout is None else to_us(self.priority.timeout)

    @property
    def promote_us(self) -> int:
        """Say after how long without a grant the next call goes first; 0: never."""
        return to_us(self.priority.promote_after_s or 0)

    @property
    def lend_us(self) -> int:
        """Say how long nobody of a higher level must have come before the floor is lent."""
        return to_us(self.priority.lend_after_s)

    def written(self) -> dict[str, Any]:
        """Return it as a part of a definition's JSON."""
        return {
            "name": self.name,
            "level": self.priority.level,
            "strict": int(self.priority.strict),
            "max_waiting": self.max_waiting,
            "promote_us": self.promote_us,
            "lend_us": self.lend_us,
            "timeout_us": self.timeout_us,
            "floor": self.priority.floor,
            "share": UNSAID if self.priority.share is None else self.priority.share,
            "floors": False if self.floors is None else self.floors,
            "shares": False if self.shares is None else [each._asdict() for each in self.shares],
            "retired": self.retired,
        }

    @classmethod
    def read(cls, data: Mapping[str, Any], limits: Sequence[Limit]) -> Policy:
        """Undo `written`."""
        priority = Priority(
            data["name"],
            data["level"],
            data["floor"],
            _said(data["share"]),
            bool(data["strict"]),
            _said(data["max_waiting"]),
            _said(data["timeout_us"], 1e6),
            (data["promote_us"] or None) and data["promote_us"] / 1e6,
            data["lend_us"] / 1e6,
        )
        return cls.of(priority, limits, retired=data["retired"])


def _said(value: Any, per: float | None = None) -> Any:
    if value == UNSAID:
        return None
    return value if per is None else value / per
