"""Admit a call if all its dimensions fit, and take from all of them or from none. Pure.

How one dimension counts is its meter's business. Time is an argument; nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from limiter.mock.meters import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.mock.meters import Charge, Meter, View

MINUTE_US = 60_000_000


class Refusal(NamedTuple):
    """Say why a call was not admitted, with the numbers of the 429 message.

    Attributes:
        wait_us: time until the same call would fit if nobody else came; None if it never will.
    """

    dimension: str
    limit: int
    used: int
    requested: int
    wait_us: int | None


@dataclass(slots=True)
class Admission:
    """Be a call that was admitted, with what it took; `settle` gives it back to its enforcer.

    Attributes:
        cost: what it has cost so far, in all dimensions.
        charges: what it took, and from which meter: a limit may be lifted and set again meanwhile.
    """

    cost: dict[str, int]
    charges: dict[str, tuple[Meter, Charge]]
    is_settled: bool = False


class Enforcer:
    """Admit a call if all its dimensions fit; take from all of them, or from none.

    Args:
        model: a key of `MODELS`.
        limits: dimension to amount per period; a dimension that is not here costs nothing.
        charge_refusals: whether a refused call takes one request, as OpenAI's guide says
            ("unsuccessful requests contribute to your per-minute limit").
    """

    def __init__(
        self,
        model: str,
        limits: Mapping[str, int],
        *,
        charge_refusals: bool = False,
        period_us: int = MINUTE_US,
    ) -> None:
        self.meters: dict[str, Meter] = {}
        self.limits: dict[str, int] = {}
        self.period_us = period_us
        self._model = model
        self._charge_refusals = charge_refusals
        self.relimit(limits, 0)

    def relimit(self, limits: Mapping[str, int], now_us: int) -> None:
        """Hold other limits from now on.

        What was used of a dimension stays used; one that was not limited so far starts unused.
        """
        before, self.meters, self.limits = self.meters, {}, dict(limits)
        for name, limit in limits.items():
            meter = before.get(name)
            if meter is None:
                meter = MODELS[self._model](limit, self.period_us)
            else:
                meter.relimit(limit, now_us)
            self.meters[name] = meter

    def admit(self, cost: Mapping[str, int], now_us: int) -> Admission | Refusal:
        """Take `cost` and give the admission, or say why not."""
        counted = {name: amount for name, amount in cost.items() if name in self.meters}
        refusal = self._refusal(counted, now_us)
        if refusal is None:
            meters = {name: self.meters[name] for name in counted}
            taken = {name: (m, m.take(counted[name], now_us)) for name, m in meters.items()}
            return Admission(dict(cost), taken)
        self.charge_refusal(now_us)
        return refusal

    def charge_refusal(self, now_us: int) -> None:
        """Take what a refused call costs, whoever refused it."""
        if self._charge_refusals and "requests" in self.meters:
            self.meters["requests"].drain(1, now_us)

    def _refusal(self, cost: Mapping[str, int], now_us: int) -> Refusal | None:
        closed = [(d, n) for d, n in cost.items() if not self.meters[d].fits(n, now_us)]
        said: list[Refusal] = []
        for name, amount in closed:
            meter = self.meters[name]
            if amount > meter.capacity:
                return Refusal(name, meter.capacity, 0, amount, None)
            limit, used, wait_us = meter.refuse(amount, now_us)
            said.append(Refusal(name, limit, used, amount, wait_us))
        # Which of several the provider names is not known; the longest wait is the one that holds.
        return max(said, key=lambda refusal: refusal.wait_us or 0, default=None)

    def settle(
        self, admission: Admission, actual: Mapping[str, int], now_us: int
    ) -> dict[str, int]:
        """Replace the cost by `actual` in the dimensions named there; the second time, do nothing.

        Returns:
            The difference actual - cost of every dimension that changed, limited or not.
        """
        if admission.is_settled:
            return {}
        admission.is_settled = True
        difference = {}
        for name, amount in actual.items():
            if admission.cost.get(name, amount) == amount:
                continue
            difference[name] = amount - admission.cost[name]
            admission.cost[name] = amount
            if name in admission.charges:
                meter, charge = admission.charges[name]
                meter.settle(charge, amount, now_us)
        return difference

    def view(self, now_us: int) -> dict[str, View]:
        """Say limit, remaining and reset of every dimension."""
        return {name: meter.view(now_us) for name, meter in self.meters.items()}
