"""Cached functions of every kind, called in one language, and what they return."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from openai.types.chat import ChatCompletion

from limiter.cache import cached

KINDS = ("plain", "coroutine", "generator", "async_generator")


def made(kind: str, work, **options: Any):
    """Make a cached function of a kind that runs `work`, and one that calls it and returns all it gives."""

    def plain(*args, **kwargs):
        return work(*args, **kwargs)

    async def coroutine(*args, **kwargs):
        return work(*args, **kwargs)

    def generator(*args, **kwargs):
        yield from work(*args, **kwargs)

    async def async_generator(*args, **kwargs):
        for item in work(*args, **kwargs):
            yield item

    decorated = cached(**options)(locals()[kind])
    return lambda *args, **kwargs: result(decorated(*args, **kwargs))


def result(value: Any) -> Any:
    if inspect.isawaitable(value):
        return asyncio.run(awaited(value))
    if inspect.isasyncgen(value):
        return asyncio.run(listed(value))
    return list(value) if inspect.isgenerator(value) else value


async def awaited(value):
    return await value


async def listed(items):
    return [item async for item in items]


class Counting:
    """Count the calls of a function."""

    def __init__(self, work) -> None:
        self.calls, self._work = 0, work

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self._work(*args, **kwargs)


def chat(reason: str = "stop") -> ChatCompletion:
    message = {"role": "assistant", "content": "hi", "reasoning_content": "of a compatible server"}
    choice = {"index": 0, "finish_reason": reason, "logprobs": None, "message": message}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "newer": {"field": 1}}
    return ChatCompletion.construct(
        id="c", object="chat.completion", created=1, model="m", choices=[choice], usage=usage
    )
