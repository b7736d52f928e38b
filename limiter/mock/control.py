"""What is done to a running server on command: other limits, refusals, faults. Pure.

Commands are JSON objects. One that makes no sense changes nothing: it is read as a whole before
anything follows from it. Time is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from limiter.mock.call import BadBodyError

Fields = dict[str, Any]
Check = Callable[[str, Any], Any]
# The longest span, in seconds: thirty years are for ever, and a sum of two is still a time.
LONGEST_S = 10**9
RATES = ("error_rate", "overload_rate", "slow_down_rate", "cut_rate")


def is_charged(status: int) -> bool:
    """Say whether a call that fails with `status` has been admitted, and keeps its cost.

    A 400 has (13 of 13 recorded), and so has what the server could not finish. Of a call that was
    not let in (no valid key, no access, no money) nothing is known to be taken.
    """
    return status == 400 or status >= 500


@dataclass(slots=True)
class Span:
    """Hold for so many calls, or until a moment, whichever ends first; neither: until replaced."""

    count: int | None
    until_us: int | None

    def is_over(self, now_us: int) -> bool:
        """Say whether it holds for no further call."""
        return self.count == 0 or (self.until_us is not None and now_us >= self.until_us)

    def take(self) -> None:
        """Count a call for which it held."""
        if self.count is not None:
            self.count -= 1

    def told(self, now_us: int) -> Fields:
        """Say what is left of it."""
        left_s = None if self.until_us is None else (self.until_us - now_us) / 1_000_000
        return {"count": self.count, "for_s": left_s}


@dataclass(frozen=True, slots=True)
class Refusing:
    """Refuse calls whatever the levels.

    Attributes:
        headers: what is told of the wait, in so many words.
        is_cooldown: whether each call is told the wait that remains, as its provider tells waits.
    """

    span: Span
    status: int
    code: str
    message: str | None
    headers: dict[str, str]
    is_cooldown: bool

    def wait_us(self, now_us: int) -> int | None:
        """Give what remains of a cooldown, in whole milliseconds: who waits so long is served."""
        if not self.is_cooldown or self.span.until_us is None:
            return None
        return -(-(self.span.until_us - now_us) // 1_000) * 1_000

    def told(self, now_us: int) -> Fields:
        """Say how calls are refused, and what is left of it."""
        return {"status": self.status, "code": self.code, **self.span.told(now_us)}


@dataclass(frozen=True, slots=True)
class Failing:
    """Fail calls with a status."""

    span: Span
    status: int

    def told(self, now_us: int) -> Fields:
        """Say how calls fail, and what is left of it."""
        return {"status": self.status, **self.span.told(now_us)}


class Control:
    """Hold the commands in force; of each kind the last one counts."""

    def __init__(self) -> None:
        self._refusing: Refusing | None = None
        self._failing: Failing | None = None

    def refuse(self, refusing: Refusing) -> None:
        """Refuse calls from now on."""
        self._refusing = refusing

    def fail(self, failing: Failing) -> None:
        """Fail calls from now on."""
        self._failing = failing

    def refusing(self, now_us: int) -> Refusing | None:
        """Give the refusal in force."""
        refusing = self._refusing
        return None if refusing is None or refusing.span.is_over(now_us) else refusing

    def failing(self, now_us: int) -> Failing | None:
        """Give the failure in force."""
        failing = self._failing
        return None if failing is None or failing.span.is_over(now_us) else failing


def read_limits(raw: bytes) -> Fields:
    """Read {"rpm": 300, "tpm": null}, any subset; null is unlimited.

    Raises:
        BadBodyError: it makes no sense; so for the other commands.
    """
    return _read(raw, {"rpm": _at_least(1), "tpm": _at_least(1)})


def read_refusal(raw: bytes, now_us: int) -> Refusing:
    """Read how calls are to be refused, and for how long.

    `cooldown_s` refuses all calls for so long and tells each what remains of it. Otherwise the next
    `count` calls, or those of the next `for_s` seconds, are told `retry_after_s` and
    `retry_after_ms` as they stand here. A count of 0 ends it.
    """
    given = _read(
        raw,
        {
            "count": _at_least(0),
            "for_s": _seconds,
            "cooldown_s": _seconds,
            "retry_after_s": _seconds,
            "retry_after_ms": _at_least(0),
            "status": _status,
            "code": _text,
            "message": _text,
        },
    )
    cooldown_s = given.get("cooldown_s")
    others = ("count", "for_s", "retry_after_s", "retry_after_ms")
    if cooldown_s is not None and any(given.get(name) is not None for name in others):
        raise BadBodyError(f"cooldown_s excludes {', '.join(others)}: it ends itself", "cooldown_s")
    return Refusing(
        _span_of(
            given.get("count"), given.get("for_s") if cooldown_s is None else cooldown_s, now_us
        ),
        given.get("status") or 429,
        given.get("code") or "rate_limit_exceeded",
        given.get("message"),
        _hints(given),
        cooldown_s is not None,
    )


def _hints(given: Fields) -> dict[str, str]:
    headers = {}
    if (wait_s := given.get("retry_after_s")) is not None:
        headers["retry-after"] = str(int(wait_s) if wait_s == int(wait_s) else wait_s)
    if (wait_ms := given.get("retry_after_ms")) is not None:
        headers["retry-after-ms"] = str(wait_ms)
    return headers


def read_faults(raw: bytes, now_us: int) -> tuple[Fields, Failing | None]:
    """Read other shares of random faults, and a status with which calls are to fail.

    With `status`, the next `count` calls fail, or those of the next `for_s` seconds; a count of 0
    ends it. What is not named stays as it was.

    Returns:
        The shares that are named; the failure, or None if there is no word of one.
    """
    fields = dict.fromkeys(RATES, _share)
    given = _read(raw, {**fields, "status": _status, "count": _at_least(0), "for_s": _seconds})
    rates = {name: given[name] for name in RATES if name in given}
    failing = None
    if given.get("status") is not None:
        span = _span_of(given.get("count"), given.get("for_s"), now_us)
        failing = Failing(span, given["status"])
    elif given.keys() & {"count", "for_s"}:
        raise BadBodyError("count and for_s need a status: say with which calls fail", "status")
    return rates, failing


def _span_of(count: int | None, for_s: float | None, now_us: int) -> Span:
    return Span(count, None if for_s is None else now_us + round(for_s * 1_000_000))


def _read(raw: bytes, fields: Mapping[str, Check]) -> Fields:
    """Read an object that has some of `fields`; each checks its own value."""
    try:
        given = json.loads(raw)
    except ValueError as exc:
        raise BadBodyError("the command is no JSON: send an object") from exc
    if not isinstance(given, dict):
        raise BadBodyError("the command must be a JSON object")
    for name in given:
        if name not in fields:
            raise BadBodyError(f"{name} is not known: give some of {', '.join(fields)}", name)
    return {name: fields[name](name, value) for name, value in given.items()}


def _at_least(least: int) -> Check:
    def check(name: str, value: Any) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= least):
            raise BadBodyError(
                f"{name}={value!r:.40}: give a whole number from {least}, or null", name
            )
        return value

    return check


def _seconds(name: str, value: Any) -> Any:
    if value is not None and not _is_number(value):
        raise BadBodyError(
            f"{name}={value!r:.40}: give a number from 0 to {LONGEST_S}, or null", name
        )
    return value


def _share(name: str, value: Any) -> Any:
    if not _is_number(value) or value > 1:
        raise BadBodyError(f"{name}={value!r:.40}: give a share from 0 to 1", name)
    return value


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= LONGEST_S


def _status(name: str, value: Any) -> Any:
    if value is not None and not (isinstance(value, int) and 400 <= value <= 599):
        raise BadBodyError(f"{name}={value!r:.40}: give a status from 400 to 599", name)
    return value


def _text(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise BadBodyError(f"{name}={value!r:.40}: give a text, or null", name)
    return value
