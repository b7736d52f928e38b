"""The proofs: everything once, through workers that are killed, urgent calls first, and the memory of a long queue."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from benchmarks.queue import peers
from benchmarks.queue.serving import Job, Serving
from benchmarks.report import Row
from benchmarks.servers_redis import find_binary, redis_server
from limiter.mock import MockConfig, MockServer, background
from limiter.queue import Queue

_WORKERS = 4
_RPM, _TPM = 600, 40_000
_QUOTA = {"rpm": _RPM, "tpm": _TPM}
_KILL_EVERY_S = 5.0


def _bodies(questions: Path) -> list[dict[str, Any]]:
    texts = [json.loads(line)["question"] for line in questions.read_text().splitlines()]
    return [
        {"custom_id": f"q{i}", "model": "gpt-4o", "max_tokens": 300,
         "messages": [{"role": "user", "content": text}]}
        for i, text in enumerate(texts)
    ]  # fmt: skip


@contextlib.contextmanager
def _broker(name: str) -> Iterator[Any]:
    """Run a broker beside Redis; None: there is none."""
    if name == "redis":
        yield None
        return
    from tests.rabbit.broker import Rabbit, binary

    program = binary()
    if program is None:
        raise SystemExit(
            "There is no rabbitmq-server here: make test-rabbitmq installs one where it may."
        )
    with contextlib.closing(Rabbit(program)) as rabbit:
        rabbit.start()
        yield rabbit


@contextlib.contextmanager
def _bench(config: MockConfig, name: str) -> Iterator[tuple[MockServer, Job, Queue]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server() as server,
        background(config, process=True) as mock,
        _broker(name) as rabbit,
        Queue(server.url, name="bench", broker=rabbit and rabbit.url) as queue,
    ):
        url, log = rabbit and rabbit.url, f"{folder}/log"
        yield mock, Job(server.url, mock.base_url, "bench", log, _QUOTA, {}, broker=url), queue


def _check(queue: Queue, job: str, total: int) -> tuple[int, int]:
    """Return how many results there are, and how many ids have one."""
    ids = [json.loads(line)["custom_id"] for line in queue.lines(job, follow=False)]
    assert queue.status(job).total == total
    return len(ids), len(set(ids))


def once(questions: Path, broker: str) -> list[Row]:
    """GSM8K through four workers: exactly once, no refusal, the quota used."""
    config = MockConfig(rpm=_RPM, tpm=_TPM, latency_s=0.3)
    with _bench(config, broker) as (mock, job, queue):
        bodies = _bodies(questions)
        id_ = queue.submit(bodies)
        serving = [Serving(job) for _ in range(_WORKERS)]
        began = time.monotonic()
        queue.result(id_, timeout=600)
        took_s = time.monotonic() - began
        for each in serving:
            each.end()
        results, ids = _check(queue, id_, len(bodies))
        told = mock.stats()
    share = told["limits"]["requests"]["share_after_burst"]
    note = f"{took_s:.1f} s; {results:,} results of {ids:,} ids for {len(bodies):,} calls"
    return [
        Row(f"{broker}, 4 workers: results missing or twice", abs(results - len(bodies)) + results - ids, 0,
            "stay below", note=note),
        Row("… refused by the provider", told["refused"], 0, "stay below"),
        Row("… share of the requests' rate after the burst", share, 0.97),
    ]  # fmt: skip


class _Durable:
    """Be a Redis that writes everything down before it answers, and can be killed and started again."""

    def __init__(self, folder: str) -> None:
        self.url = f"unix://{folder}/s"
        self._command = [
            find_binary(), "--port", "0", "--unixsocket", f"{folder}/s", "--dir", folder, "--save", "",
            "--appendonly", "yes", "--appendfsync", "always",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)
        while True:
            with contextlib.suppress(redis.RedisError):
                client.ping()
                break
            time.sleep(0.02)
        client.close()

    def kill(self) -> None:
        """Kill it as a machine that fails would."""
        self._process.kill()
        self._process.wait()


def killed(questions: Path, broker: str) -> list[Row]:
    """The same with a worker killed -9 every five seconds; Redis, and the broker, restarted in the middle."""
    config = MockConfig(rpm=1_200, tpm=None, latency_s=0.5)
    with (
        tempfile.TemporaryDirectory() as folder,
        background(config, process=True) as mock,
        _broker(broker) as rabbit,
    ):
        store, url = _Durable(folder), rabbit and rabbit.url
        quota = {"rpm": 1_200, "burst": 1.0}
        job = Job(
            store.url, mock.base_url, "bench", f"{folder}/log", quota, {}, lease_s=3.0, broker=url
        )
        bodies = _bodies(questions)
        with Queue(store.url, name="bench", broker=url) as queue:
            id_ = queue.submit(bodies)
        serving = [Serving(job) for _ in range(_WORKERS)]
        kills = 0
        while _left(store.url, id_):
            time.sleep(_KILL_EVERY_S)
            serving.pop(0).end(signal.SIGKILL)
            kills += 1
            serving.append(Serving(job))
            if kills == 5:
                store.kill()
                time.sleep(0.5)
                store.start()
            if kills == 8 and rabbit:
                rabbit.restart()
        for each in serving:
            each.end()
        with Queue(store.url, name="bench") as queue:
            results, ids = _check(queue, id_, len(bodies))
        told = mock.stats()
        store.kill()
    note = (
        f"{kills} workers killed, Redis once, its broker {'once' if rabbit else 'being the same'}; {results:,} results of {ids:,} ids for {len(bodies):,} calls; "
        f"{told['accepted'] - len(bodies)} calls were made again"
    )
    wrong = abs(results - len(bodies)) + results - ids
    return [
        Row(f"{broker}, a worker killed -9 every 5 s, Redis once: results missing or twice", wrong, 0, "stay below",
            note=note),
        Row("… refused by the provider", told["refused"], 0, "stay below"),
    ]  # fmt: skip


def _left(url: str, job: str) -> int:
    with Queue(url, name="bench") as queue:
        return queue.status(job).left


def urgent(broker: str) -> list[Row]:
    """5,000 calls of low priority are queued, then 10 of high: how soon those begin."""
    config = MockConfig(rpm=1_200, tpm=None, latency_s=0.3)
    with _bench(config, broker) as (_, job, queue):
        job = replace(job, quota={"rpm": 1_200, "burst": 1.0}, priorities={"high": 10, "low": -10})
        low = [_body(f"low{i}") for i in range(5_000)]
        queue.submit(low, priority="low", level=-10)
        serving = [Serving(job) for _ in range(_WORKERS)]
        time.sleep(5)
        submitted = time.monotonic()
        id_ = queue.submit([_body(f"high{i}") for i in range(10)], priority="high", level=10)
        queue.result(id_, timeout=60)
        for each in serving:
            each.end()
        log = [line.split() for line in Path(job.log).read_text().splitlines()]
    began = [float(at) - submitted for name, at in log if name.startswith("high")]
    lower = sum(
        1
        for name, at in log
        if name.startswith("low") and submitted < float(at) < submitted + max(began)
    )
    rate = 1_200 / 60
    note = (
        f"first {min(began):.2f} s, last {max(began):.2f} s after submit; 10 calls at {rate:.0f}/s take "
        f"{10 / rate:.2f} s; {lower} low ones began in between"
    )
    return [
        Row(
            "10 urgent calls behind 5,000: the last begins, s",
            max(began),
            1.5,
            "stay below",
            "s",
            note,
        )
    ]


def _body(name: str) -> dict[str, Any]:
    return {"custom_id": name, "model": "gpt-4o", "messages": [{"role": "user", "content": name}]}


def long_queue(broker: str) -> list[Row]:
    """100,000 calls wait: what they weigh at the broker and with a worker, and how fast they go in."""
    with _bench(MockConfig(rpm=60, tpm=None), broker) as (_, job, queue):
        job = replace(job, quota={"rpm": 60})
        client = redis.Redis.from_url(job.redis_url)
        before = _weight(client, job.broker)
        began = time.monotonic()
        queue.submit(_body(f"call-{i}") for i in range(100_000))
        took_s = time.monotonic() - began
        each = (_weight(client, job.broker) - before) / 100_000
        client.close()
        serving = Serving(job)
        time.sleep(5)
        worker = _resident(serving.process.pid)
        serving.end()
    line = len(json.dumps(_body("call-50000"))) + 60
    note = (
        f"{each:.0f} B each, of which about {line} B are the call as a Batch line; {100_000 / took_s:,.0f} "
        f"calls/s go in; a worker that serves them has {worker / 2**20:.0f} MiB"
    )
    return [Row(f"{broker}, 100,000 calls wait: bytes each", each, 1_000, "stay below", "B", note)]


def _weight(client: redis.Redis, broker: str | None) -> int:
    """Return the memory of what carries calls: Redis's own word, or that of RabbitMQ's processes."""
    if broker is None:
        return int(client.info("memory")["used_memory"])
    found = subprocess.run(["pgrep", "-f", "beam.smp"], capture_output=True, text=True, check=True)
    return max(_resident(int(pid)) for pid in found.stdout.split())


def _resident(pid: int) -> int:
    """Return the resident memory of a process in bytes, as the kernel has it."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def overhead(broker: str) -> list[Row]:
    """One worker without limits before a server that answers at once: calls a second; and a lost one's return.

    On Redis beside Celery and taskiq.
    """
    config = MockConfig(rpm=None, tpm=None, latency_s=0.0, token_latency_s=0.0)
    with _bench(config, broker) as (_, job, queue):
        job = replace(job, quota={"rpm": 6_000_000}, concurrency=128, lease_s=2.0)
        serving = Serving(job)
        bodies = [_body(f"c{i}") for i in range(3_000)]
        began = time.monotonic()
        queue.result(queue.submit(bodies), timeout=120)
        rate = 3_000 / (time.monotonic() - began)
        serving.end()
    with _bench(MockConfig(rpm=None, tpm=None, latency_s=20.0), broker) as (mock, job, queue):
        job = replace(job, quota={"rpm": 6_000}, lease_s=2.0)
        first, second = Serving(job), None
        queue.submit([_body("lost")])
        while not mock.stats()["in_flight"]:
            time.sleep(0.01)
        second = Serving(job)
        first.end(signal.SIGKILL)
        killed_at = time.monotonic()
        while len(log := Path(job.log).read_text().splitlines()) < 2:
            time.sleep(0.01)
        back_s = float(log[1].split()[1]) - killed_at
        second.end(signal.SIGKILL)
    found = [
        Row(f"{broker}, one worker, no limit, calls/s", rate, 300, note="submit to last result, HTTP to the mock and all"),
        Row(f"{broker}, a killed worker's call begins again, idle queue", back_s, 3.0, "stay below", "s", "lease 2 s"),
    ]  # fmt: skip
    return found + (peers.rows(rate) if broker == "redis" else [])
