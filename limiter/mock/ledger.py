"""Enforce one quota and keep count of what came of it. Pure: time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limiter.mock.enforce import Admission, Enforcer, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.mock.config import MockConfig


class Ledger:
    """Be an enforcer with statistics. `reset` forgets the statistics, never the levels."""

    def __init__(self, config: MockConfig, clock_offset_us: int) -> None:
        self.enforcer = Enforcer(
            config.model,
            config.limits,
            charge_refusals=config.charge_refusals,
            period_us=config.period_us,
        )
        self._offset_us = clock_offset_us
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self.accepted = self.refused = 0
        self._cost: dict[str, int] = {}
        self._burst: dict[str, float] = {}
        self._first_us: int | None = None
        self._last_us = 0

    def admit(self, cost: Mapping[str, int], now_us: int) -> Admission | Refusal:
        """Admit or refuse, and count it."""
        meters = self.enforcer.meters
        burst = {} if self._burst else {d: meter.room(now_us) for d, meter in meters.items()}
        outcome = self.enforcer.admit(cost, now_us)
        if isinstance(outcome, Refusal):
            self.refused += 1
            return outcome
        if self._first_us is None:
            self._first_us, self._burst = now_us, burst
        self._last_us = now_us
        self.accepted += 1
        self._count(cost)
        return outcome

    def settle(self, admission: Admission, actual: Mapping[str, int], now_us: int) -> None:
        """Replace an admitted cost by the actual one, and count the difference."""
        self._count(self.enforcer.settle(admission, actual, now_us))

    def _count(self, cost: Mapping[str, int]) -> None:
        for name, amount in cost.items():
            self._cost[name] = self._cost.get(name, 0) + amount

    def snapshot(self, now_us: int) -> dict[str, Any]:
        """Give all counts, with times as Unix seconds.

        For each limit, `share_used` is the share of it that is taken now, and `share_after_burst`
        is (accepted cost - what was left at the first acceptance) / (rate x time from the first
        acceptance to the last): 1.0 is every token that the provider gives. None while there is
        no such time.
        """
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "requests_accepted": self._cost.get("requests", 0),
            "tokens_accepted": self._cost.get("tokens", 0),
            "first_accepted_s": self._unix_s(self._first_us),
            "last_accepted_s": self._unix_s(self._last_us if self._first_us is not None else None),
            "limits": {name: self._dimension(name, now_us) for name in self.enforcer.limits},
        }

    def _unix_s(self, at_us: int | None) -> float | None:
        return None if at_us is None else (at_us + self._offset_us) / 1_000_000

    def _dimension(self, name: str, now_us: int) -> dict[str, Any]:
        view = self.enforcer.meters[name].view(now_us)
        accepted = self._cost.get(name, 0)
        return {
            "limit": view.limit,
            "period_s": self.enforcer.period_us / 1_000_000,
            "remaining": view.remaining,
            "accepted": accepted,
            "burst": self._burst.get(name),
            "share_used": 1 - view.remaining / view.limit,
            "share_after_burst": self._share_after_burst(name, accepted),
        }

    def _share_after_burst(self, name: str, accepted: int) -> float | None:
        if self._first_us is None or self._last_us == self._first_us:
            return None
        periods = (self._last_us - self._first_us) / self.enforcer.period_us
        beyond = max(0.0, accepted - self._burst[name])
        return beyond / (self.enforcer.limits[name] * periods)
