"""The operations, each written once: generators that yield what to wait for and return a value.

Pure. A generator yields a `Request`; the driver sends it and resumes the generator when it has come
to its end, throws `Expired` into it at the deadline, or the caller's own cancellation at any time.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from limiter.core import definition
from limiter.core.definition import Definition
from limiter.core.layout import Op, Status
from limiter.core.line import Line, Request
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError, LimitExceeded, NeverFits, WaitTimeout

T = TypeVar("T")


class Expired(Exception):
    """Tell a generator that its deadline has come."""


def acquire_gen(
    line: Line, cost: Mapping[str, int], timeout_s: float | None
) -> Generator[Request, None, Request]:
    """Reserve `cost`, waiting in the line for it; one round trip when nobody is ahead.

    However it ends without a reservation, nothing stays behind: a ticket is taken out of the line,
    and a grant that raced with the end is given back.

    Raises:
        NeverFits, WaitTimeout, StoreError.
    """
    request = line.acquire(cost, may_wait=timeout_s is None or timeout_s > 0)
    try:
        yield request
    except Expired:
        line.abandon(request)
        raise timed_out(line.definition, request, timeout_s) from None
    except BaseException:
        line.abandon(request)
        raise
    if request.error:
        raise request.error
    if request.status == Status.GRANTED:
        return request
    if request.status == Status.NEVER:
        raise never_fits(line.definition, request.amounts)
    raise timed_out(line.definition, request, timeout_s)


def finish_gen(n: int, actual: Mapping[str, int] | None) -> Generator[Request, None, Status]:
    """Settle a reservation to `actual`, or cancel it (None); one round trip.

    A dimension that `actual` does not name keeps its estimate. When the caller is cancelled while
    this is under way, it happens all the same.
    """
    request = finish(n, actual)
    yield request
    if request.error:
        raise request.error
    return Status(request.status)


def finish(n: int, actual: Mapping[str, int] | None) -> Request:
    """Make the request that ends a reservation."""
    return Request(Op.CANCEL, n) if actual is None else Request(Op.SETTLE, n, actual)


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


def never_fits(agreed: Definition, cost: Mapping[str, int]) -> LimitExceeded:
    """Say which limit the cost is above, with both numbers."""
    amounts = agreed.cost(cost)
    for limit in agreed.limits:
        amount = amounts[agreed.dims.index(limit.dimension)]
        if amount > limit.ceiling:
            return NeverFits(
                f"The call needs {amount:,} {limit.dimension}, but the limit {limit.label!r} of "
                f"the quota {agreed.name!r} never grants more than {limit.ceiling:,} at once. "
                "Make the call smaller, or raise the limit if the provider grants more.",
                quota=agreed.name, limit=limit.label, cost=amount, capacity=limit.ceiling,
            )  # fmt: skip
    return LimitExceeded(f"The quota {agreed.name!r} changed; try again.",
                         quota=agreed.name, wait_s=None)  # fmt: skip


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
    return WaitTimeout(
        f"The quota {agreed.name!r} could not grant the call {patience}: {why}{when}. "
        "Wait longer (timeout=), send less, or raise the quota.",
        quota=agreed.name, wait_s=wait_s,
    )  # fmt: skip


def _sides(agreed: Definition, request: Request) -> list[tuple[Limit, int, int]]:
    amounts = agreed.cost(request.amounts)
    levels = request.levels or (0,) * len(agreed.limits)
    return [
        (limit, left, amounts[agreed.dims.index(limit.dimension)])
        for limit, left in zip(agreed.limits, levels, strict=False)
    ]


def levels_by_label(agreed: Definition, levels: Sequence[int]) -> dict[str, int]:
    """Name each level by its limit."""
    return dict(zip(agreed.labels, levels, strict=False))
