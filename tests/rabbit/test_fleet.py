"""`limiter submit` and `limiter worker` on a RabbitMQ: real processes, a real provider to call, and real ends."""

from __future__ import annotations

import os
import signal

import pytest

from limiter.mock import MockConfig, background
from limiter.queue import Queue
from tests.cli.test_queue import Desk
from tests.servers import until

pytestmark = [pytest.mark.rabbitmq, pytest.mark.xdist_group("rabbitmq")]

PATIENCE_S = 60


def status(desk: Desk, job: str):
    with Queue(desk.url, name=desk.queue) as queue:
        return queue.status(job)


def ids(count: int) -> list[str]:
    return sorted(f"r{i}" for i in range(count))


def results(desk: Desk, job: str) -> list[str]:
    desk.limiter("results", job, "--follow", "-o", "out.jsonl")
    return [each["custom_id"] for each in desk.results()]


def test_each_call_has_one_result(desk):
    """300 calls through two workers: each is made once, and the broker is named by an option as well."""
    url = desk.env.pop("LIMITER_BROKER_URL")
    job = desk.submit(300, "--broker", url)
    workers = [desk.work("--broker", url), desk.work("--broker", url)]
    assert sorted(results(desk, job)) == ids(300)
    assert desk.server.stats()["accepted"] == 300
    assert status(desk, job).state == "ended"
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("desk", [{"latency_s": 60.0}], indirect=True)
def test_a_worker_that_is_killed_loses_nothing(desk):
    """Its calls are the next worker's as soon as the broker has seen it go, whatever the lease."""
    job = desk.submit(6)
    first = desk.work("--lease", "3600")
    until(lambda: desk.server.stats()["in_flight"] == 6, PATIENCE_S)
    first.kill()
    with background(MockConfig(rpm=60_000, tpm=None)) as quick:
        desk.env["OPENAI_BASE_URL"] = quick.base_url
        desk.work()
        assert sorted(results(desk, job)) == ids(6)
        assert quick.stats()["accepted"] == 6


@pytest.mark.parametrize("desk", [{"latency_s": 0.1}], indirect=True)
def test_a_broker_that_restarts_loses_nothing(desk, rabbit):
    """Calls that wait and those that are made: each has one result, and the workers go on."""
    job = desk.submit(200)
    for _ in range(2):
        desk.work("--concurrency", "4")
    until(lambda: status(desk, job).ok > 20, PATIENCE_S)
    rabbit.restart()
    assert sorted(results(desk, job)) == ids(200)
    assert status(desk, job).failed == 0


@pytest.mark.parametrize("desk", [{"latency_s": 0.05}], indirect=True)
def test_a_few_urgent_calls_overtake_thousands(desk):
    """2,000 wait at a low level when ten of a high one come: those are started before all but a few of them."""
    toml = (desk.path / "limiter.toml").read_text()
    (desk.path / "limiter.toml").write_text(toml.replace("60_000", "600\nburst = 1"))
    low = desk.submit(2000)
    for _ in range(2):
        desk.work("--concurrency", "32")
    until(lambda: status(desk, low).ok >= 10, PATIENCE_S)
    before = status(desk, low).ok
    high = desk.submit(10, "--priority", "high")
    came = status(desk, low).ok
    until(lambda: status(desk, high).has_ended, PATIENCE_S)
    after = status(desk, low).ok
    assert before <= came
    # Each worker has two that wait in line, and may have as many under way; low ones end meanwhile by turns
    # that were theirs already. All else is the time that looking takes, ten a second.
    assert after - came <= 20


@pytest.mark.parametrize("desk", [{"latency_s": 60.0}], indirect=True)
def test_a_call_that_kills_its_workers_is_put_aside(desk):
    """Dead after so many losses, with the reason; and other calls are made."""
    job = desk.submit(1)
    for losses in range(2):
        worker = desk.work("--tries", "2")
        until(lambda losses=losses: desk.server.stats()["in_flight"] == losses + 1, PATIENCE_S)
        worker.kill()
    desk.work("--tries", "2")
    until(lambda: status(desk, job).has_ended, PATIENCE_S)
    assert status(desk, job).failed == 1
    assert "Its worker was lost 2 times. (worker_lost)" in desk.limiter("jobs", "--dead")


@pytest.mark.parametrize("desk", [{"latency_s": 1.0}], indirect=True)
def test_a_worker_that_is_stopped_gives_back_what_waits(desk):
    """SIGTERM: what is under way has its result, the rest is the next worker's, and none is made twice."""
    job = desk.submit(30)
    first = desk.work("--concurrency", "8")
    until(lambda: desk.server.stats()["in_flight"] > 0, PATIENCE_S)
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE_S) == 0
    made = desk.server.stats()["accepted"]
    assert 0 < status(desk, job).ok == made < 30
    desk.work()
    assert sorted(results(desk, job)) == ids(30)
    assert desk.server.stats()["accepted"] == 30


def test_without_its_extra_it_says_what_to_install(desk):
    """And queues that Redis carries need none."""
    desk.write(*desk.requests(1))
    (desk.path / "aio_pika.py").write_text("raise ImportError('none')\n")
    desk.env["PYTHONPATH"] = f"{desk.path}{os.pathsep}{desk.env['PYTHONPATH']}"
    assert "pip install 'llm-limiter[rabbitmq]'" in desk.limiter("submit", "in.jsonl", code=2)
    del desk.env["LIMITER_BROKER_URL"]
    desk.limiter("submit", "in.jsonl")
