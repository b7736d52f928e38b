"""Enforce one quota and keep count of what came of it. Pure: time is an argument."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from limiter.mock.enforce import Admission, Enforcer, Refusal
from limiter.mock.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.mock.config import MockConfig

Refused = Literal["refused", "refused_by_command", "refused_by_concurrency"]


class Ledger:
    """Be an enforcer with statistics. `reset` forgets the statistics, never the levels.

    Attributes:
        in_flight: the calls between admission and completion; who lets them in and out counts them.
    """

    def __init__(self, config: MockConfig, clock_offset_us: int) -> None:
        self.enforcer = Enforcer(
            config.model,
            config.limits,
            charge_refusals=config.charge_refusals,
            period_us=config.period_us,
        )
        self.in_flight = 0
        self._offset_us = clock_offset_us
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self.accepted = 0
        self.timeline = Timeline()
        self._refused: dict[str, int] = dict.fromkeys(get_args(Refused), 0)
        self._cost: dict[str, int] = {}
        self._burst: dict[str, float] = {}
        self._limits = [(0, self.enforcer.limits)]
        self._first_us: int | None = None
        self._last_us = 0

    def admit(self, cost: Mapping[str, int], now_us: int) -> Admission | Refusal:
        """Admit or refuse, and count it."""
        burst = self._levels(now_us) if self._first_us is None else {}
        outcome = self.enforcer.admit(cost, now_us)
        if isinstance(outcome, Refusal):
            self._count_refusal("refused", now_us)
            return outcome
        if self._first_us is None:
            self._first_us, self._burst = now_us, burst
        self._last_us = now_us
        self.accepted += 1
        self._count(cost, now_us, accepted=1)
        return outcome

    def refuse(self, why: Refused, now_us: int) -> None:
        """Count a call that was refused whatever the levels, and take what a refusal costs."""
        self.enforcer.charge_refusal(now_us)
        self._count_refusal(why, now_us)

    def settle(self, admission: Admission, actual: Mapping[str, int], now_us: int) -> None:
        """Replace an admitted cost by the actual one, and count the difference."""
        difference = self.enforcer.settle(admission, actual, now_us)
        if difference:
            self._count(difference, now_us)

    def relimit(self, limits: Mapping[str, int], now_us: int) -> None:
        """Hold other limits from now on.

        A bucket's level moves by the difference at once, so for shares it counts as burst.
        """
        before = self.enforcer.limits
        self.enforcer.relimit(limits, now_us)
        self._limits.append((now_us, self.enforcer.limits))
        self._burst = {
            name: burst + limits[name] - before[name]
            for name, burst in self._burst.items()
            if name in limits
        }

    def _levels(self, now_us: int) -> dict[str, float]:
        return {name: meter.room(now_us) for name, meter in self.enforcer.meters.items()}

    def _count(self, cost: Mapping[str, int], now_us: int, **counts: int) -> None:
        for name, amount in cost.items():
            self._cost[name] = self._cost.get(name, 0) + amount
        self._note(now_us, tokens=cost.get("tokens", 0), **counts)

    def _count_refusal(self, why: Refused, now_us: int) -> None:
        self._refused[why] += 1
        self._note(now_us, **{why: 1})

    def _note(self, now_us: int, **counts: int) -> None:
        levels = {name: round(level, 3) for name, level in self._levels(now_us).items()}
        self.timeline.note((now_us + self._offset_us) // 1_000_000, levels, **counts)

    def snapshot(self, now_us: int) -> dict[str, Any]:
        """Give all counts, with times as Unix seconds.

        `refused` counts refusals by level; those by command and by concurrency stand beside it.

        For each limit, `level` is what is left of it, negative for debt, `share_used` is the share
        of it that is taken now, and `share_after_burst` is (accepted cost - what was left at the
        first acceptance) / (rate x time from the first acceptance to the last): 1.0 is every token
        that the provider gives, at the limits of the time. None while there is no such time, and
        for a limit that was set later.
        """
        return {
            "accepted": self.accepted,
            **self._refused,
            "requests_accepted": self._cost.get("requests", 0),
            "tokens_accepted": self._cost.get("tokens", 0),
            "first_accepted_s": self._unix_s(self._first_us),
            "last_accepted_s": self._unix_s(self._last_us if self._first_us is not None else None),
            "limits": {name: self._dimension(name, now_us) for name in self.enforcer.limits},
        }

    def _unix_s(self, at_us: int | None) -> float | None:
        return None if at_us is None else (at_us + self._offset_us) / 1_000_000

    def _dimension(self, name: str, now_us: int) -> dict[str, Any]:
        meter = self.enforcer.meters[name]
        view = meter.view(now_us)
        accepted = self._cost.get(name, 0)
        return {
            "limit": view.limit,
            "period_s": self.enforcer.period_us / 1_000_000,
            "remaining": view.remaining,
            "level": meter.room(now_us),
            "accepted": accepted,
            "burst": self._burst.get(name),
            "share_used": 1 - view.remaining / view.limit,
            "share_after_burst": self._share_after_burst(name, accepted),
        }

    def _share_after_burst(self, name: str, accepted: int) -> float | None:
        if self._first_us is None or self._last_us == self._first_us or name not in self._burst:
            return None
        beyond = max(0.0, accepted - self._burst[name])
        return beyond * self.enforcer.period_us / self._flowed_in(name, self._first_us)

    def _flowed_in(self, name: str, first_us: int) -> int:
        """Add up limit x microseconds between the first acceptance and the last."""
        spans = pairwise([*self._limits, (self._last_us, self.enforcer.limits)])
        return sum(
            limits.get(name, 0) * max(0, min(end_us, self._last_us) - max(start_us, first_us))
            for (start_us, limits), (end_us, _) in spans
        )
