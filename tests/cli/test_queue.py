"""`limiter submit`, `worker`, `results`, `jobs`, `cancel`, `retry`, as they are typed; with real workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from limiter.mock import MockConfig, background
from limiter.queue import Queue
from tests.cli.home import Home

TOML = """
[quotas.m]
rpm = 60_000
[quotas.m.priorities.high]
level = 10
"""


class Desk(Home):
    """Hold a directory with a limiter.toml, a queue's name, and workers."""

    def __init__(self, path: Path, server, url: str) -> None:
        super().__init__(path, server)
        (path / "limiter.toml").write_text(TOML)
        self.queue, self.url = f"q-{uuid.uuid4().hex[:8]}", url
        self.env |= {"LIMITER_URL": url, "OPENAI_BASE_URL": server.base_url}
        self.workers_: list[subprocess.Popen[str]] = []

    def limiter(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "limiter", *arguments, "--queue", self.queue]
        done = subprocess.run(command, cwd=self.path, env=self.env, text=True, capture_output=True,
                              timeout=60, check=False)  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def submit(self, count: int, *more: str) -> str:
        self.write(*self.requests(count))
        return self.limiter("submit", "in.jsonl", *more).strip()

    def work(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "limiter", "worker", "--queue", self.queue, *more]
        worker = subprocess.Popen(
            command, cwd=self.path, env=self.env, text=True, stderr=subprocess.PIPE
        )
        self.workers_.append(worker)
        assert worker.stderr is not None
        assert "Serving" in worker.stderr.readline()
        return worker

    def close(self) -> None:
        for worker in self.workers_:
            worker.kill()
            worker.wait()
            worker.stderr.close()


@pytest.fixture
def desk(tmp_path, url, request):
    config = MockConfig(**getattr(request, "param", {}), rpm=60_000, tpm=None)
    with background(config) as server:
        made = Desk(tmp_path, server, url)
        yield made
        made.close()


def test_a_file_goes_in_and_its_results_come_out(desk):
    """Each line's once, through two workers; the table says so, and a worker that is stopped ends well."""
    job = desk.submit(40)
    workers = [desk.work(), desk.work()]
    desk.limiter("results", job, "--follow", "-o", "out.jsonl")
    assert sorted(each["custom_id"] for each in desk.results()) == sorted(
        f"r{i}" for i in range(40)
    )
    assert desk.server.stats()["accepted"] == 40
    (told,) = [json.loads(line) for line in desk.limiter("jobs", "--json").splitlines()]
    assert (told["job"], told["state"], told["ok"], told["name"]) == (job, "ended", 40, "in.jsonl")
    assert "in.jsonl" in desk.limiter("jobs")
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert "Stopped" in worker.stderr.read()


@pytest.mark.parametrize("desk", [{"latency_s": 30.0}], indirect=True)
def test_a_worker_that_is_killed_loses_nothing(desk):
    """Its calls come back when their lease ends, and each has one result."""
    job = desk.submit(6)
    first = desk.work("--lease", "1")
    while desk.server.stats()["in_flight"] < 6:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    with background(MockConfig(rpm=60_000, tpm=None)) as quick:
        desk.env["OPENAI_BASE_URL"] = quick.base_url
        desk.work("--lease", "1")
        desk.limiter("results", job, "--follow", "-o", "out.jsonl")
        assert quick.stats()["accepted"] == 6
    assert sorted(each["custom_id"] for each in desk.results()) == [f"r{i}" for i in range(6)]


def test_what_fails_is_told_and_tried_again(desk):
    """Failures go into a file beside the results; --dead says why; retry makes them calls again."""
    desk.write('{"custom_id": "a", "model": "m", "messages": [{"role": "user", "content": "x"}]}',
               '{"custom_id": "b", "model": "m", "messages": "not a list"}')  # fmt: skip
    job = desk.limiter("submit", "in.jsonl").strip()
    desk.work()
    desk.limiter("results", job, "--follow", "-o", "out.jsonl", code=1)
    assert [each["custom_id"] for each in desk.results()] == ["a"]
    errors = (desk.path / "out.jsonl.errors.jsonl").read_text()
    assert json.loads(errors)["custom_id"] == "b"
    assert "b" in desk.limiter("jobs", "--dead")
    desk.limiter("retry", job)
    with Queue(desk.url, name=desk.queue) as queue:
        while queue.status(job).left:
            time.sleep(0.02)
        assert queue.status(job).failed == 1


def test_the_embedded_server_is_no_place_to_keep_work(desk):
    """It serves, and it is said how long; where a Redis is named, there is nothing to say."""
    del desk.env["LIMITER_URL"]
    desk.write(*desk.requests(3))
    command = [sys.executable, "-m", "limiter", "submit", "in.jsonl", "--queue", desk.queue]
    done = subprocess.run(command, cwd=desk.path, env=desk.env, text=True, capture_output=True,
                          timeout=60, check=True)  # fmt: skip
    assert "a minute after its last user" in done.stderr
    desk.work()
    desk.limiter("results", done.stdout.strip(), "--follow", "-o", "out.jsonl")
    assert len(desk.results()) == 3


def test_a_job_is_cancelled(desk):
    """Its calls are not made by anybody."""
    job = desk.submit(5)
    desk.limiter("cancel", job)
    desk.work()
    other = desk.submit(1)
    desk.limiter("results", other, "--follow", "-o", "out.jsonl")
    assert desk.server.stats()["accepted"] == 1
    assert "5 dropped" in desk.limiter("results", job, code=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("submit", "none.jsonl"), "none.jsonl: cannot be read"),
        (("submit", "limiter.toml"), "Request 2 is not JSON"),
        (("submit", "in.jsonl", "--priority", "hihg"), "No quota declares the priority 'hihg'"),
        (("results", "job_none"), "no job 'job_none'"),
        (("cancel", "job_none"), "no job 'job_none'"),
        (("jobs", "--url", "memory://x"), "memory://"),
    ],
)
def test_what_is_wrong_is_said(desk, arguments, says):
    """With what to do."""
    desk.write(*desk.requests(1))
    assert says in desk.limiter(*arguments, code=2)
