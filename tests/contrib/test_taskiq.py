"""taskiq: its broker in memory, and a real one with a real worker and scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from taskiq import InMemoryBroker, SimpleRetryMiddleware
from taskiq.message import BrokerMessage
from taskiq_redis import ListRedisScheduleSource

import limiter
from limiter import ConfigError, Limit, Limiter, NeverFits, Quota
from limiter.contrib.taskiq import PutBackMiddleware, limited_task, reservation
from tests import servers

pytestmark = pytest.mark.asyncio
SLOW_S = 86_400.0 * 400  # within a test nothing is refilled
PATIENCE_S = 60
ROOT = Path(limiter.__file__).parent.parent


@pytest.fixture
def quotas(name: str) -> Iterator[Limiter]:
    """Give a limiter of this process with a quota that is refilled, and two that are not."""
    made = [
        Quota("scarce", limits=[Limit("requests", 4, 0.5, headroom=0)], headroom=0),
        Quota("gone", limits=[Limit("requests", 1, SLOW_S, headroom=0)], headroom=0),
        Quota("tokens", limits=[Limit("tokens", 1000, SLOW_S, headroom=0)], headroom=0),
    ]
    with Limiter(f"memory://{name}", quotas=made) as made_here:
        yield made_here


class Watched(InMemoryBroker):
    """Count the messages by task, and keep their labels."""

    def __init__(self, *middlewares: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self.kicked: Counter[str] = Counter()
        self.labels: list[dict[str, Any]] = []
        self.add_middlewares(*middlewares)

    async def kick(self, message: BrokerMessage) -> None:
        self.kicked[message.task_id] += 1
        self.labels.append(message.labels)
        await super().kick(message)


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[Watched]:
    made = Watched(SimpleRetryMiddleware(), PutBackMiddleware())
    await made.startup()
    yield made
    await made.shutdown()


def level(quotas: Limiter, quota: str) -> int:
    (limit,) = quotas.peek(quota).limits.values()
    return int(limit.level)


async def results(tasks: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*(each.wait_result(timeout=PATIENCE_S) for each in tasks)))


@pytest.mark.parametrize("is_async", [True, False])
async def test_all_tasks_end_once_and_none_fails(
    broker: Watched, quotas: Limiter, *, is_async: bool
) -> None:
    """Tasks beyond the quota come back, with their id, until each has run once."""
    ran = []

    async def ask(number: int) -> int:
        ran.append(number)
        return number

    def ask_in_a_thread(number: int) -> int:
        ran.append(number)
        return number

    limited = limited_task("scarce", limiter=quotas, wait=0, longest=1.0)
    task = broker.task(limited(ask if is_async else ask_in_a_thread))
    ended = await results([await task.kiq(number) for number in range(12)])
    assert [(each.is_err, each.return_value) for each in ended] == [(False, n) for n in range(12)]
    assert sorted(ran) == list(range(12))
    assert 12 < broker.kicked.total() <= 12 * 9


async def test_a_task_keeps_its_own_retries_and_labels(broker: Watched, quotas: Limiter) -> None:
    """A task that fails runs as often as it says, and its labels are what they were."""
    ran = []

    @broker.task(retry_on_error=True, max_retries=3, delay=7, hue="red")
    @limited_task("scarce", limiter=quotas, wait=0, longest=0.5)
    async def stubborn(number: int) -> None:
        ran.append(number)
        raise ValueError("as ever")

    ended = await results([await stubborn.kiq(number) for number in range(4)])
    assert all(isinstance(each.error, ValueError) for each in ended)
    assert Counter(ran) == dict.fromkeys(range(4), 3)
    assert broker.kicked.total() > 4 * 3
    assert {(each.labels["delay"], each.labels["hue"]) for each in ended} == {(7, "red")}


class Delaying(Watched):
    """Keep tasks for the time that their label `delay` says, as some brokers do."""

    async def kick(self, message: BrokerMessage) -> None:
        if "delay" in message.labels:
            loop = asyncio.get_running_loop()
            hold = super().kick
            loop.call_later(float(message.labels["delay"]), lambda: loop.create_task(hold(message)))
            self.labels.append(message.labels)
        else:
            await super().kick(message)


async def test_a_broker_that_keeps_tasks_is_told_for_how_long(quotas: Limiter) -> None:
    """The label `delay` says it, and is gone when the task runs."""
    broker = Delaying(PutBackMiddleware(broker_delays=True))

    @broker.task
    @limited_task("scarce", limiter=quotas, wait=0, longest=1.0)
    async def ask(number: int) -> int:
        return number

    await broker.startup()
    ended = await results([await ask.kiq(number) for number in range(9)])
    await broker.shutdown()
    assert [each.return_value for each in ended] == list(range(9))
    delays = [float(labels["delay"]) for labels in broker.labels if "delay" in labels]
    assert delays
    assert all(0 < delay <= 1.0 for delay in delays)
    assert not any("delay" in each.labels for each in ended)


async def test_a_task_that_has_begun_is_not_put_back(broker: Watched, quotas: Limiter) -> None:
    """A limited task that another one calls directly waits in line: the other has begun."""
    ran = []

    @broker.task
    @limited_task("scarce", limiter=quotas, wait=0)
    async def inner(number: int) -> int:
        return number

    @broker.task
    async def outer() -> list[int]:
        ran.append("outer")
        return [await inner(number) for number in range(6)]

    @broker.task
    @limited_task("scarce", limiter=quotas, wait=0, longest=0.5)
    async def itself(depth: int) -> int:
        ran.append(depth)
        return 1 + await itself(depth - 1) if depth else 0

    (first,) = await results([await outer.kiq()])
    (second,) = await results([await itself.kiq(6)])
    assert (first.return_value, second.return_value) == (list(range(6)), 6)
    assert ran == ["outer", 6, 5, 4, 3, 2, 1, 0]


async def test_a_direct_call_waits_in_line(quotas: Limiter) -> None:
    """Also beside a broker that runs its tasks in the context of who sends them."""
    broker = Watched(PutBackMiddleware(), await_inplace=True)

    @broker.task
    @limited_task("scarce", limiter=quotas, wait=0)
    async def ask(number: int) -> int:
        return number

    @broker.task
    async def other() -> None: ...

    await other.kiq()
    await ask.kiq(0)
    assert [await ask(number) for number in range(9)] == list(range(9))


async def test_without_the_middleware_a_task_waits_in_line(quotas: Limiter) -> None:
    """A broker that cannot put tasks back blocks its worker, and fails none."""
    broker = Watched()

    @broker.task
    @limited_task("scarce", limiter=quotas, wait=0)
    async def ask(number: int) -> int:
        return number

    ended = await results([await ask.kiq(number) for number in range(9)])
    assert [each.return_value for each in ended] == list(range(9))
    assert broker.kicked.total() == 9
    await broker.shutdown()


async def test_a_cost_is_a_function_of_the_arguments_and_settled_by_the_result(
    broker: Watched, quotas: Limiter
) -> None:
    """A task takes what its function of a cost says, and gives back what it did not use."""

    @broker.task
    @limited_task("tokens", limiter=quotas, cost=len)
    async def usage(prompt: str) -> dict[str, Any]:
        assert reservation().estimate == {"tokens": len(prompt)}
        return {"left": level(quotas, "tokens"), "usage": {"total_tokens": 7}}

    @broker.task
    @limited_task("tokens", limiter=quotas, cost=50)
    def by_itself() -> str:
        reservation().settle(tokens=3)  # type: ignore[unused-coroutine]  # in a thread
        return "a text"

    ended = await results([await usage.kiq("x" * 40)])
    assert (ended[0].return_value["left"], level(quotas, "tokens")) == (960, 993)
    ended = await results([await by_itself.kiq()])
    assert (ended[0].return_value, level(quotas, "tokens")) == ("a text", 990)
    with pytest.raises(LookupError):
        reservation()


async def test_what_was_never_sent_is_given_back(broker: Watched, quotas: Limiter) -> None:
    """An exception settles by what it says."""

    class ConnectError(Exception): ...

    @broker.task(retry_on_error=True, max_retries=2)
    @limited_task("tokens", limiter=quotas, cost=100)
    async def unsent() -> None:
        raise ConnectError

    (ended,) = await results([await unsent.kiq()])
    assert isinstance(ended.error, ConnectError)
    assert (broker.kicked.total(), level(quotas, "tokens")) == (2, 1000)


async def test_what_will_never_be_granted_fails(broker: Watched, quotas: Limiter) -> None:
    """A cost above the limit is not put back for ever."""

    @broker.task
    @limited_task("tokens", limiter=quotas, cost=5000)
    async def too_big() -> None: ...

    (ended,) = await results([await too_big.kiq()])
    assert isinstance(ended.error, NeverFits)
    assert broker.kicked.total() == 1


async def test_a_task_that_cannot_be_put_back_is_seen(quotas: Limiter) -> None:
    """Where the broker takes it no more, its result says so."""

    class Full(Watched):
        async def kick(self, message: BrokerMessage) -> None:
            if self.kicked:
                raise ConnectionError("the broker is full")
            await super().kick(message)

    broker = Full(PutBackMiddleware())
    quotas.acquire("gone").settle()

    @broker.task
    @limited_task("gone", limiter=quotas, wait=0, longest=0.1)
    async def never() -> None: ...

    (ended,) = await results([await never.kiq()])
    assert "Cannot send" in str(ended.error)
    await broker.shutdown()


async def test_wrong_arguments_are_refused_where_they_are_written() -> None:
    """A decorator in the wrong place, a wrong patience, and two keepers of one task."""
    with pytest.raises(ConfigError, match="quota's name"):
        limited_task(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seconds from 0 on"):
        limited_task("q", wait=-1)
    with pytest.raises(ConfigError, match=r"below @broker\.task"):
        limited_task("q")(InMemoryBroker().task(lambda: None))
    with pytest.raises(ConfigError, match="not both"):
        PutBackMiddleware(schedule_source=ListRedisScheduleSource("redis://"), broker_delays=True)


@pytest.fixture
def stall() -> Iterator[Any]:
    """Run a worker that makes one task at a time, and a scheduler, on a broker of their own."""
    with (
        servers.server(servers.binaries()["valkey"]) as url,
        pytest.MonkeyPatch.context() as patch,
        contextlib.ExitStack() as stack,
    ):
        patch.setenv("STALL_SOCKET", url.removeprefix("unix://"))
        patch.setenv("PYTHONPATH", str(ROOT))
        from tests.contrib import stall

        stall.limiter.acquire("gone").settle()
        for command in (
            ["worker", "tests.contrib.stall:broker", "--workers", "1", "--max-async-tasks", "1",
             "--shutdown-timeout", "1",
             "--log-level", "WARNING"],
            ["scheduler", "tests.contrib.stall:scheduler", "--update-interval", "1",
             "--log-level", "WARNING"],
        ):  # fmt: skip
            stack.enter_context(running([sys.executable, "-m", "taskiq", *command]))
        yield stall
        stall.limiter.close()


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


async def test_a_real_broker_and_its_scheduler(stall: Any) -> None:
    """Tasks on Redis whose quota is far away hold no worker: the schedule keeps each of them."""
    await stall.broker.startup()
    for _ in range(3):
        await stall.never.kiq()
    ended = await results([await stall.ask.kiq(number) for number in range(6)])
    await stall.broker.shutdown()
    assert [each.return_value for each in ended] == list(range(6))
