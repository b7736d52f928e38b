"""Celery: real workers of both kinds of pool, on a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import limiter
from limiter import Limit, Limiter, NeverFits, Quota
from tests import servers

ROOT = Path(limiter.__file__).parent.parent
PATIENCE_S = 60


@pytest.fixture(scope="module")
def shop() -> Iterator[ModuleType]:
    """Give the application, on a broker of its own."""
    with servers.server(servers.binaries()["valkey"]) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_SOCKET", url.removeprefix("unix://"))
        from tests.contrib import shop

        yield shop
        # Results that are collected later would go on looking for a server that is gone.
        shop.app.backend.result_consumer.stop()
        shop.app.backend.result_consumer._pubsub = None
        shop.limiter.close()
        shop.db.close()
        shop.app.close()


@pytest.fixture(scope="module", params=["solo", "prefork"])
def worker(request: pytest.FixtureRequest, shop: ModuleType) -> Iterator[ModuleType]:
    """Run a worker beside the test; stop it as its operator would."""
    command = [sys.executable, "-m", "celery", "-A", "tests.contrib.shop", "worker", "-l", "WARNING",
               "--pool", request.param, "--concurrency", "2", "--without-gossip",
               "--without-mingle"]  # fmt: skip
    env = {**os.environ, "SHOP_SOCKET": shop.SOCKET, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=env, cwd=ROOT)
    try:
        yield shop
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def run() -> str:
    return f"run-{uuid.uuid4().hex[:8]}"


def test_all_tasks_end_once_and_none_fails(worker: ModuleType, run: str) -> None:
    """Tasks beyond the quota come back until each has run once; a task that allows no retry, too."""
    asked = [worker.ask.delay(run, number) for number in range(14)]
    assert [each.get(PATIENCE_S) for each in asked] == list(range(14))
    ran = worker.db.lrange(f"{run}:ran", 0, -1)
    assert sorted(ran) == sorted(f"{number}:0" for number in range(14))
    back = worker.db.lrange(f"{run}:back", 0, -1)
    assert set(back) == {"WaitTimeout"}
    # Ten are more than the burst; each of those comes back some log2(10) times.
    assert len(back) <= 14 * 8


def test_a_worker_serves_others_while_a_quota_is_far_away(worker: ModuleType, run: str) -> None:
    """Tasks whose quota is gone for days hold no worker: the one behind them is served."""
    worker.limiter.try_acquire("gone")
    for _ in range(5):
        worker.never.apply_async((run,), expires=8)
    assert worker.free.delay(run).get(PATIENCE_S) is None
    assert worker.db.lrange(f"{run}:ran", 0, -1) == ["free"]


def test_a_chain_goes_on_behind_a_task_that_was_put_back(worker: ModuleType, run: str) -> None:
    """What comes after a task, and its result, do not know that it was put back."""
    chains = [(worker.ask.s(run, number) | worker.after.s(run)).delay() for number in range(9)]
    assert [each.get(PATIENCE_S) for each in chains] == list(range(9))
    assert worker.db.llen(f"{run}:back") > 0
    assert sorted(map(int, worker.db.lrange(f"{run}:after", 0, -1))) == list(range(9))


def test_a_task_keeps_its_own_retries(worker: ModuleType, run: str) -> None:
    """A task that fails is run as often as it says, however often it was put back in between."""
    failing = [worker.stubborn.delay(run) for _ in range(4)]
    for each in failing:
        with pytest.raises(ValueError, match="as ever"):
            each.get(PATIENCE_S)
    assert sorted(map(int, worker.db.lrange(f"{run}:ran", 0, -1))) == [0] * 4 + [1] * 4 + [2] * 4
    assert "WaitTimeout" in worker.db.lrange(f"{run}:back", 0, -1)


def test_a_cost_is_a_function_of_the_arguments_and_settled_by_the_result(
    worker: ModuleType, run: str
) -> None:
    """A task takes what its function of a cost says, and gives back what it did not use."""
    before = worker.level("tokens")
    worker.usage.delay(run, "x" * 40).get(PATIENCE_S)
    assert worker.db.lrange(f"{run}:ran", 0, -1) == [str(before - 40)]
    assert worker.level("tokens") == before - 7


def test_a_task_may_settle_by_itself(worker: ModuleType, run: str) -> None:
    """Where the result tells no usage, the task tells it."""
    before = worker.level("tokens")
    assert worker.by_itself.delay(run).get(PATIENCE_S) == "a text"
    assert worker.level("tokens") == before - 3


def test_what_was_never_sent_is_given_back_for_each_retry(worker: ModuleType, run: str) -> None:
    """An exception settles by what it says, also where Celery retries the task for it."""
    before = worker.level("failing")
    with pytest.raises(worker.ConnectError):
        worker.unsent.delay(run).get(PATIENCE_S)
    assert worker.db.lrange(f"{run}:ran", 0, -1) == [str(before - 100)] * 2
    assert worker.level("failing") == before


def test_what_will_never_be_granted_fails(worker: ModuleType, run: str) -> None:
    """A cost above the limit is not put back for ever."""
    with pytest.raises(NeverFits):
        worker.too_big.delay(run).get(PATIENCE_S)
    assert not worker.db.exists(f"{run}:ran", f"{run}:back")


# --- without a worker -------------------------------------------------------------------------


@pytest.fixture
def small(shop: ModuleType, name: str) -> Iterator[Any]:
    """Give a task that has its quota for itself: a call each tenth of a second."""
    own = Limiter("memory://", quotas=[Quota(name, limits=[Limit("requests", 1, 0.1, headroom=0)],
                                             headroom=0)])  # fmt: skip

    @shop.app.task(base=shop.LimitedTask, quota=name, limiter=own, wait=0, name=name, bind=True)
    def double(self: Any, number: int, depth: int = 0) -> Any:
        assert self.reservation.state == "held"
        return self(number, depth - 1) if depth else 2 * number

    yield double
    del shop.app.tasks[name]
    own.close()


def test_a_direct_call_waits_in_line(small: Any) -> None:
    """There is nobody to put it back to, whoever calls: a program, or the task itself."""
    assert [small(number) for number in range(3)] == [0, 2, 4]
    assert small(3, depth=2) == 6
    with pytest.raises(LookupError, match="holds no reservation"):
        _ = small.reservation


def test_an_eager_task_waits_in_line(small: Any) -> None:
    """Celery would run it again at once, over and over."""
    assert [small.apply((number,)).get() for number in range(3)] == [0, 2, 4]


def test_a_task_without_a_quota_is_not_limited(shop: ModuleType) -> None:
    """`LimitedTask` may be the base of all tasks of an application."""

    @shop.app.task(base=shop.LimitedTask, name="plain")
    def plain() -> int:
        return 1

    assert plain() == 1
    del shop.app.tasks["plain"]


def test_a_wrong_wait_is_said_when_the_task_is_called(shop: ModuleType) -> None:
    """It is a mistake of the program, and put back to nobody."""

    @shop.app.task(base=shop.LimitedTask, quota="q", wait=-1, name="wrong")
    def wrong() -> None: ...

    with pytest.raises(limiter.ConfigError, match="seconds from 0 on"):
        wrong()
    del shop.app.tasks["wrong"]
