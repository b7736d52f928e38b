"""The closest that Celery has: a task that posts a body, on threads, acknowledged when it is done."""

from __future__ import annotations

import os
from typing import Any

import httpx2
from celery import Celery

_STORE = os.environ.get("BENCH_STORE", "redis://127.0.0.1:1/0")

app = Celery("bench", broker=_STORE, backend=_STORE)
app.conf.update(
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=2,
    broker_transport_options={"visibility_timeout": 8}, task_serializer="json",
)  # fmt: skip
_client = httpx2.Client(timeout=60)


@app.task(name="bench.call")
def call(body: dict[str, Any]) -> int:
    """Make one call."""
    url = f"{os.environ['BENCH_API']}/chat/completions"
    return len(_client.post(url, json=body).content)
