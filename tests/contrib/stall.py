"""A taskiq broker whose tasks are limited, and its scheduler: what the processes of the tests run.

The server's socket is named by `STALL_SOCKET`.
"""

from __future__ import annotations

import os

from taskiq import TaskiqScheduler
from taskiq_redis import ListQueueBroker, ListRedisScheduleSource, RedisAsyncResultBackend

from limiter import Limit, Limiter, Quota
from limiter.contrib.taskiq import PutBackMiddleware, limited_task

URL = f"unix://{os.environ['STALL_SOCKET']}"
SLOW_S = 86_400.0 * 400  # within a test nothing is refilled

source = ListRedisScheduleSource(URL)
broker = ListQueueBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))
broker.add_middlewares(PutBackMiddleware(schedule_source=source))
scheduler = TaskiqScheduler(broker, [source])
limiter = Limiter(
    URL,
    quotas=[
        Quota("scarce", limits=[Limit("requests", 3, 1.0, headroom=0)], headroom=0),
        Quota("gone", limits=[Limit("requests", 1, SLOW_S, headroom=0)], headroom=0),
    ],
)


@broker.task
@limited_task("scarce", limiter=limiter, wait=0, longest=1.0)
async def ask(number: int) -> int:
    return number


@broker.task
@limited_task("gone", limiter=limiter, wait=0)
async def never() -> None:
    raise AssertionError("its quota was gone")
