"""When tasks come back: laws of numbers, without a broker."""

from __future__ import annotations

import heapq
import math
import random

import pytest

from limiter import CircuitOpen, ConfigError, LineFull, NeverFits, StoreError, WaitTimeout
from limiter.contrib.delays import check_patience, delay_s, passes
from limiter.errors import StoreRefused

LONGEST_S = 300.0


def late(wait_s: float | None) -> WaitTimeout:
    return WaitTimeout("later", wait_s=wait_s)


@pytest.mark.parametrize("wait_s", [0.0, 0.3, 2.0, 90.0, 1e6, None])
@pytest.mark.parametrize("times", [0, 3, 10_000])
def test_a_task_comes_back_between_its_wait_and_the_longest(
    wait_s: float | None, times: int
) -> None:
    """Not before the expected wait is over, unless that is beyond the bound, and never beyond that."""
    least, most = (delay_s(late(wait_s), times, LONGEST_S, lambda at=at: at) for at in (0.0, 1.0))
    assert least == min(wait_s or 0.0, LONGEST_S / 2)
    assert least + 1.0 <= most <= LONGEST_S


def test_the_spread_doubles_with_each_time() -> None:
    """A crowd that was too large for its spread gets one twice as wide."""
    spreads = [delay_s(late(2.0), times, LONGEST_S, lambda: 1.0) - 2.0 for times in range(5)]
    assert spreads == [2.0, 4.0, 8.0, 16.0, 32.0]


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_a_crowd_comes_back_a_few_times_and_leaves_little_unused(n: int) -> None:
    """Of n tasks of a quota that grants one a second, each is put back some log2(n) times.

    All of them take less than twice as long as they would in line.
    """
    dice, backs, free_s = random.Random(1), 0, 0.0
    due = [(0.0, number, 0) for number in range(n)]
    while due:
        now_s, number, times = heapq.heappop(due)
        wait_s = max(free_s - now_s, 0.0)
        if wait_s <= 1.0:  # it may stand in line for a second
            free_s = now_s + wait_s + 1.0
            continue
        backs += 1
        back_s = now_s + delay_s(late(wait_s), times, LONGEST_S, dice.random)
        heapq.heappush(due, (back_s, number, times + 1))
    assert backs <= n * (2.5 + math.log2(n))
    assert free_s <= 2 * n


def test_what_waiting_mends_is_put_back_and_nothing_else() -> None:
    """A line, a circuit and a store that is away pass; a cost, an argument and a password do not."""
    assert all(map(passes, (late(1.0), LineFull(""), CircuitOpen(""), StoreError(""))))
    assert not any(map(passes, (NeverFits(""), ConfigError(""), StoreRefused(""))))


@pytest.mark.parametrize(
    ("wait", "longest"), [(-1, 300), ("1", 300), (1, 0), (1, math.inf), (1, math.nan), (1, True)]
)
def test_wrong_patience_is_refused(wait: object, longest: object) -> None:
    """What is no number of seconds is said where it is written."""
    with pytest.raises(ConfigError):
        check_patience(wait, longest)
