"""Every error that the limiter raises, as one small tree. The type says who must act.

    LimiterError
    ├── ConfigError            the caller: a quota, a URL or an argument is wrong
    ├── LimitExceeded          the one who waits: capacity is not there
    │   ├── NeverFits          … and never will be: the cost is above the limit itself
    │   ├── LineFull           … and as many wait for it as may
    │   ├── WaitTimeout        … and was not within the caller's patience
    │   ├── CircuitOpen        … because calls on the quota fail, whoever makes them
    │   ├── RetriesSpent       … for another attempt: too many of the fleet's calls are repeats
    │   └── QueueFull          … in a queue: as many calls wait there as may
    ├── CallFailed             the caller: every attempt that was worth it has failed
    ├── ReservationError       the caller: a reservation was used against its life cycle
    └── StoreError             the operator: Redis is away or refuses
        ├── StoreTimeout       … did not answer in time
        ├── StoreRefused       … will not have us
        └── ScriptError        us: a script failed; please report it

Errors pickle, carry their numbers as attributes, and end with what to do next.
"""

from __future__ import annotations

from typing import Any


class LimiterError(Exception):
    """Be the root of all errors of this package."""

    def __init__(self, message: str, **numbers: Any) -> None:
        """Keep `numbers` as attributes, so that code need not parse the message."""
        super().__init__(message)
        self.numbers = numbers

    def __getattr__(self, name: str) -> Any:
        numbers = self.__dict__.get("numbers", {})
        if name in numbers:
            return numbers[name]
        raise AttributeError(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args[0], self.numbers)


def _rebuild(kind: type[LimiterError], message: str, numbers: dict[str, Any]) -> LimiterError:
    return kind(message, **numbers)


class ConfigError(LimiterError, ValueError):
    """Say that a quota, a URL, a file or an argument is wrong, and how to mend it."""


class LimitExceeded(LimiterError):
    """Say that the capacity for a call is not there.

    Attributes:
        quota: the quota's name.
        wait_s: seconds until the call would be granted by what is known now; None if unknown.
    """


class NeverFits(LimitExceeded):
    """Say that a cost is above what a limit can ever grant; waiting would not help.

    Attributes:
        quota, limit: the names.
        cost, capacity: both numbers, in the limit's unit.
    """


class LineFull(LimitExceeded):
    """Say that as many calls of a priority wait as its `max_waiting` allows.

    Attributes:
        priority, max_waiting: of whom, and how many.
        wait_s, ahead: how long one more call would wait, and how many tickets go first.
    """


class WaitTimeout(LimitExceeded, TimeoutError):
    """Say that a call is not granted before its deadline; nothing of it is left behind.

    Raised at once when the expected wait is longer than `timeout`, else at the deadline.

    Attributes:
        wait_s: seconds until it would be granted by what is known now: a web service may answer
            429 with this as Retry-After.
        ahead: how many tickets go first.
    """


class CircuitOpen(LimitExceeded):
    """Say that calls on a quota fail one after the other (key, billing, outage), so none is sent.

    Attributes:
        wait_s: seconds until one call is let through to try.
        denied: they are denied (key, billing, permission), so that waiting alone mends nothing.
    """


class RetriesSpent(LimitExceeded):
    """Say that the fleet has used its retry budget, so that a failed call is not repeated now.

    Attributes:
        wait_s: None: it grows with the calls that succeed.
    """


class QueueFull(LimitExceeded):
    """Say that as many calls wait in a queue as may.

    Attributes:
        waiting: how many wait. put: how many of the job's calls are in.
    """


class CallFailed(LimiterError):
    """Say that a call failed for good: its attempts, or the time for them, are used up.

    Attributes:
        attempts: how many were made.
        waits_s: how long it waited before each repeat, in seconds.
        status, code: of the last answer; 0 and "" where there was none.
        response: the last response, None where there was none; it does not cross processes.
        verdict: what the last answer meant (`limiter.providers.Verdict`).
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args[0], {**self.numbers, "response": None})


class ReservationError(LimiterError):
    """Say that a reservation was used against its life cycle, or that its lease has ended."""


class StoreError(LimiterError):
    """Say that the store (Redis) is away, refuses, or answers with something else."""

    retry = True  # the same may succeed a little later


class StoreRefused(StoreError):
    """Say that the store will not have us: a wrong password, user or permission."""

    retry = False


class StoreTimeout(StoreError, TimeoutError):
    """Say that the store did not answer in time; the operation may or may not have happened."""


class ScriptError(StoreError):
    """Say that a script failed inside the store; a defect of this package or foreign data."""

    retry = False
