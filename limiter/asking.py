"""What a caller asks for, checked: the arguments of `acquire` and its like, as one value.

Nothing here does I/O. The settings that a limiter was made with are here too, because they say
which quotas belong together.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from limiter.choosing import Choices
from limiter.core import ops
from limiter.core.definition import Definition
from limiter.core.forecasts import Forecasts
from limiter.core.priority import DEFAULT, check_tenant
from limiter.core.quota import Quota, check_cost
from limiter.core.request import Asking
from limiter.errors import ConfigError
from limiter.shells import connect, opening
from limiter.shells.aio import AsyncShell
from limiter.shells.sync import SyncShell

Cost = Mapping[str, int] | int | None
Names = str | Sequence[str]
AnyOf = Sequence[str] | Mapping[str, float]

LEASE_S = 30.0
STORE_TIMEOUT_S = 10.0
_ROUND_TRIP_S = 5.0


class Ask(NamedTuple):
    """Hold what one call asks for.

    Attributes:
        unit: whose line it stands in: the quota's, or that of the group of its quotas.
        quotas: which of the group's quotas it takes from; () where the unit is one quota.
        amounts: the cost by dimension.
        timeout_s: how long it waits; None: what its priority says.
        fail_fast: fail at once when the wait is expected to be longer.
        repeats: it repeats a call that failed.
    """

    unit: str
    quotas: tuple[str, ...]
    amounts: dict[str, int]
    priority: str = DEFAULT
    tenant: str = ""
    timeout_s: float | None = None
    fail_fast: bool = True
    repeats: bool = False

    def under(self, agreed: Definition) -> tuple[Asking, float | None]:
        """Return it as the line sends it, and how long it waits at most (None: for ever).

        Raises:
            ConfigError: the priority is not declared.
        """
        timeout_s = ops.patience_s(agreed, self.priority, self.timeout_s)
        if timeout_s is None:
            asking = _PATIENT if self.is_plain else self._asking(may_wait=True, patience_us=None)
            return asking, None
        patience_us = min(2**50, round(timeout_s * 1e6)) if self.fail_fast and timeout_s else None
        return self._asking(may_wait=timeout_s > 0, patience_us=patience_us), timeout_s

    @property
    def is_plain(self) -> bool:
        """Say whether it names neither a group's quotas nor a flow."""
        return not (self.quotas or self.tenant or self.repeats) and self.priority == DEFAULT

    def _asking(self, *, may_wait: bool, patience_us: int | None) -> Asking:
        return Asking(self.quotas, self.priority, self.tenant, may_wait, patience_us, self.repeats)


_PATIENT = Asking(may_wait=True)


def check_amounts(cost: Cost, dims: Mapping[str, int]) -> dict[str, int]:
    """Return a cost by dimension.

    Raises:
        ConfigError: an amount is wrong, or the cost is neither a mapping nor a number.
    """
    given = {"tokens": cost} if isinstance(cost, int) else cost or {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"A cost is a mapping of dimensions, or a number of tokens; got {cost!r:.60}."
        )
    return check_cost({**given, **dims})


def check_timeout(timeout: float | None) -> float | None:
    """Return how long to wait.

    Raises:
        ConfigError: it is no number from 0 on.
    """
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0
    ):
        raise ConfigError(
            f"timeout is seconds from 0 on, math.inf to wait for as long as it takes, or None for "
            f"what the priority says; got {timeout!r:.40}."
        )
    return timeout


class Wish(NamedTuple):
    """Hold the arguments that all verbs share, checked, but for the quotas' names."""

    amounts: dict[str, int]
    timeout_s: float | None
    priority: str
    tenant: str
    fail_fast: bool
    repeats: bool = False

    @classmethod
    def of(
        cls, cost: Cost, dims: Mapping[str, int], timeout: float | None, priority: str | None,
        tenant: str | None, *, fail_fast: bool, repeats: bool = False,
    ) -> Wish:  # fmt: skip
        """Check them.

        Raises:
            ConfigError: one of them is wrong.
        """
        amounts = check_amounts(cost, dims)
        if timeout is None and priority is None and not tenant:  # the hot path
            return cls(amounts, None, DEFAULT, "", fail_fast, repeats)
        if priority is not None and not isinstance(priority, str):
            raise ConfigError(f"priority= is a priority's name, got {priority!r:.60}.")
        return cls(
            amounts, check_timeout(timeout), priority or DEFAULT,
            check_tenant(tenant or ""), bool(fail_fast), repeats,
        )  # fmt: skip

    def at_once(self) -> Wish:
        """Return the same wish of a caller who does not wait."""
        return self._replace(timeout_s=0)


@dataclass(slots=True)
class Settings:
    """Hold what a limiter was made with; no I/O happens before its first use."""

    url: Any
    lease_s: float
    store_timeout_s: float
    quotas: dict[str, Quota] = field(default_factory=dict)
    choices: Choices = field(default_factory=Choices)
    forecasts: dict[str, Forecasts] = field(default_factory=dict)  # by unit

    @classmethod
    def of(cls, url: Any, quotas: Iterable[Quota], lease: float, store_timeout: float) -> Settings:
        """Check the arguments of a limiter.

        Raises:
            ConfigError: one of them is wrong.
        """
        url = os.environ.get("LIMITER_URL") or None if url is None else url
        if isinstance(url, str):
            connect.scheme(url)
        if not 1 <= lease <= 3600:
            raise ConfigError(f"lease is 1 to 3600 seconds, got {lease!r:.40}.")
        if not 0 < store_timeout <= 3600:
            raise ConfigError(
                f"store_timeout is above 0 and at most 3600 seconds, got {store_timeout!r:.40}."
            )
        made = cls(url, float(lease), float(store_timeout))
        for quota in quotas:
            made.add(quota)
        return made

    def add(self, quota: Quota) -> None:
        """Take one more quota to declare.

        Raises:
            ConfigError: it is none, or was given before with other limits.
        """
        if not isinstance(quota, Quota):
            raise ConfigError(f"quotas= takes Quota objects, got {quota!r:.60}.")
        if self.quotas.setdefault(quota.name, quota) != quota:
            raise ConfigError(f"The quota {quota.name!r} is given twice, with different limits.")

    def unit_of(self, name: str) -> str:
        """Return the unit of a quota; one that is not declared here is its own."""
        quota = self.quotas.get(name)
        return name if quota is None else quota.unit

    def forecasts_of(self, name: str) -> Forecasts:
        """Return what is known of the answers of calls on a quota, in this process."""
        return self.forecasts.setdefault(self.unit_of(name), Forecasts())

    def ask(self, names: Names, wish: Wish) -> Ask:
        """Say which quotas a call is for.

        Raises:
            ConfigError: a name is none, or the quotas belong to different groups.
        """
        if isinstance(names, str):  # the hot path
            unit = self.unit_of(names)
            return Ask(unit, () if unit == names else (names,), wish.amounts, wish.priority,
                       wish.tenant, wish.timeout_s, wish.fail_fast, wish.repeats)  # fmt: skip
        quotas = tuple(names)
        if not quotas or not all(isinstance(name, str) for name in quotas):
            raise ConfigError(f"Give a quota's name, or a list of names; got {names!r:.80}.")
        units = {self.unit_of(name) for name in quotas}
        if len(units) > 1:
            raise ConfigError(
                f"A call takes from several quotas at once only where they are of one group: "
                f"declare {', '.join(map(repr, quotas))} with the same group='…'."
            )
        unit = units.pop()
        return Ask(
            unit, () if quotas == (unit,) else quotas, wish.amounts,
            wish.priority, wish.tenant, wish.timeout_s, wish.fail_fast, wish.repeats,
        )  # fmt: skip

    def open_sync(self, user: int) -> SyncShell:
        """Open the store for threads."""
        store = opening.sync_store(self.url, self._round_trip_s, user)
        return SyncShell(store, self.quotas, self.forecasts, lease_s=self.lease_s,
                         patience_s=self.store_timeout_s)  # fmt: skip

    async def open_async(self, user: int) -> AsyncShell:
        """Open the store for the tasks of the running loop."""
        store = await opening.async_store(self.url, self._round_trip_s, user)
        return AsyncShell(store, self.quotas, self.forecasts, lease_s=self.lease_s,
                          patience_s=self.store_timeout_s)  # fmt: skip

    @property
    def _round_trip_s(self) -> float:
        return min(_ROUND_TRIP_S, self.store_timeout_s)
