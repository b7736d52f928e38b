"""The closest that taskiq has: a task that posts a body, on its Redis list broker and its stream broker."""

from __future__ import annotations

import os
from typing import Any

import httpx2
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

_STORE = os.environ.get("BENCH_STORE", "redis://127.0.0.1:1/0")
_backend: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(_STORE)

lists = ListQueueBroker(_STORE).with_result_backend(_backend)
streams = RedisStreamBroker(_STORE, idle_timeout=5_000).with_result_backend(_backend)
_client = httpx2.AsyncClient(timeout=60)


async def _call(body: dict[str, Any]) -> int:
    url = f"{os.environ['BENCH_API']}/chat/completions"
    return len((await _client.post(url, json=body)).content)


call_lists = lists.task(task_name="bench.call.lists")(_call)
call_streams = streams.task(task_name="bench.call.streams")(_call)
