"""The same work on Celery and taskiq, each doing the closest it has; in the run that measures ours.

They limit, judge and settle nothing, which we do with each call: what is compared is what a job costs beside the call itself, and what becomes of one whose
worker is killed. A process that must not see this one's modules runs each of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

from benchmarks.environments import REPOSITORY
from benchmarks.report import Row
from benchmarks.servers_redis import redis_server
from limiter.mock import MockConfig, background

_JOBS, _CONCURRENCY = 1_000, 64
_PATIENCE_S = 30.0
PEERS = ("celery", "taskiq-lists", "taskiq-streams")

_WORKERS = {
    "celery": ["-m", "celery", "-A", "benchmarks.queue.celery_app", "worker", "-P", "threads", "-c",
               str(_CONCURRENCY), "--loglevel", "ERROR", "--without-gossip", "--without-mingle"],
    "taskiq-lists": ["-m", "taskiq", "worker", "benchmarks.queue.taskiq_app:lists", "--workers", "1",
                     "--max-async-tasks", str(_CONCURRENCY)],
    "taskiq-streams": ["-m", "taskiq", "worker", "benchmarks.queue.taskiq_app:streams", "--workers", "1",
                       "--max-async-tasks", str(_CONCURRENCY)],
}  # fmt: skip


def rows(ours_per_s: float) -> list[Row]:
    """Measure each that is installed."""
    found = []
    for peer in PEERS:
        if find_spec(peer.partition("-")[0]) is None:
            found.append(Row(f"calls/s, ours / {peer}", None, 1, note="it is not installed"))
            continue
        theirs = _told(peer, "rate", latency_s=0.0)
        back_s = _told(peer, "lost", latency_s=60.0)
        lost = "not within 30 s" if back_s is None else f"after {back_s:.1f} s"
        note = (
            f"{ours_per_s:,.0f} against {theirs:,.0f}; a killed worker's call begins again: {lost}"
        )
        found.append(Row(f"calls/s, ours / {peer}", ours_per_s / theirs, 0.8, unit="x", note=note))
    return found


def _told(peer: str, what: str, latency_s: float) -> Any:
    config = MockConfig(rpm=None, tpm=None, latency_s=latency_s, token_latency_s=0.0)
    with redis_server() as server, background(config, process=True) as mock:
        store = f"redis+socket://{server.socket}" if peer == "celery" else server.url
        env = {**os.environ, "BENCH_STORE": store, "BENCH_API": mock.base_url}
        work = [sys.executable, *_WORKERS[peer]]
        start = lambda: subprocess.Popen(  # noqa: E731
            work, cwd=REPOSITORY, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        worker = start()
        try:
            time.sleep(4)  # it tells nobody when it is ready
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.queue.peers", peer, what], cwd=REPOSITORY, env=env,
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            if what == "rate":
                return json.loads(done.stdout.splitlines()[-1])
            while not mock.stats()["in_flight"]:
                time.sleep(0.01)
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            worker, killed_at = start(), time.monotonic()
            while time.monotonic() - killed_at < _PATIENCE_S:
                if mock.stats()["accepted"] >= 2:
                    return time.monotonic() - killed_at
                time.sleep(0.05)
            return None
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def _body(number: int) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": f"c{number}"}]}


def _celery(number: int) -> float:
    from benchmarks.queue.celery_app import call

    began = time.monotonic()
    results = [call.delay(_body(i)) for i in range(number)]
    if number > 1:
        for each in results:
            each.get(timeout=120)
    return number / (time.monotonic() - began)


async def _taskiq(kind: str, number: int) -> float:
    from benchmarks.queue import taskiq_app as app

    broker, call = (
        (app.lists, app.call_lists) if kind == "lists" else (app.streams, app.call_streams)
    )
    await broker.startup()
    began = time.monotonic()
    results = [await call.kiq(_body(i)) for i in range(number)]
    if number > 1:
        for each in results:
            await each.wait_result(check_interval=0.02, timeout=120)
    rate = number / (time.monotonic() - began)
    await broker.shutdown()
    return rate


if __name__ == "__main__":
    peer, jobs = sys.argv[1], _JOBS if sys.argv[2] == "rate" else 1
    if peer == "celery":
        print(json.dumps(_celery(jobs)))
    else:
        print(json.dumps(asyncio.run(_taskiq(peer.partition("-")[2], jobs))))
