"""When a task comes back whose quota is far away. Decisions only: nothing here sends or waits.

A task that is put back holds no place in the line: a broker has it, and no process that could be asked
whether it still lives. So all who are refused at one moment are told nearly the same wait, however many
they are, and what keeps them from coming back at once is the spread.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from limiter.asking import check_timeout
from limiter.errors import CircuitOpen, ConfigError, LimiterError, LineFull, StoreError, WaitTimeout

WAIT_S = 1.0  # a round trip through a broker and a worker is not worth less
# Well below 30 and 60 minutes, after which RabbitMQ (its guide: "delivery acknowledgement timeout") and
# Celery on Redis ("visibility timeout") deliver a task once more that a worker holds unacknowledged.
LONGEST_S = 300.0
_SPREAD_S = 1.0  # the least to spread by: the line's wait may be a few milliseconds
_DOUBLINGS_MAX = 30  # beyond that every spread is above every `longest`


def check_patience(wait: float | None, longest: float) -> None:
    """Check what an adapter was given.

    Raises:
        ConfigError: `wait` is no number from 0 on, or `longest` none above 0.
    """
    check_timeout(wait)
    if isinstance(longest, bool) or not isinstance(longest, (int, float)) or not longest > 0:
        raise ConfigError(f"longest= is seconds above 0, got {longest!r:.40}.")
    if math.isinf(longest):
        raise ConfigError("longest= is a number of seconds: a broker holds no task for ever.")


def passes(reason: LimiterError) -> bool:
    """Say whether waiting mends why a call was not granted, so that its task is put back.

    A store that is away is such a reason, as a line is that is long: no task of a fleet should fail
    for it.
    """
    if isinstance(reason, StoreError):
        return reason.retry
    return isinstance(reason, (CircuitOpen, LineFull, WaitTimeout))


def delay_s(
    reason: LimiterError,
    times: int,
    longest_s: float,
    jitter: Callable[[], float] = random.random,
) -> float:
    """Return in how many seconds a task comes back.

    Not before its expected wait is over, and then spread over as much time again, twice as much each
    time that it was put back: of n tasks that wait for the same quota, each comes back some log2(n)
    times (12 of 1,000, 5 of 100, in a simulation with one call a second), and the quota is in use for 60
    to 90 % of the time until the last one is done. Wider or narrower steps trade one for the other.
    Both parts stay below half of `longest_s`, so that tasks are spread there, too.

    Args:
        reason: why it was not granted.
        times: how often it was put back before.
        longest_s: the most to return.
        jitter: a number from 0 to 1.
    """
    wait_s = reason.numbers.get("wait_s") or 0.0
    spread_s = max(_SPREAD_S, wait_s) * 2.0 ** min(times, _DOUBLINGS_MAX)
    return float(min(wait_s, longest_s / 2) + jitter() * min(spread_s, longest_s / 2))
