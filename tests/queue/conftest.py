"""Queues on real servers; each test has one of its own name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis

from limiter.queue import Queue, ops
from limiter.queue.layout import Taken
from limiter.queue.ops import Want

LEASE_MS, TRIES = 3_600_000, 3
ALL = Want(1000, 1000, None, {})


class Bench(NamedTuple):
    """Hold a queue, and what a worker would do with it."""

    queue: Queue
    redis: redis.Redis

    def take(self, want: Want = ALL, tries: int = TRIES) -> list[Taken]:
        return self.queue._do(ops.take_gen(want, LEASE_MS, tries))[1]

    def ids(self, want: Want = ALL) -> list[str]:
        return [taken.call.custom_id for taken in self.take(want)]

    def finish(self, taken: Taken, *, ok: bool = True, tokens: int = 7) -> bool:
        error = "null" if ok else '{"code": "bad", "message": "no"}'
        line = f'{{"custom_id": "{taken.call.custom_id}", "response": {{}}, "error": {error}}}\n'
        return self.queue._do(ops.finish_gen(taken, line.encode(), tokens, ok=ok))

    def back(self, *taken: Taken, how: str = "back", ms: int = 0) -> None:
        self.queue._do(ops.back_gen([each.call.id for each in taken], how, ms))

    def lapse(self, what: str = "leases") -> None:
        """Let all leases, or waits of calls that were put off, end now."""
        for id_ in self.redis.zrange(self.queue.root + what, 0, -1):
            self.redis.zadd(self.queue.root + what, {id_: 1})

    def submit(self, *ids: str, **options: Any) -> str:
        return self.queue.submit([body(each) for each in ids], **options)


def body(custom_id: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"about {custom_id}"}]
    return {"custom_id": custom_id, "model": "m", "messages": messages}


@pytest.fixture
def bench(any_url: str) -> Iterator[Bench]:
    """A queue on each kind of server."""
    client = redis.Redis.from_url(any_url)
    with Queue(any_url, name=f"q-{uuid.uuid4().hex[:8]}") as queue:
        yield Bench(queue, client)
        for key in client.scan_iter(match=f"{queue.root}*"):
            client.delete(key)
    client.close()
