"""`map_reduce` and `amap_reduce`: the same work in threads and in tasks, in order, with an end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import ConfigError
from limiter.prompts import Reduced, amap_reduce, map_reduce
from tests.prompts.counting import by_bytes
from tests.prompts.real import README

TEXT = " ".join(f"w{i:03}" for i in range(100))


def in_threads(text: str, call: Any, combine: Any, *args: Any, **more: Any) -> Reduced:
    return map_reduce(text, call, combine, *args, count=by_bytes, **more)


def in_tasks(text: str, call: Any, combine: Any, *args: Any, **more: Any) -> Reduced:
    def turned(function: Callable[[Any], Any]) -> Any:
        async def later(given: Any) -> Any:
            await asyncio.sleep(0)
            return function(given)

        return later

    made = amap_reduce(text, turned(call), turned(combine), *args, count=by_bytes, **more)
    return asyncio.run(made)


BOTH = pytest.mark.parametrize("run", [in_threads, in_tasks])


@BOTH
def test_results_keep_the_order_of_the_chunks(run: Any) -> None:
    """So do combinations of them, however many rounds it takes."""
    found = run(TEXT, lambda chunk: chunk[:4], "".join, 20, budget=40)
    words = [found.text[i : i + 4] for i in range(0, len(found.text), 4)]
    assert words == sorted(words)
    assert len(words) == found.chunks >= 5
    assert found.report.before == by_bytes(TEXT)


@BOTH
def test_results_are_combined_until_one_fits(run: Any) -> None:
    """No call of combine gets more than fits, nor fewer than are there to be combined."""
    sizes: list[int] = []

    def combine(texts: list[str]) -> str:
        sizes.append(sum(map(by_bytes, texts)))
        return f"{sum(map(int, texts)):08}"

    found = run(README, lambda chunk: f"{len(chunk.split()):08}", combine, 20, budget=2)
    assert int(found.text) == len(README.split())
    assert max(sizes) <= 20
    assert found.calls == found.chunks + len(sizes)
    assert (str(found), found.report.after) == (found.text, 2)


@BOTH
def test_a_short_text_is_one_call(run: Any) -> None:
    """And one without a word is none."""
    found = run("a b", str.upper, pytest.fail, 20)
    assert (found.text, found.chunks, found.calls) == ("A B", 1, 1)
    assert run(" \n", pytest.fail, pytest.fail, 20) == Reduced(
        "", 0, 0, found.report.__class__(1, 0)
    )


@BOTH
@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(4, 30), st.integers(1, 40))
def test_there_is_an_end(run: Any, mapped: int, combined: int, most: int, budget: int) -> None:
    """Whatever call and combine write, there is a result that fits, or an error with numbers."""
    calls = 0

    def combine(texts: list[str]) -> str:
        nonlocal calls
        calls += 1
        assert calls < 1_000
        return "y" * combined

    try:
        found = run(TEXT, lambda _: "x" * mapped, combine, most, budget=budget)
    except ConfigError as caught:
        failed = caught
    else:
        assert by_bytes(found.text) <= budget
        return
    assert failed.after > 0.9 * failed.before


@BOTH
def test_a_combination_that_makes_no_less_is_an_error(run: Any) -> None:
    """It says how much it made of how much, after one round."""
    with pytest.raises(ConfigError, match=r"combine made \d+ tokens of \d+"):
        run(TEXT, lambda _: "x" * 80, "".join, 20)


def test_no_more_calls_than_workers() -> None:
    """At a time, in threads and in tasks."""
    calls, most, under_way, lock = 0, 0, 0, threading.Lock()
    meeting = threading.Barrier(3)

    def call(_: str) -> str:
        nonlocal calls, most, under_way
        with lock:
            calls, under_way = calls + 1, under_way + 1
            most = max(most, under_way)
            is_early = calls <= 3
        if is_early:
            meeting.wait(30)
        with lock:
            under_way -= 1
        return "x"

    in_threads(TEXT, call, "".join, 20, workers=3)
    assert most == 3

    most = 0

    async def later(_: str) -> str:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        for _ in range(3):
            await asyncio.sleep(0)
        under_way -= 1
        return "x"

    async def joined(texts: list[str]) -> str:
        return "".join(texts)

    asyncio.run(amap_reduce(TEXT, later, joined, 20, workers=3, count=by_bytes))
    assert most == 3


@BOTH
@pytest.mark.parametrize("error", [KeyError("k"), StopIteration(1)])
def test_an_error_ends_the_rest(run: Any, error: Exception) -> None:
    """The first error is raised as it is (a task may not raise StopIteration); nothing more begins."""
    begun: list[str] = []

    def call(chunk: str) -> str:
        begun.append(chunk)
        if len(begun) == 2:
            raise error
        return "x"

    expected = RuntimeError if run is in_tasks and isinstance(error, StopIteration) else type(error)
    with pytest.raises(expected):
        run(TEXT, call, pytest.fail, 10, workers=1)
    assert len(begun) == 2


@pytest.mark.parametrize("fails", [True, False])
def test_an_error_cancels_the_calls_under_way(fails: bool) -> None:
    """As does a cancellation of the whole; none is left running."""
    begun = cancelled = 0

    async def call(chunk: str) -> str:
        nonlocal begun, cancelled
        begun += 1
        if fails and chunk.startswith("w000"):
            await meeting.wait()
            raise KeyError(chunk)
        if begun == 4:
            meeting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return ""

    async def work() -> None:
        made = amap_reduce(TEXT, call, pytest.fail, 20, workers=4, count=by_bytes)
        task = asyncio.create_task(made)
        await meeting.wait()
        if not fails:
            task.cancel()
        with pytest.raises(KeyError if fails else asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    meeting = asyncio.Event()
    asyncio.run(work())
    assert (begun, cancelled) == (4, 3 if fails else 4)


def test_threads_see_the_caller_s_context() -> None:
    """What the caller set in a context variable is there in each call."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
    var.set("mine")
    found = in_threads(TEXT, lambda _: var.get(), lambda texts: ",".join(set(texts)), 20)
    assert found.text == "mine"


def test_what_is_no_text_is_said() -> None:
    """A coroutine function belongs into `amap_reduce`; workers are at least one."""

    async def call(_: str) -> str:
        return ""

    with pytest.raises(ConfigError, match="amap_reduce is for coroutine"):
        in_threads(TEXT, call, "".join, 20)
    for run in (in_threads, in_tasks):
        with pytest.raises(ConfigError, match="workers"):
            run("a b", str, str, 20, workers=0)
