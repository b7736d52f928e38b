"""Who goes first, as the caller writes it: priorities with their policies, tenants with weights.

Pure values: what a policy means for the limits of a quota is calculated in `policy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from limiter.core.exact import number, seconds, whole
from limiter.errors import ConfigError

DEFAULT = "default"  # the priority of calls that name none
EVEN = 100  # the weight, in hundredths, of a tenant that no quota names
_NAME = re.compile(r"[a-z0-9_-]{1,48}")
_LEVEL_MAX = 1_000
_WAITING_MAX = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Priority:
    """Name a kind of calls, and say what it may use and for how long it waits.

    Attributes:
        name: 1 to 48 lower-case letters, digits, `-` and `_`. Calls that name no priority are
            `default`; declare one of that name to give them a policy.
        level: from −1000 to 1000; higher goes first. Between two priorities of one level the head
            that came first goes first.
        floor: from 0 to below 1, a part of each limit's capacity. Below it, calls of this priority
            do not draw a limit: what is left there is headroom for those of higher level.
        share: above 0, at most 1: this part of each limit's rate (and of its burst) is the most
            that the calls of this priority get. None: no such bound.
        strict: keep floor and share even while nobody else wants them. Otherwise both are lent to
            this priority then, so that nothing is left unused.
        max_waiting: so many calls of this priority may wait, the next one is refused at once; 0:
            none waits. None: any number.
        timeout: how many seconds a call waits that names no timeout itself. None: as long as it
            takes.
        promote_after_s: after so many seconds of waiting without a grant, the next call of this
            priority goes before all others. None: never.
        lend_after_s: how many seconds no call of a higher level must have come before the floor
            is lent.

    Spans are kept in whole microseconds.

    Raises:
        ConfigError: a value is out of range; the message says which and what to write.
    """

    name: str
    level: int = 0
    floor: float = 0.0
    share: float | None = None
    strict: bool = False
    max_waiting: int | None = None
    timeout: float | None = None
    promote_after_s: float | None = None
    lend_after_s: float = 10.0

    def __post_init__(self) -> None:
        _check_name(self.name)
        whole(self.level, self._what("level"), low=-_LEVEL_MAX, high=_LEVEL_MAX)
        if not isinstance(self.strict, bool):
            raise ConfigError(f"{self._what('strict')} is True or False, got {self.strict!r:.40}.")
        if self.max_waiting is not None:
            whole(self.max_waiting, self._what("max_waiting"), low=0, high=_WAITING_MAX)
        self._keep_parts()
        self._keep_spans()

    def _keep_parts(self) -> None:
        self._keep("floor", number(self.floor, self._what("floor"), "from 0 to below 1",
                                   lambda v: 0 <= v < 1))  # fmt: skip
        if self.share is not None:
            self._keep("share", number(self.share, self._what("share"), "above 0, at most 1",
                                       lambda v: 0 < v <= 1))  # fmt: skip

    def _keep_spans(self) -> None:
        self._keep("lend_after_s", seconds(self.lend_after_s, self._what("lend_after_s")))
        if self.timeout is not None:
            self._keep("timeout", seconds(self.timeout, self._what("timeout")))
        if self.promote_after_s is not None:
            what = self._what("promote_after_s")
            self._keep("promote_after_s", seconds(self.promote_after_s, what, least_us=1))

    def _keep(self, field: str, value: float) -> None:
        object.__setattr__(self, field, value)

    def _what(self, field: str) -> str:
        return f"{field} of the priority {self.name!r}"


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"A priority's name is 1 to 48 lower-case letters, digits, '-' and '_', "
            f"got {name!r:.80}."
        )


class Tenants(Mapping[str, float]):
    """Hold the weights of tenants by name. It cannot change, so a quota that has it can be hashed.

    Raises:
        ConfigError: a name or a weight is wrong.
    """

    __slots__ = ("_weights",)

    def __init__(self, weights: Mapping[str, float]) -> None:
        if not isinstance(weights, Mapping):
            raise ConfigError(
                f"tenants= is a mapping of weights by name, as {{'search': 2.0}}, "
                f"got {weights!r:.60}."
            )
        self._weights = {_named(name): _weight(name, weights[name]) for name in weights}

    def __getitem__(self, name: str) -> float:
        return self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __hash__(self) -> int:
        return hash(frozenset(self._weights.items()))

    def __repr__(self) -> str:
        return repr(self._weights)


NOBODY = Tenants({})


def check_tenant(name: object) -> str:
    """Return a tenant's name, or say what one is; `""` stands for no tenant.

    Raises:
        ConfigError: it is no text of at most 200 printable characters.
    """
    if isinstance(name, str) and len(name) <= 200 and name.isprintable():
        return name
    raise ConfigError(
        f"A tenant's name is a text of 1 to 200 printable characters, got {name!r:.60}."
    )


def hundredths(weight: float) -> int:
    """Return a tenant's weight as the scripts calculate with it: 1 to 10000, 100 for 1.0."""
    return round(weight * EVEN)


def _named(name: object) -> str:
    if name == "":
        raise ConfigError("A tenant needs a name: '' stands for calls that have no tenant.")
    return check_tenant(name)


def _weight(name: object, value: object) -> float:
    what = f"The weight of the tenant {name!r:.60}"
    return number(value, what, "from 0.01 to 100", lambda v: 0.01 <= v <= 100)
