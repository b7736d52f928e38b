"""`@rate_limited(compact=, fit=)`: a function gets shorter prompts, and pays for those."""

from __future__ import annotations

import asyncio
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from limiter import ConfigError, Limit, Limiter, Quota, rate_limited

SLOW = 400 * 86_400.0
TALK = [{"role": "user", "content": f"{i}{' ' * 200}{('cat ' * 20).rstrip()}"} for i in range(3)]


@pytest.fixture
def limiter() -> Limiter:
    quota = Quota("q", limits=[Limit("tokens", 1000, SLOW, headroom=0)], headroom=0)
    return Limiter(f"memory://{uuid.uuid4().hex}", quotas=[quota])


def left(limiter: Limiter) -> int:
    (limit,) = limiter.peek("q").limits.values()
    return limit.level


@pytest.fixture(autouse=True)
def _without_vocabulary() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def ask(messages: list[Any], model: str = "gpt-4o") -> list[Any]:
    return messages


async def ask_later(messages: list[Any], model: str = "gpt-4o") -> list[Any]:
    return messages


def items(messages: list[Any]) -> Iterator[list[Any]]:
    yield messages


async def items_later(messages: list[Any]) -> Any:
    yield messages


async def only(stream: Any) -> Any:
    (item,) = [item async for item in stream]
    return item


@pytest.mark.parametrize("function", [ask, ask_later, items, items_later])
def test_a_function_gets_the_shorter_prompt(limiter: Limiter, function: Any) -> None:
    """Of all four kinds, by position or by name; the estimate is that of what it gets."""
    limited = rate_limited("q", limiter=limiter, compact=1, fit=70)(function)
    found = limited(TALK) if function in (ask, ask_later) else limited(messages=TALK)
    if function is ask_later:
        found = asyncio.run(found)
    elif function is items:
        (found,) = found
    elif function is items_later:
        found = asyncio.run(only(found))
    assert found == [{"role": "user", "content": f"{i} {('cat ' * 20).rstrip()}"} for i in (1, 2)]
    assert len(TALK[0]["content"]) == 280
    assert left(limiter) == 1000 - (41 + 2 + 1)


def test_only_prompts_are_touched(limiter: Limiter) -> None:
    """Other arguments, and calls without a prompt, pass as they are."""

    @rate_limited("q", limiter=limiter, compact=3)
    def other(text: str, *more: str, prompt: str = "", **rest: str) -> tuple[Any, ...]:
        return text, more, prompt, rest

    assert other("a  b", "c  d", x="e  f") == ("a  b", ("c  d",), "", {"x": "e  f"})
    assert other("a  b", prompt="g  h") == ("a  b", (), "g h", {})


def test_what_does_not_fit_costs_nothing(limiter: Limiter) -> None:
    """The call fails before it takes anything; options that are none fail where they are written."""
    limited = rate_limited("q", limiter=limiter, fit=10)(ask)
    with pytest.raises(ConfigError, match="must stay"):
        limited(TALK)
    assert left(limiter) == 1000
    for wrong in ({"compact": 4}, {"fit": 0}):
        with pytest.raises(ConfigError, match="got"):
            rate_limited("q", limiter=limiter, **wrong)(ask)
