"""Work on a text that is too long for one call: map its chunks, then combine what came of them.

The calls are the caller's, limited by whatever limits them (`@rate_limited`, a limited client).
Written once, as a generator that yields calls to make; two drivers make them, in threads or tasks.
Never goes on for ever: what a combination does not make less is an error.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, cast

from limiter.errors import ConfigError
from limiter.prompts.counting import DEFAULT_MODEL, Count, check_tokens, counter
from limiter.prompts.savings import Savings
from limiter.prompts.splitting import split_text

# A round that combines no two texts must take a tenth off at least: less would be a call's fee for
# each token.
_LEAST_SHRINK = 0.9

Calls = tuple[Callable[[Any], Any], list[Any]]
Steps = Generator[Calls, Any, "Reduced"]


@dataclass(frozen=True, slots=True)
class Reduced:
    """Hold what came of a text.

    Attributes:
        text: the result.
        chunks: into how many the text was split.
        calls: how many were made, of both kinds.
        report: tokens of the text and of the result.
    """

    text: str
    chunks: int
    calls: int
    report: Savings

    def __str__(self) -> str:
        return self.text


def map_reduce(
    text: str,
    call: Callable[[str], str],
    combine: Callable[[list[str]], str],
    max_tokens: int,
    *,
    budget: int | None = None,
    overlap: int = 0,
    workers: int = 8,
    model: str = DEFAULT_MODEL,
    count: Count | None = None,
) -> Reduced:
    """Call a function on each chunk of a text, and combine the results until one is left.

    The results keep the order of the chunks. As many neighbours as fit `max_tokens` are combined
    at a time, again and again. A text that fits is one call and no combination.

    Args:
        text: what to work on; one without a word is no call.
        call: gets a chunk, returns a text.
        combine: gets texts, returns one that is shorter than they are together.
        max_tokens: of a chunk, and of what is combined at a time.
        budget: tokens of the result at most; None: `max_tokens`.
        overlap: see `split_text`.
        workers: calls under way at a time, at most; each has the caller's context variables.
        model: whose tokens are counted.
        count: counts them instead.

    Raises:
        ConfigError: a combination did not make less of what it got, or semchunk is not installed.
            What a call raises ends the rest: none is begun any more, and those under way are
            waited for.
    """
    steps = _steps(text, call, combine, _Asked(max_tokens, budget, overlap, counter(model, count)))
    with ThreadPoolExecutor(_check_workers(workers)) as pool:
        found = _next(steps, None)
        while not isinstance(found, Reduced):
            found = _next(steps, _in_threads(pool, *found))
        return found


async def amap_reduce(
    text: str,
    call: Callable[[str], Awaitable[str]],
    combine: Callable[[list[str]], Awaitable[str]],
    max_tokens: int,
    *,
    budget: int | None = None,
    overlap: int = 0,
    workers: int = 8,
    model: str = DEFAULT_MODEL,
    count: Count | None = None,
) -> Reduced:
    """Do what `map_reduce` does with coroutine functions; an error cancels the calls under way."""
    steps = _steps(text, call, combine, _Asked(max_tokens, budget, overlap, counter(model, count)))
    slots = asyncio.Semaphore(_check_workers(workers))
    found = _next(steps, None)
    while not isinstance(found, Reduced):
        found = _next(steps, await _in_tasks(slots, *found))
    return found


def _check_workers(workers: int) -> int:
    if not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers is a whole number from 1 on, got {workers!r:.40}.")
    return workers


# --- what is called when --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    max_tokens: int
    budget: int | None
    overlap: int
    count: Count

    @property
    def most(self) -> int:
        """Return the tokens that the result may have."""
        return self.max_tokens if self.budget is None else check_tokens(self.budget, "budget")


def _steps(
    text: str, call: Callable[[Any], Any], combine: Callable[[Any], Any], asked: _Asked
) -> Steps:
    """Yield which function to call on which inputs; get the results; return the end of it."""
    most = asked.most
    chunks = split_text(text, asked.max_tokens, asked.overlap, count=asked.count)
    results = _checked((yield call, list(chunks)))
    calls = len(results)
    while len(results) > 1 or (results and asked.count(results[0]) > most):
        groups = _groups(results, asked)
        made = _checked((yield combine, groups))
        calls += len(made)
        _check_progress(results, made, asked)
        results = made
    found = results[0] if results else ""
    return Reduced(found, len(chunks), calls, Savings(asked.count(text), asked.count(found)))


def _groups(results: Sequence[str], asked: _Asked) -> list[list[str]]:
    """Pack neighbours into as few groups as fit; what is too long by itself is alone."""
    groups: list[list[str]] = []
    room = 0
    for each in results:
        tokens = asked.count(each)
        if not groups or tokens > room:
            groups.append([])
            room = asked.max_tokens
        groups[-1].append(each)
        room -= tokens
    return groups


def _check_progress(before: Sequence[str], after: Sequence[str], asked: _Asked) -> None:
    """See to it that there is an end: there are fewer texts, or what there is has become shorter.

    The number of texts never grows, and while it stays the tokens fall by a tenth each time.
    """
    if len(after) < len(before):
        return
    had, has = (sum(map(asked.count, each)) for each in (before, after))
    if has > had * _LEAST_SHRINK:
        raise ConfigError(
            f"combine made {has:,} tokens of {had:,}, which still do not fit {asked.max_tokens:,} "
            f"for a call and {asked.most:,} for the result: let call and combine write less, or "
            "raise max_tokens and budget.",
            before=had,
            after=has,
        )


def _checked(results: list[Any]) -> list[str]:
    strange = [each for each in results if not isinstance(each, str)]
    for each in strange:
        if asyncio.iscoroutine(each):
            each.close()
    if strange:
        raise ConfigError(
            f"call and combine return a text, got {strange[0]!r:.60}; amap_reduce is for coroutine "
            "functions."
        )
    return results


# --- the drivers ----------------------------------------------------------------------------------


def _next(steps: Steps, results: list[Any] | None) -> Calls | Reduced:
    """Return which calls are next, or the end of it."""
    try:
        return steps.send(results)
    except StopIteration as end:
        return cast("Reduced", end.value)


def _in_threads(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], inputs: list[Any]
) -> list[Any]:
    has_failed = threading.Event()

    def one(given: Any) -> Any:
        if has_failed.is_set():
            return None
        try:
            return function(given)
        except BaseException:
            has_failed.set()
            raise

    futures = [pool.submit(contextvars.copy_context().run, one, each) for each in inputs]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done():
                future.result()
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


async def _in_tasks(
    slots: asyncio.Semaphore, function: Callable[[Any], Any], inputs: list[Any]
) -> list[Any]:
    has_failed = False

    async def one(given: Any) -> Any:
        nonlocal has_failed
        async with slots:
            if has_failed:
                return None
            try:
                return await function(given)
            except BaseException:
                has_failed = True
                raise

    tasks = [asyncio.create_task(one(each)) for each in inputs]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
