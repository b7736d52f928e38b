"""Bulk work: calls wait in a queue, workers make them under the limit, and results are handed back.

    from limiter.queue import Queue

    queue = Queue("redis://localhost:6379/0")
    job = queue.submit([{"model": "gpt-4o", "messages": […]}, …], priority="batch")
    for result in queue.stream(job):        # as they come; `limiter worker` makes the calls
        print(result["custom_id"], result["response"]["body"])

Where the decisions are: `lua/queue` (who takes what), `ops` (the verbs), `holding` (how much a worker
takes). Where the I/O is: `api`, `worker`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limiter.queue.api import AsyncQueue, Queue
    from limiter.queue.ops import Failed, JobStatus

_HOMES = {"AsyncQueue": "api", "Queue": "api", "Failed": "ops", "JobStatus": "ops"}

__all__ = ["AsyncQueue", "Failed", "JobStatus", "Queue"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'limiter.queue' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"limiter.queue.{home}"), name)
    return value
