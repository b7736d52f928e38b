"""The operations, each written once: generators that yield what to wait for and return a value.

Pure. A generator yields a `Request`; the driver sends it and resumes the generator when it has come
to its end, throws `Expired` into it at the deadline, or the caller's own cancellation at any time.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from limiter.core import definition, layout
from limiter.core.definition import Definition
from limiter.core.layout import Op, Status
from limiter.core.line import Line
from limiter.core.quota import Limit, Quota
from limiter.core.request import NOBODY_ASKING, Asking, Batch, Request
from limiter.core.told import to_learn
from limiter.errors import (
    CircuitOpen,
    ConfigError,
    LimitExceeded,
    LineFull,
    NeverFits,
    RetriesSpent,
    WaitTimeout,
)
from limiter.providers.verdict import Outcome, Seen, Verdict

T = TypeVar("T")
REPORT_S = 0.01  # how long a report of a success waits for what the call used


class Expired(Exception):
    """Tell a generator that its deadline has come."""


def ask(line: Line, cost: Mapping[str, int], asking: Asking) -> Request:
    """Make the request for a reservation; it is not sent yet.

    Raises:
        ConfigError: the priority, or one of the quotas, is not declared.
    """
    line.definition.priority_index(asking.priority)
    if asking.quotas:
        line.definition.route(asking.quotas)
    return line.acquire(cost, asking)


def wait_gen(
    line: Line, request: Request, timeout_s: float | None
) -> Generator[Request, None, Request]:
    """Wait for a reservation, in the line if it must; one round trip when nobody is ahead.

    However it ends without a reservation, nothing stays behind: a ticket is taken out of the line,
    and a grant that raced with the end is given back.

    Raises:
        NeverFits, LineFull, WaitTimeout, StoreError.
    """
    try:
        yield request
    except Expired:
        line.abandon(request)
        raise timed_out(line.definition, request, timeout_s) from None
    except BaseException:
        line.abandon(request)
        raise
    return granted(line.definition, request, timeout_s)


def granted(agreed: Definition, request: Request, timeout_s: float | None) -> Request:
    """Return a request that was granted, or say why it was not.

    Raises:
        NeverFits, LineFull, WaitTimeout, StoreError.
    """
    if request.error:
        raise request.error
    match request.status:
        case Status.GRANTED:
            return request
        case Status.NEVER:
            raise never_fits(agreed, request)
        case Status.FULL:
            raise line_full(agreed, request)
        case Status.OPEN:
            raise circuit_open(agreed, request)
        case Status.SPENT:
            raise retries_spent(agreed)
        case _:
            raise timed_out(agreed, request, timeout_s)


def look_gen(n: int) -> Generator[Request, None, Request]:
    """Ask where a call of ours stands; one round trip."""
    request = Request(Op.LOOK, n)
    yield request
    if request.error:
        raise request.error
    return request


def patience_s(agreed: Definition, priority: str, timeout_s: float | None) -> float | None:
    """Return how long a call waits: what it says itself, else what its priority says.

    Raises:
        ConfigError: the priority is not declared.
    """
    if timeout_s is None:
        if priority not in agreed.patience_s:
            agreed.priority_index(priority)  # raises, and says which there are
        return agreed.patience_s[priority]
    return None if timeout_s == math.inf else timeout_s


def finish_gen(
    n: int, actual: Mapping[str, int] | None, quotas: tuple[str, ...] = ()
) -> Generator[Request, None, Status]:
    """Settle a reservation to `actual`, or cancel it (None); one round trip.

    A dimension that `actual` does not name keeps its estimate. When the caller is cancelled while
    this is under way, it happens all the same.
    """
    request = finish(n, actual, quotas)
    yield request
    if request.error:
        raise request.error
    return Status(request.status)


def finish(n: int, actual: Mapping[str, int] | None, quotas: tuple[str, ...] = ()) -> Request:
    """Make the request that ends a reservation on these quotas."""
    if actual is None:
        return Request(Op.CANCEL, n)
    return Request(Op.SETTLE, n, actual, Asking(quotas) if quotas else NOBODY_ASKING)


def report(n: int, verdict: Verdict, quotas: tuple[str, ...]) -> Request:
    """Make the request that says what the provider answered to a call on these quotas."""
    return Request(
        Op.REPORT, n, asking=Asking(quotas) if quotas else NOBODY_ASKING, verdict=verdict
    )


def is_urgent(request: Request) -> bool:
    """Say whether a report must be heard before anybody else starts a call."""
    return request.verdict is None or request.verdict.outcome != Outcome.SERVED


def told(request: Request) -> tuple[Seen, ...]:
    """Return what a report says of limits."""
    return request.verdict.seen if request.verdict else ()


def look_around(agreed: Definition, quota: str) -> Batch:
    """Make the batch that looks at a unit, and at what the provider told of one of its quotas."""
    route = agreed.route((quota,) if quota in agreed.quotas else ())
    return Batch(0, agreed.version, [], [layout.survey(), layout.tell(route)])


def end(steps: Generator[Request, None, T], interruption: BaseException | None = None) -> T:
    """Resume an operation whose request has ended, or was interrupted; return its value."""
    try:
        if interruption is None:
            next(steps)
        else:
            steps.throw(interruption)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("an operation asks once")


# --- definitions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Declare:
    """Ask the driver to replace the definition that was `seen`; None instead asks to read it."""

    seen: str
    text: str
    origin: str = "code"


Found = tuple[str, str, str]


def define_gen(
    unit: str, ours: Sequence[Quota], *, follow: bool
) -> Generator[Declare | None, Any, Definition]:
    """Agree with the store on the definition of a unit; one or two round trips.

    Our own declarations replace older ones that differ, unless those were made centrally, or we
    `follow`: then somebody declared after us, and the newest wins. A quota of ours that is missing
    from a group is written all the same.

    Raises:
        ConfigError: nobody has declared the unit, or it is a quota here and a group elsewhere.
    """
    _check_kind(unit, {quota.group is not None for quota in ours})
    while True:
        found: Found | None = yield None
        if found is None and not ours:
            raise ConfigError(
                f"The quota {unit!r} is not declared: pass quotas=[Quota({unit!r}, rpm=…, tpm=…)], "
                "or write it into limiter.toml."
            )
        known = None if found is None else definition.read(unit, found[0], found[1])
        central = found is not None and found[2] == "central"
        text = _declared(unit, _to_write(known, ours, follow=follow, central=central), known)
        if known is not None and text == known.text:
            return known
        replaced, version = yield Declare(known.version if known else "", text)
        if replaced:
            return definition.read(unit, version, text)


def learn_gen(
    unit: str, name: str, seen: Sequence[Seen]
) -> Generator[Declare | None, Any, Definition | None]:
    """Take over what the provider told of a quota's limits; two round trips. None: it is gone."""
    while True:
        found: Found | None = yield None
        if found is None:
            return None
        known = definition.read(unit, found[0], found[1])
        changed = lessons(known, name, seen)
        if not changed:
            return known
        text = definition.learn(known, name, changed)
        replaced, version = yield Declare(known.version, text, found[2])
        if replaced:
            return definition.read(unit, version, text)


def lessons(agreed: Definition, name: str, seen: Sequence[Seen]) -> list[Limit]:
    """Return the limits that the provider told otherwise than they are in force; [] mostly."""
    if not seen or name not in agreed.quotas:
        return []
    return to_learn(agreed.quota(name), agreed.as_declared(name), seen)


def pupil(line: Line, request: Request, now_us: int) -> str | None:
    """Return the name of the quota whose limits a report changes, if now is the time for it."""
    quotas, verdict = request.asking.quotas, request.verdict
    if verdict is None or len(quotas) > 1:
        return None  # of several quotas nobody knows which one an answer is about
    name = quotas[0] if quotas else line.definition.name
    changed = lessons(line.definition, name, verdict.seen)
    return name if changed and line.lessons.may_take(now_us) else None


def central_gen(quota: Quota) -> Generator[Declare | None, Any, Definition]:
    """Declare a quota centrally, whatever others declare; two round trips."""
    while True:
        found: Found | None = yield None
        known = None if found is None else definition.read(quota.unit, found[0], found[1])
        text = definition.write(quota, known)
        replaced, version = yield Declare(known.version if known else "", text, "central")
        if replaced:
            return definition.read(quota.unit, version, text)


def _check_kind(unit: str, groups: set[bool]) -> None:
    if len(groups) > 1:
        raise ConfigError(
            f"{unit!r} is declared as a quota and as a group of quotas: rename one of them."
        )


def _to_write(
    known: Definition | None, ours: Sequence[Quota], *, follow: bool, central: bool
) -> Sequence[Quota]:
    if known is None or not (follow or central):
        return ours
    _check_kind(known.name, {known.grouped, *(quota.group is not None for quota in ours)})
    return [] if central else [quota for quota in ours if quota.name not in known.quotas]


def _declared(unit: str, ours: Sequence[Quota], known: Definition | None) -> str:
    for quota in ours:
        known = definition.read(
            unit, known.version if known else "", definition.write(quota, known)
        )
    assert known is not None  # there is a quota of ours, or one was found
    return known.text


# --- messages -----------------------------------------------------------------------------------


def never_fits(agreed: Definition, request: Request) -> LimitExceeded:
    """Say which limit the cost is above, with both numbers."""
    amounts = agreed.cost(request.amounts, request.asking.quotas)
    shared = zip(agreed.limits, agreed.places, agreed.labels, strict=True)
    own = zip(agreed.own, agreed.own_places, agreed.own_labels, strict=True)
    for whose, limits in (("", shared), ("each tenant of ", own if request.asking.tenant else ())):
        for limit, place, label in limits:
            if amounts[place] > limit.ceiling:
                return NeverFits(
                    f"The call needs {amounts[place]:,} {limit.dimension}, but the limit {label!r} "
                    f"of {whose}the quota {agreed.name!r} never grants more than "
                    f"{limit.ceiling:,} at once. Make the call smaller, or raise the limit if the "
                    "provider grants more.",
                    quota=agreed.name, limit=label, cost=amounts[place], capacity=limit.ceiling,
                )  # fmt: skip
    return LimitExceeded(f"The quota {agreed.name!r} changed; try again.",
                         quota=agreed.name, wait_s=None)  # fmt: skip


def circuit_open(agreed: Definition, request: Request) -> CircuitOpen:
    """Say when a call is let through again."""
    wait_s, denied = request.wait_us / 1e6, request.ahead == 1
    fail = "are denied (key, billing, permission)" if denied else "fail"
    return CircuitOpen(
        f"Calls on the quota {agreed.name!r} {fail}, one after the other, whoever makes them, so this "
        f"one was not sent. One is let through to try in about {wait_s:.3g} s. Look at the last errors "
        "of these calls, or use another quota meanwhile (any_of=).",
        quota=agreed.name, wait_s=wait_s, denied=denied,
    )  # fmt: skip


def retries_spent(agreed: Definition) -> RetriesSpent:
    """Say that the call is not repeated now."""
    return RetriesSpent(
        f"The call on {agreed.name!r} is not repeated: repeats are a fifth of the fleet's calls already, "
        "which is as many as help. Let it fail, or come again later.",
        quota=agreed.name, wait_s=None,
    )  # fmt: skip


def line_full(agreed: Definition, request: Request) -> LineFull:
    """Say how many wait, and how long a call would."""
    name = request.asking.priority
    policy = agreed.priorities[agreed.place_of(name)]
    wait_s = request.wait_us / 1e6
    return LineFull(
        f"The line of {agreed.name!r} is full for the priority {name!r}: {policy.max_waiting:,} "
        f"calls wait, and one more would wait about {wait_s:.3g} s. Come again later, or raise "
        "max_waiting.",
        quota=agreed.name, priority=name, max_waiting=policy.max_waiting, wait_s=wait_s,
        ahead=request.ahead,
    )  # fmt: skip


def timed_out(agreed: Definition, request: Request, timeout_s: float | None) -> WaitTimeout:
    """Say what was needed, what is left, and when it would have been there."""
    short = [
        f"needs {amount:,} {limit.dimension}, {left:,} left"
        for limit, left, amount in _sides(agreed, request)
        if amount > 0 and left < min(amount, limit.capacity or 1)
    ]
    wait_s = request.wait_us / 1e6
    why = "; ".join(short) or "others are ahead in the line"
    when = f", free in about {wait_s:.3g} s" if wait_s else ""
    patience = "now" if not timeout_s else f"within {timeout_s:g} s"
    known = "that is known already, " if timeout_s and request.status == Status.REFUSED else ""
    option = ", or fail_fast=False if the estimates are too high" if known else ""
    return WaitTimeout(
        f"The quota {agreed.name!r} could not grant the call {patience}: {known}{why}{when}. "
        f"Wait longer (timeout={option}), send less, or raise the quota.",
        quota=agreed.name, wait_s=wait_s, ahead=request.ahead,
    )  # fmt: skip


def _sides(agreed: Definition, request: Request) -> list[tuple[Limit, int, int]]:
    amounts = agreed.cost(request.amounts, request.asking.quotas)
    levels = request.levels or (0,) * len(agreed.limits)
    return [
        (limit, left, amounts[place])
        for limit, left, place in zip(agreed.limits, levels, agreed.places, strict=False)
    ]


def levels_by_label(
    agreed: Definition, levels: Sequence[int], quotas: Sequence[str] = ()
) -> dict[str, int]:
    """Name the levels of these quotas by their limits."""
    if len(levels) < len(agreed.limits):
        return {}
    indexes, labels = agreed.labels_of(quotas)
    return {label: levels[i] for i, label in zip(indexes, labels, strict=True)}
