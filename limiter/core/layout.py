"""What is stored where, and what the scripts are sent and answer: keys, entries, replies.

The only module that formats a key or counts the fields of a reply. `lua/run.lua` is the contract.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgpack

from limiter.errors import ScriptError

# A part of every key. It grows when a release could misread what an older one wrote.
LAYOUT = 3


class Op(enum.IntEnum):
    """Name the operations of a batch."""

    ACQUIRE = 1
    SETTLE = 2
    CANCEL = 3
    RENEW = 4
    LOOK = 5
    SURVEY = 6
    REPORT = 7
    FORECAST = 8
    TELL = 9


_ACQUIRE, _SETTLE = Op.ACQUIRE.value, Op.SETTLE.value
_LOOK, _SURVEY = Op.LOOK.value, Op.SURVEY.value
_FORECAST, _TELL = Op.FORECAST.value, Op.TELL.value


class Status(enum.IntEnum):
    """Name what a script says of one entry."""

    GRANTED = 1
    WAITING = 2
    REFUSED = 3  # it would have to wait, and may not
    NEVER = 4  # the cost is above a limit's ceiling
    DONE = 5
    GONE = 6  # nothing is known by this id
    LATE = 7  # the owner was taken for lost in between; usage was settled all the same
    FULL = 8  # as many tickets of its priority wait as may
    OPEN = 9  # calls on the quota fail, so none is sent
    SPENT = 10  # too many calls are repeats


class Outcome(enum.IntEnum):
    """Name what a script says of a whole batch."""

    DONE = 0
    FENCED = 1  # a batch with this number or a higher one has run
    STALE = 2  # the definition has changed
    UNDECLARED = 3


MAY_WAIT = 1
ASKED_BEFORE = 2
PUNCTUAL = 4  # refuse at once what is expected to wait for longer than the caller would
REPEATED = 8  # the call repeats one that failed
NORMAL_WEIGHT = 100  # of a tenant, in hundredths


class Acquire(NamedTuple):
    """Hold the entry that takes a cost or joins the line; see `acquire`."""

    op: int
    n: int
    flags: int
    patience_us: int
    priority: int
    route: str
    tenant: str
    weight: int
    cost: tuple[int, ...]


class Settle(NamedTuple):
    """Hold the entry that replaces an estimate."""

    op: int
    n: int
    actual: tuple[int, ...]


class Row(NamedTuple):
    """Hold what an answer tells of one limit; see `lua/lib/rows.lua`."""

    limit: int  # its place, from 1
    num: int  # its rate, as the definition has it
    flags: int
    used: int = 0  # what the provider counts as used, in 1/den units
    slack: int = 0  # how exact that is
    least: int = 0  # the rate below which no ramp is needed; -1: it is none that is slowed down


AT_START, AT_END, MAY_RAISE, TOLD, UNCOUNTED, EXPLAINS, ADAPTIVE = 1, 2, 4, 8, 16, 32, 64


class Report(NamedTuple):
    """Hold the entry that says what the provider answered; see `report`."""

    op: int
    n: int
    outcome: int
    wait_us: int
    route: str
    rows: tuple[Row, ...]
    first: int


class Forecast(NamedTuple):
    """Hold the entry that tells the length of an answer and asks for a quantile; see `forecast`."""

    op: int
    n: int
    key: str
    bucket: int
    permille: int


Entry = Acquire | Settle | Report | Forecast | tuple[int, int] | tuple[int, int, str]


def acquire(
    n: int, cost: Sequence[int], *, flags: int, patience_us: int = -1, priority: int = 0,
    route: str = "", tenant: str = "", weight: int = NORMAL_WEIGHT,
) -> Acquire:  # fmt: skip
    """Write the entry that takes `cost` (by dimension) or joins the line.

    Args:
        n: the number of the call, unique for its owner.
        cost: units by dimension, in the definition's order.
        flags: MAY_WAIT, ASKED_BEFORE, PUNCTUAL, added up.
        patience_us: how long a punctual call would wait.
        priority: its place in the definition.
        route: which quotas of the unit the cost is for; "" where there is one.
        tenant: on whose behalf; "" for nobody's.
        weight: the tenant's, in hundredths.
    """
    return Acquire(_ACQUIRE, n, flags, patience_us, priority, route, tenant, weight, tuple(cost))


def settle(n: int, actual: Sequence[int]) -> Settle:
    """Write the entry that replaces the estimate; −1: the estimate stands."""
    return Settle(_SETTLE, n, tuple(actual))


def cancel(n: int) -> Entry:
    """Write the entry that takes a ticket out of the line, or gives a reservation back."""
    return (Op.CANCEL.value, n)


def renew(n: int) -> Entry:
    """Write the entry that asks what has become of a call."""
    return (Op.RENEW.value, n)


def look(n: int) -> Entry:
    """Write the entry that asks where a ticket stands."""
    return (_LOOK, n)


def survey() -> Entry:
    """Write the entry that asks how many tickets of each priority wait."""
    return (_SURVEY, 0)


def report(
    n: int, outcome: int, wait_us: int, route: str, rows: Sequence[Row], first: int = 0
) -> Report:
    """Write the entry that says what the provider answered to a call.

    Args:
        n: the call's number; 0: of none that is still held.
        outcome: how it ended, see `limiter.providers.Outcome`.
        wait_us: what the provider asks to wait; −1: it names no time.
        route: which quotas of the unit the call was for.
        rows: one for each of their limits.
        first: the number of the batch that it was sent in before; 0: none.
    """
    return Report(Op.REPORT.value, n, outcome, wait_us, route, tuple(rows), first)


def forecast(n: int, key: str, bucket: int, permille: int) -> Forecast:
    """Write the entry that asks how long answers become, and tells how long this one became.

    Args:
        n: the call's number; the answer is counted while its reservation is held, so only once.
        key: what calls have in common whose answers are alike in length.
        bucket: of the answer's length, see `limiter.core.sketch`; 0: only ask.
        permille: which quantile is asked for.
    """
    return Forecast(_FORECAST, n, key, bucket, permille)


def tell(route: str) -> Entry:
    """Write the entry that asks what is known of the provider."""
    return (_TELL, 0, route)


class Result(NamedTuple):
    """Hold what became of one entry.

    Attributes:
        status: a `Status`.
        wait_us: after an acquire or a look: how long it waits at most, by what is known now.
        ahead: after an acquire or a look: how many tickets go first.
        levels: after an acquire: what is left, in whole units and in the order of the limits; after a
            survey: by priority, the waiting tickets and how long the smallest call waits behind them;
            after a forecast: how many answers are known, and the bucket of the quantile (0: too few);
            after a tell: see `lua/lib/entries.lua`.
    """

    status: int
    wait_us: int = 0
    ahead: int = 0
    levels: tuple[int, ...] = ()


class Grant(NamedTuple):
    """Say that a ticket left the line: granted, or never to be."""

    n: int
    status: int
    levels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold the answer to one batch."""

    outcome: Outcome
    next_us: int = -1
    mine: bool = False
    waiting: int = 0
    held: int = 0
    levels: tuple[int, ...] = ()
    results: list[Result] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)


class Message(NamedTuple):
    """Hold a wake-up: grants, and when the head of the line fits if it is this owner's (or −1)."""

    next_us: int
    grants: list[Grant]


@dataclass(frozen=True, slots=True)
class Keys:
    """Hold the keys of one quota, in the order in which the scripts take them."""

    state: str
    quota: str
    tickets: str
    line: str
    holds: str
    owners: str
    numbers: str
    lapsed: str
    flows: str
    order: str
    tenants: str
    feedback: str
    outputs: str
    wake: str  # the prefix of the channels; no key

    def all(self) -> tuple[str, ...]:
        """Return the keys alone, as run.lua takes them."""
        return (self.state, self.quota, self.tickets, self.line, self.holds, self.owners,
                self.numbers, self.lapsed, self.flows, self.order, self.tenants, self.feedback,
                self.outputs)  # fmt: skip

    def declaring(self) -> tuple[str, ...]:
        """Return the keys that declare.lua takes."""
        return (self.state, self.quota, self.tenants)


def keys(quota: str) -> Keys:
    """Name the keys of a quota; all share its hash tag, so that they live on one node."""
    root = f"limiter:{LAYOUT}:{{{quota}}}:"
    names = ("state", "quota", "tickets", "line", "holds", "owners", "numbers", "lapsed", "flows",
             "order", "tenants", "feedback", "outputs", "wake:")  # fmt: skip
    return Keys(*(root + name for name in names))


def quota_of(key: str) -> str:
    """Return the quota's name from one of its keys."""
    return key[key.index("{") + 1 : key.index("}")]


# Matches the keys that hold definitions, for a scan.
QUOTA_KEYS = f"limiter:{LAYOUT}:{{*}}:quota"


def pack_entries(entries: Iterable[Entry]) -> bytes:
    """Write entries as the msgpack that Redis's cmsgpack reads: text as the old raw type."""
    packed: bytes = msgpack.packb(list(entries), use_bin_type=False)
    return packed


def parse_reply(text: str | bytes, entries: Sequence[Entry]) -> Reply:
    """Read the answer of run.lua to a batch of these entries.

    Raises:
        ScriptError: it is no such answer.
    """
    try:
        numbers = list(map(int, text.split()))
        if numbers[0] != Outcome.DONE:
            return Reply(Outcome(numbers[0]))
        _, next_us, mine, waiting, held, limits = numbers[:6]
        levels = tuple(numbers[6 : 6 + limits])
        at, results = 6 + limits, []
        for entry in entries:
            op = entry[0]
            if op == _ACQUIRE:
                end = at + 3 + limits
                levels_left = tuple(numbers[at + 3 : end])
                results.append(Result(numbers[at], numbers[at + 1], numbers[at + 2], levels_left))
            elif op == _LOOK:
                end = at + 3
                results.append(Result(numbers[at], numbers[at + 1], numbers[at + 2]))
            elif op == _SURVEY:
                end = at + 2 + 2 * numbers[at + 1]
                results.append(Result(numbers[at], levels=tuple(numbers[at + 2 : end])))
            elif op == _FORECAST:
                end = at + 3
                results.append(Result(numbers[at], levels=tuple(numbers[at + 1 : end])))
            elif op == _TELL:
                end = at + 6 + 6 * limits
                results.append(Result(numbers[at], levels=tuple(numbers[at + 1 : end])))
            else:
                end = at + 1
                results.append(Result(numbers[at]))
            at = end
        grants = _grants(numbers, at, limits)
    except (ValueError, IndexError) as exc:
        raise ScriptError(f"The store answered {text[:200]!r}, which is no reply of run.lua; "
                          "check that only this package writes to its keys.") from exc  # fmt: skip
    return Reply(Outcome.DONE, next_us, bool(mine), waiting, held, levels, results, grants)


def parse_message(text: str | bytes) -> Message:
    """Read a wake-up; what is none says nothing (the fallback poll finds out)."""
    try:
        numbers = list(map(int, text.split()))
        return Message(numbers[0], _grants([numbers[2], *numbers[3:]], 0, numbers[1]))
    except (ValueError, IndexError):
        return Message(-1, [])


def _grants(numbers: list[int], at: int, limits: int) -> list[Grant]:
    width = 2 + limits
    count = numbers[at]
    if len(numbers) != at + 1 + count * width:
        raise IndexError
    starts = range(at + 1, at + 1 + count * width, width)
    return [Grant(numbers[i], numbers[i + 1], tuple(numbers[i + 2 : i + width])) for i in starts]
