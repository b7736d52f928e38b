"""Whether a failed call is worth another attempt, and how long to pause before it.

Decisions only: nothing here sends or waits, and the clock and the dice can be given. What an answer
means is the parsers' business (`limiter.providers.judge`), and how long the fleet is held back that
of the line; who waits behind a brake needs no pause of its own.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from limiter.errors import CallFailed, ConfigError, LimiterError
from limiter.providers.verdict import Outcome, Verdict

_DOUBLINGS_MAX = 60  # beyond that a power of two is above every `backoff_max`
_ADVICE = "Come again later, or look at what the provider says."
_MESSAGE_MAX = 300  # characters of what the provider said, in a message of ours


@dataclass(frozen=True, slots=True)
class Retry:
    """Say how often, and for how long, a failed call is repeated.

    Before the n-th repeat of a call that failed without a word about waiting, the pause is drawn from
    0 to backoff x 2^(n-1) seconds ("full jitter", AWS Architecture Blog: least work of all in their
    study). Where the provider said how long to wait, the whole fleet waits in its line instead.

    Args:
        attempts: how many at most, the first one included; 1: nothing is repeated.
        within: seconds from when the first one was sent, in which another may still begin.
        backoff: the most of the first pause, in seconds.
        backoff_max: the most of any pause.

    Raises:
        ConfigError: a number makes no sense.
    """

    attempts: int = 5
    within: float = 300.0
    backoff: float = 0.5
    backoff_max: float = 30.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ConfigError(
                f"attempts= is a whole number from 1 on, the first attempt included; got "
                f"{self.attempts!r:.40}."
            )
        for name in ("within", "backoff", "backoff_max"):
            value = getattr(self, name)
            if type(value) not in {int, float} or not 0 <= value < math.inf:
                raise ConfigError(f"{name}= is seconds from 0 on, got {value!r:.40}.")

    @classmethod
    def of(cls, given: object) -> Retry | None:
        """Return what `retry=` says: True is the default, None and False are none.

        Raises:
            ConfigError: it is something else.
        """
        if given is None or given is False:
            return None
        if given is True:
            return cls()
        if not isinstance(given, cls):
            raise ConfigError(f"retry= is a Retry(…), True, or None for none; got {given!r:.60}.")
        return given

    def pause_s(self, repeat: int, jitter: float) -> float:
        """Return the pause before a repeat, of which `jitter` (0 to 1) is the part to take."""
        longest_s = self.backoff * 2.0 ** min(repeat - 1, _DOUBLINGS_MAX)
        return jitter * min(self.backoff_max, longest_s)


@dataclass(slots=True)
class Course:
    """Follow the attempts of one call: each is asked for, granted, and may fail.

    Attributes:
        attempts: how many were granted so far.
        waits_s: how long each repeat has waited, in its pause and in the line.
    """

    retry: Retry
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    attempts: int = 0
    waits_s: list[float] = field(default_factory=list)
    _stood_s: float = 0.0  # in the line, by all attempts
    _asked_s: float = 0.0
    _began_s: float = 0.0
    _failed_s: float = 0.0
    _why: str = ""

    def asks(self) -> None:
        """Take note that an attempt stands in the line from now on."""
        self._asked_s = self.clock()

    def granted(self) -> None:
        """Take note that an attempt may be sent."""
        now_s = self.clock()
        if self.attempts:
            self.waits_s.append(now_s - self._failed_s)
        else:
            self._began_s = now_s
        self._stood_s += now_s - self._asked_s
        self.attempts += 1

    def pause_s(self, verdict: Verdict) -> float | None:
        """Return how long to pause before another attempt; None: there will be none."""
        self._failed_s = self.clock()
        left_s = self._left_s()
        wait_s = (verdict.wait_us or 0) / 1e6
        is_braked = verdict.outcome is Outcome.REFUSED and wait_s > 0
        pause_s = 0.0 if is_braked else self.retry.pause_s(self.attempts, self.jitter())
        if self.attempts >= self.retry.attempts:
            self._why = f"Retry(attempts={self.attempts}) allows no more"
        elif max(pause_s, wait_s) >= left_s:
            self._why = (
                f"the next would have to wait {max(pause_s, wait_s):.3g} s, longer than the "
                f"{max(0.0, left_s):.3g} s that are left of Retry(within={self.retry.within:g})"
            )
        else:
            return pause_s
        return None

    def asking(self, patience_s: float | None) -> dict[str, Any]:
        """Return what a repeat asks of the line: to wait no longer than there is time.

        Args:
            patience_s: how long all attempts together may stand in the line; None: for ever.
        """
        self.asks()
        left_s = self._left_s()
        if patience_s is not None:
            left_s = min(left_s, patience_s - self._stood_s)
        return {"repeats": True, "timeout": max(0.0, left_s)}

    def _left_s(self) -> float:
        return self._began_s + self.retry.within - self.clock()

    def failure(
        self, quota: str, verdict: Verdict, response: Any = None, reason: LimiterError | None = None
    ) -> CallFailed:
        """Make the error that ends the call.

        Args:
            quota: its name.
            verdict: what the last answer meant.
            response: the last one, None where there was none.
            reason: why the line did not let the next attempt go.
        """
        numbers: Mapping[str, Any] = {
            "quota": quota,
            "attempts": self.attempts,
            "waits_s": tuple(self.waits_s),
            "status": verdict.status,
            "code": verdict.code,
            "response": response,
            "verdict": verdict,
        }
        why = f"the next was not let go: {reason}" if reason else f"{self._why}. {_ADVICE}"
        return CallFailed(
            f"The call on {quota!r} failed for good. {_last(verdict)} {self._tried()}; {why}",
            **numbers,
        )

    def _tried(self) -> str:
        if not self.waits_s:
            return "It was tried once"
        waits = ", ".join(f"{wait_s:.3g}" for wait_s in self.waits_s)
        return f"It was tried {self.attempts} times, with waits of {waits} s"


def _last(verdict: Verdict) -> str:
    """Say how the last attempt ended, in one sentence."""
    said = " ".join(verdict.message.split())[:_MESSAGE_MAX].rstrip(".")
    if not verdict.status:
        return f"There was no answer: {verdict.code}{f' ({said})' if said else ''}."
    return f"The last answer was {verdict.status} {verdict.code}: {said}."
