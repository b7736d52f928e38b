"""Single flight across processes: how many requests reach the server, whatever becomes of the first."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from typing import Any

from benchmarks.cache.callers import Asking, Job
from benchmarks.report import Row
from limiter.mock import MockConfig, MockServer, background

_PROCESSES, _TASKS = 4, 50
_LEASE_S = 5.0


def _post(server: MockServer, path: str, body: dict[str, Any]) -> None:
    root = server.base_url.removesuffix("/v1")
    request = urllib.request.Request(
        f"{root}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    urllib.request.urlopen(request).read()


def _requests(server: MockServer) -> int:
    return int(server.stats()["accepted"])  # those among them that failed later, too


def _ended(asking: list[Asking]) -> Counter[str]:
    return sum((each.ended() for each in asking), Counter[str]())


def _note(ended: Counter[str], took_s: float) -> str:
    told = [
        f"{n} x {'the answer' if name.startswith('chatcmpl') else name}"
        for name, n in ended.items()
    ]
    return f"{' and '.join(told)}, within {took_s:.2f} s"


def rows(redis_url: str) -> list[Row]:
    """Ask the same from 4 x 50 tasks at once, undisturbed, with a leader killed, with one that fails."""
    with background(MockConfig(rpm=None, tpm=None, latency_s=2.0), process=True) as server:
        job = Job(redis_url, redis_url, server.base_url, _TASKS, lease_s=_LEASE_S)
        return [_undisturbed(server, job), _killed(server, job), _failing(server, job)]


def _job(job: Job, prompt: str, tasks: int = _TASKS) -> Job:
    return Job(job.redis_url, job.cache_url, job.base_url, tasks, prompt, job.lease_s)


def _undisturbed(server: MockServer, job: Job) -> Row:
    asking = [Asking(_job(job, "undisturbed")) for _ in range(_PROCESSES)]
    before, began = _requests(server), time.monotonic()
    for each in asking:
        each.go()
    ended = _ended(asking)
    note = _note(ended, time.monotonic() - began) + " (an answer takes 2 s)"
    made = _requests(server) - before
    return Row("4 x 50 identical calls: requests", made, 1, "stay below", note=note)


def _killed(server: MockServer, job: Job) -> Row:
    first = Asking(_job(job, "killed", tasks=1))
    others = [Asking(_job(job, "killed")) for _ in range(_PROCESSES - 1)]
    before = _requests(server)
    first.go()
    while not server.stats()["in_flight"]:
        time.sleep(0.01)
    for each in others:
        each.go()
    time.sleep(0.5)
    first.kill()
    began = time.monotonic()
    while _requests(server) - before < 2:
        time.sleep(0.01)
    taken_s = time.monotonic() - began
    ended = _ended(others)
    note = (
        f"{_note(ended, time.monotonic() - began)}; another went {taken_s:.2f} s after the kill -9"
    )
    made = _requests(server) - before
    return Row("… the leader killed in mid-call: requests", made, 2, "stay below", note=note)


def _failing(server: MockServer, job: Job) -> Row:
    _post(server, "/faults", {"status": 500, "count": 1})
    asking = [Asking(_job(job, "failing")) for _ in range(_PROCESSES)]
    before, began = _requests(server), time.monotonic()
    for each in asking:
        each.go()
    ended = _ended(asking)
    note = _note(ended, time.monotonic() - began)
    made = _requests(server) - before
    return Row("… the leader fails: requests", made, 2, "stay below", note=note)
