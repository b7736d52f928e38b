"""Admit a call if all its dimensions fit, and take from all of them or from none. Pure.

How one dimension counts is its meter's business. Time is an argument; nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from limiter.mock.meters import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.mock.meters import Charge, View

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
    """Be a call that was admitted, with what it took; `settle` gives it back to its enforcer."""

    charges: dict[str, Charge]
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
        self.meters = {name: MODELS[model](limit, period_us) for name, limit in limits.items()}
        self.limits = dict(limits)
        self.period_us = period_us
        self._charge_refusals = charge_refusals

    def admit(self, cost: Mapping[str, int], now_us: int) -> Admission | Refusal:
        """Take `cost` and give the admission, or say why not."""
        counted = {name: amount for name, amount in cost.items() if name in self.meters}
        refusal = self._refusal(counted, now_us)
        if refusal is None:
            taken = {name: self.meters[name].take(n, now_us) for name, n in counted.items()}
            return Admission(taken)
        if self._charge_refusals and "requests" in self.meters:
            self.meters["requests"].drain(1, now_us)
        return refusal

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
            The difference actual - taken of every dimension that changed.
        """
        if admission.is_settled:
            return {}
        admission.is_settled = True
        difference = {}
        for name, amount in actual.items():
            charge = admission.charges.get(name)
            if charge is not None and charge.amount != amount:
                difference[name] = amount - charge.amount
                self.meters[name].settle(charge, amount, now_us)
        return difference

    def view(self, now_us: int) -> dict[str, View]:
        """Say limit, remaining and reset of every dimension."""
        return {name: meter.view(now_us) for name, meter in self.meters.items()}
