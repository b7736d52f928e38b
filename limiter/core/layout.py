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
LAYOUT = 1


class Op(enum.IntEnum):
    """Name the operations of a batch."""

    ACQUIRE = 1
    SETTLE = 2
    CANCEL = 3
    RENEW = 4


_ACQUIRE = Op.ACQUIRE.value


class Status(enum.IntEnum):
    """Name what a script says of one entry."""

    GRANTED = 1
    WAITING = 2
    REFUSED = 3  # it would have to wait, and may not
    NEVER = 4  # the cost is above a limit's ceiling
    DONE = 5
    GONE = 6  # nothing is known by this id
    LATE = 7  # the owner was taken for lost in between; usage was settled all the same


class Outcome(enum.IntEnum):
    """Name what a script says of a whole batch."""

    DONE = 0
    FENCED = 1  # a batch with this number or a higher one has run
    STALE = 2  # the definition has changed
    UNDECLARED = 3


MAY_WAIT = 1
ASKED_BEFORE = 2

Entry = tuple[int | str, ...]


def acquire(n: int, cost: Sequence[int], *, flags: int, flow: str = "") -> Entry:
    """Write the entry that takes `cost` (by dimension) or joins the line."""
    return (Op.ACQUIRE.value, n, flags, flow, *cost)


def settle(n: int, actual: Sequence[int]) -> Entry:
    """Write the entry that replaces the estimate; −1: the estimate stands."""
    return (Op.SETTLE.value, n, *actual)


def cancel(n: int) -> Entry:
    """Write the entry that takes a ticket out of the line, or gives a reservation back."""
    return (Op.CANCEL.value, n)


def renew(n: int) -> Entry:
    """Write the entry that asks what has become of a call."""
    return (Op.RENEW.value, n)


class Result(NamedTuple):
    """Hold what became of one entry.

    After an acquire also how long it waits at most, and the levels that are left, in whole units
    and in the order of the limits.
    """

    status: int
    wait_us: int
    levels: tuple[int, ...]


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
    wake: str  # the prefix of the channels; no key

    def all(self) -> tuple[str, ...]:
        """Return the keys alone."""
        return (self.state, self.quota, self.tickets, self.line,
                self.holds, self.owners, self.numbers, self.lapsed)  # fmt: skip


def keys(quota: str) -> Keys:
    """Name the keys of a quota; all share its hash tag, so that they live on one node."""
    root = f"limiter:{LAYOUT}:{{{quota}}}:"
    names = ("state", "quota", "tickets", "line", "holds", "owners", "numbers", "lapsed", "wake:")
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
            if entry[0] == _ACQUIRE:
                end = at + 2 + limits
                results.append(Result(numbers[at], numbers[at + 1], tuple(numbers[at + 2 : end])))
                at = end
            else:
                results.append(Result(numbers[at], 0, ()))
                at += 1
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
