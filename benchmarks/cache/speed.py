"""What a hit costs, beside a bare GET of the same bytes on the same server."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from benchmarks.report import Row
from limiter.cache import Cache, layout
from limiter.cache.policy import Question
from limiter.transport import recording

_ROUNDS = 3_000
_TEXT = (
    "To find out how many apples are left, we take the ones that were eaten away from the ones that "
    "there were at first. 23 - 7 = 16, so that 16 apples are left. "
)
_URL = "https://api.openai.com/v1/chat/completions"
_HEADERS = {"authorization": "Bearer sk-some-key", "user-agent": "OpenAI/Python", "accept": "*/*",
            "content-type": "application/json", "x-stainless-lang": "python"}  # fmt: skip


def _body() -> dict[str, Any]:
    return {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": _TEXT * 2}],
        "temperature": 0,
    }


def _answer() -> bytes:
    message = {"role": "assistant", "content": _TEXT * 4, "refusal": None, "annotations": []}
    usage = {"prompt_tokens": 80, "completion_tokens": 150, "total_tokens": 230}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
                       "choices": [choice], "usage": usage}).encode()  # fmt: skip


def _p50(*timed: Callable[[], Any]) -> list[float]:
    """Time calls in turn, so that whatever else the machine does meets all of them; medians in us."""
    times: list[list[float]] = [[] for _ in timed]
    for _ in range(_ROUNDS):
        for call, taken in zip(timed, times, strict=True):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    return [1e6 * statistics.median(taken) for taken in times]


def rows(redis_url: str) -> list[Row]:
    """Measure a hit by its parts: the store's round trip, and with the key and the answer's making."""
    with Cache(redis_url) as cache:
        question = _asked(cache)
        _, flight = cache.look(question, lambda entry: entry)
        assert flight is not None
        cache.fill(flight, "json", _answer(), tokens=230)
        bare = redis.Redis.from_url(redis_url)
        name = layout.answer(question.key)
        look = lambda q: cache.look(q, partial(recording.serve, q))  # noqa: E731
        get, hit, whole = _p50(
            lambda: bare.get(name), lambda: look(question), lambda: look(_asked(cache))
        )
        bare.close()
    tasks = asyncio.run(_tasks(redis_url))
    note = f"{hit:.0f} us; redis-py's bare GET {get:.0f} us on the same server; decoded and checked"
    with_key = f"{whole:.0f} us: JSON canonicalised, SHA-256, HMAC, GET, checked, decoded"
    return [
        Row("hit, p50 / bare GET", hit / get, 2.0, "stay below", "x", note),
        Row("hit with the making of its key, p50 / bare GET", whole / get, 4.0, "stay below", "x", with_key),
        Row("hits/s, 64 tasks, one process", tasks, 5_000, note="key included"),
    ]  # fmt: skip


def _asked(cache: Cache) -> Question:
    path = "/v1/chat/completions"
    question = cache.settings.question("POST", _URL, path, _HEADERS, _body())
    assert question is not None
    return question


async def _tasks(redis_url: str) -> float:
    from limiter.cache import AsyncCache

    async with AsyncCache(redis_url) as cache:
        question = _asked(cache.as_sync())

        async def one() -> None:
            for _ in range(100):
                asked = _asked(cache.as_sync())
                found, _ = await cache.look(asked, partial(recording.serve, asked))
                assert found.how == "hit", (found, question)

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(64)))
        return 6_400 / (time.perf_counter() - began)
