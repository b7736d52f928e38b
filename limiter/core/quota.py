"""Limits and quotas as the caller writes them, and the integers that the scripts calculate with.

Pure values: nothing here reads a clock or a file. A `Limit` proves, when it is made, that no
product in a script can leave the range in which a double is an exact integer (2^53).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

from limiter.core.exact import DAY_S, LONGEST_S, SCALED_MAX, below, decimal, positive, whole
from limiter.core.priority import DEFAULT, NOBODY, Priority, Tenants
from limiter.errors import ConfigError

Burst = Literal["full", "smooth"] | float
Cost = Mapping[str, int]

HEADROOM_S = 0.25
MINUTE_S = 60.0
_US = 1_000_000

# A pace below the full rate is a smaller numerator (`lua/lib/pace.lua`): with so many steps there is one
# for each thousandth. As far as it leaves room for a debt of a thousand full levels.
_STEPS, _STEPS_MAX = 1000, SCALED_MAX // 1024

_PERIOD_WORDS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86_400.0: "day"}
_DIMENSION = re.compile(r"[a-z][a-z0-9_]{0,47}")
_LIMITS = "limits= is a list, as [Limit('images', 50)]"
_PRIORITIES = "priorities= is a list, as [Priority('batch', level=-10)]"

T = TypeVar("T")


class Share(NamedTuple):
    """A bucket beside a limit, for the part of it that one priority may use."""

    num: int
    den: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Limit:
    """Say how much of one dimension may be used per period, and how much of it at once.

    Attributes:
        dimension: `requests`, `tokens`, `input_tokens`, `output_tokens`, `images`,
            `concurrency`, or a name of your own (lower case, digits, underscores).
        amount: units per period, or units at a time when `per` is None.
        per: the period in seconds. None makes a limit that does not refill: what a call takes
            comes back when the call ends (`concurrency`).
        burst: how much may be used at once. `"full"`: the whole amount but `headroom`, as a
            provider with a continuously refilled bucket allows. `"smooth"`: nothing; calls leave
            paced at the rate, as a provider with windows needs. A number: so many seconds of the
            rate.
        headroom: seconds of the rate that a full burst leaves unused, rounded up to a unit.
            Calls reach the provider later than they are granted, and not all equally late: its
            bucket stays full until the first one arrives, so that a call which travels faster
            than that one would come too early. The rate itself is used to the full.
        adaptive: the amount is a ceiling, and how much of it the provider really grants is found
            out: cut when calls are refused (429), grown while calls wait (AIMD: Chiu, Jain, 1989).
            Slots begin with one. For providers whose limits nobody knows.

    Raises:
        ConfigError: a value is out of range; the message says which and what to write.
    """

    dimension: str
    amount: int
    per: float | None = MINUTE_S
    burst: Burst = "full"
    headroom: float = HEADROOM_S
    adaptive: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.dimension, str) or not _DIMENSION.fullmatch(self.dimension):
            raise ConfigError(
                f"A dimension is 1 to 48 lower-case letters, digits and underscores, "
                f"got {self.dimension!r:.80}."
            )
        whole(self.amount, f"The amount of {self.dimension!r}", low=1, high=SCALED_MAX)
        if self.per is not None:
            positive(self.per, f"The period of {self.dimension!r} (seconds)", high=LONGEST_S)
        self._check_burst()
        if self.headroom != 0:
            positive(self.headroom, "headroom (seconds)", high=DAY_S)
        if not isinstance(self.adaptive, bool):
            raise ConfigError(f"adaptive is True or False, got {self.adaptive!r:.40}.")
        if self.capacity > SCALED_MAX:
            raise ConfigError(f"A burst of {self.capacity} {self.dimension} is above 2^50.")
        if self.per is not None and not self.rate:
            raise ConfigError(
                f"The burst of {self.dimension!r} is too long for so slow a rate: shorten burst."
            )

    def _check_burst(self) -> None:
        words: tuple[object, ...] = ("full", "smooth")
        if isinstance(self.burst, str) and self.burst not in words:
            raise ConfigError(
                f"burst is 'full', 'smooth' or a number of seconds, got {self.burst!r:.40}."
            )
        if self.burst not in words:
            positive(self.burst, "burst (seconds)", high=LONGEST_S)
        if self.per is None and self.burst != "full":
            raise ConfigError(
                f"{self.dimension!r} has no period, so it has no burst: leave burst out."
            )

    @property
    def label(self) -> str:
        """Name the limit within its quota: `tokens/minute`, `requests/day`, `concurrency`."""
        if self.per is None:
            return self.dimension
        word = _PERIOD_WORDS.get(self.per)
        return f"{self.dimension}/{word or f'{self.per:g}s'}"

    @property
    def capacity(self) -> int:
        """Say how many units a full bucket holds."""
        if self.per is None:
            return 1 if self.adaptive else self.amount
        if self.burst == "full":
            kept = math.ceil(self.amount * Fraction(self.headroom) / Fraction(self.per))
            return max(1, self.amount - kept)
        if self.burst == "smooth":
            return 0
        return int(self.amount * Fraction(float(self.burst)) / Fraction(self.per))

    @property
    def ceiling(self) -> int:
        """Say the largest cost that can ever be granted.

        A provider refuses a call that is larger than its whole limit. A smaller burst does not
        make a call impossible: it is granted from a full bucket, which then is in debt.
        """
        return max(self.amount, self.capacity)

    @property
    def rate(self) -> Fraction:
        """Say how many units are refilled per microsecond, never more than amount/per.

        The denominator is bounded so that `ceiling * denominator` stays exact. For the usual
        numbers nothing is rounded; where it must be, it is to the next such fraction below.
        """
        if self.per is None:
            return Fraction(0)
        return below(Fraction(self.amount) / (Fraction(self.per) * _US), SCALED_MAX // self.ceiling)

    @property
    def scaled(self) -> tuple[int, int]:
        """Return the rate as the scripts count by it: num and den, not in lowest terms.

        500 a minute are 1/120,000 in a microsecond, of which no script could use a part.
        """
        return _scaled(self)

    def floor(self, part: float) -> int:
        """Say how many units are left in the bucket when only this part of its capacity is."""
        return int(self.capacity * decimal(part))

    def share(self, part: float) -> Share:
        """Say what bucket grants this part of the limit, never more of it.

        The denominator is bounded as that of `rate` is. Of slots there is one at least: a share
        below it would refuse every call.

        Raises:
            ConfigError: the part is so small that it would never refill.
        """
        exact = decimal(part)
        if self.per is None:
            return Share(0, 1, max(1, int(self.amount * exact)))
        rate = below(self.rate * exact, SCALED_MAX // self.ceiling)
        if not rate:
            raise ConfigError(f"A share of {part:g} of {self.label!r} is too small: raise share.")
        return Share(rate.numerator, rate.denominator, int(self.capacity * exact))


@lru_cache(maxsize=4096)
def _scaled(limit: Limit) -> tuple[int, int]:
    """Work it out once: each answer of a provider is compared with its limits by it."""
    num, den = limit.rate.numerator, limit.rate.denominator
    if not num:
        return num, den
    finer = max(1, min(-(-_STEPS // num), _STEPS_MAX // (limit.ceiling * den)))
    return num * finer, den * finer


# What a quota without numbers has until the provider has told some: one call, and more as they succeed.
PROBE = Limit("concurrency", 1000, None, adaptive=True)


@dataclass(frozen=True, slots=True, init=False)
class Quota:
    """Name what a provider grants, with all its limits; a call takes from each of them or none.

    Without any number its limits are learned: one call goes ahead, and what its answer's headers tell
    is the limits from then on. Where they tell none, so many calls are made at a time as the
    provider does not refuse.

    Args:
        name: 1 to 200 characters, without braces or control characters (it becomes a part of
            Redis keys).
        rpm, rpd: requests per minute and per day.
        tpm, tpd: tokens per minute and per day.
        concurrency: calls under way at a time, over all processes.
        limits: any other `Limit`.
        burst, headroom, adaptive: for the limits above that are given by number; see `Limit`.
        models: patterns (`gpt-4o-mini*`) of the models that share this quota.
        priorities: the policies of calls by name; see `Priority`.
        tenants: weights from 0.01 to 100 by tenant name. Tenants of one priority are served in
            proportion to their weights; one that is not named here weighs 1.
        tenant_limits: limits that each tenant has for itself, beside those of the quota.
        group: the name of a group. Quotas of one group stand in one line, so that a call can
            take from several of them at once; they share their priorities.

    Raises:
        ConfigError: a name or number is wrong, something is there twice, or a quota of a group has
            no limit.
    """

    name: str
    limits: tuple[Limit, ...]
    models: tuple[str, ...] = field(default=())
    priorities: tuple[Priority, ...] = field(default=())
    tenants: Tenants = field(default=NOBODY)
    tenant_limits: tuple[Limit, ...] = field(default=())
    group: str | None = field(default=None)
    learns: bool = field(default=False, init=False)

    def __init__(
        self,
        name: str,
        *,
        rpm: int | None = None,
        rpd: int | None = None,
        tpm: int | None = None,
        tpd: int | None = None,
        concurrency: int | None = None,
        limits: Sequence[Limit] = (),
        burst: Burst = "full",
        headroom: float = HEADROOM_S,
        adaptive: bool = False,
        models: Sequence[str] = (),
        priorities: Sequence[Priority] = (),
        tenants: Mapping[str, float] = NOBODY,
        tenant_limits: Sequence[Limit] = (),
        group: str | None = None,
    ) -> None:
        numbered = [
            Limit(dimension, amount, per, burst, headroom, adaptive)
            for dimension, amount, per in (
                ("requests", rpm, MINUTE_S),
                ("tokens", tpm, MINUTE_S),
                ("requests", rpd, DAY_S),
                ("tokens", tpd, DAY_S),
            )
            if amount is not None
        ]
        if concurrency is not None:
            numbered.append(Limit("concurrency", concurrency, None, adaptive=adaptive))
        numbered += _listed(limits, Limit, _LIMITS)
        keep = object.__setattr__
        keep(self, "name", _key_name(name, "A quota's name"))
        keep(self, "limits", tuple(numbered) or (PROBE,))
        keep(self, "learns", self.limits == (PROBE,))
        keep(self, "models", _patterns(models))
        keep(self, "priorities", _listed(priorities, Priority, _PRIORITIES))
        keep(self, "tenants", tenants if isinstance(tenants, Tenants) else Tenants(tenants))
        keep(self, "tenant_limits", _listed(tenant_limits, Limit, f"tenant_{_LIMITS}"))
        keep(self, "group", None if group is None else _key_name(group, "A group's name"))
        self._check()

    def limited_by(self, limits: Sequence[Limit]) -> Quota:
        """Return the same quota with other limits, as a provider told them."""
        made: Quota = object.__new__(Quota)
        for each in fields(self):
            object.__setattr__(made, each.name, getattr(self, each.name))
        object.__setattr__(made, "limits", tuple(limits))
        return made

    def policy(self, priority: str | None) -> Priority | None:
        """Return what is declared of a priority, None where nothing is; None asks for the default."""
        name = priority or DEFAULT
        return next((each for each in self.priorities if each.name == name), None)

    def _check(self) -> None:
        what = f"The quota {self.name!r}"
        if self.learns and self.group is not None:
            raise ConfigError(f"{what} has no limit, and those of a group are not learned: give rpm=, "
                              "tpm=, … or limits=[…].")  # fmt: skip
        _once([limit.label for limit in self.limits], f"{what} has the limit")
        _once([limit.label for limit in self.tenant_limits], f"{what} has the tenant limit")
        _once([each.name for each in self.priorities], f"{what} has the priority")
        self._check_shares()

    def _check_shares(self) -> None:
        parts = [each.share for each in self.priorities if each.share is not None]
        for limit in self.limits:
            for part in parts:
                limit.share(part)  # raises where it cannot be counted

    @property
    def unit(self) -> str:
        """Name what is one line and one state in the store: the group, else the quota itself."""
        return self.name if self.group is None else self.group


def _key_name(name: object, what: str) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= 200 or not name.isprintable():
        raise ConfigError(f"{what} is a text of 1 to 200 printable characters, got {name!r:.60}.")
    if "{" in name or "}" in name:
        raise ConfigError(
            f"{what} must hold no braces (they mark the hash tag of its Redis keys), "
            f"got {name!r:.60}."
        )
    return name


def _once(names: Sequence[str], what: str) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"{what} {min(twice)!r} twice: keep one.")


def _listed(values: object, kind: type[T], what: str) -> tuple[T, ...]:
    listed = tuple(values) if isinstance(values, Iterable) else (values,)
    if isinstance(values, Iterable) and all(isinstance(each, kind) for each in listed):
        return listed
    raise ConfigError(f"{what}, got {values!r:.60}.")


def _patterns(models: Sequence[str]) -> tuple[str, ...]:
    if isinstance(models, str) or not all(isinstance(model, str) and model for model in models):
        raise ConfigError("models= is a list of names or patterns, as ['gpt-4o-mini*'].")
    return tuple(models)


def check_cost(cost: Mapping[str, object]) -> dict[str, int]:
    """Return `cost` with whole numbers, or say which amount is wrong.

    Raises:
        ConfigError: an amount is negative, no whole number, or above 2^50.
    """
    checked: dict[str, int] = {}
    for name, amount in cost.items():
        if type(amount) is int and 0 <= amount <= SCALED_MAX:  # the hot path
            checked[name] = amount
        else:
            checked[name] = whole(amount, f"The cost in {name!r}", low=0, high=SCALED_MAX)
    return checked
