"""`limiter run --priority --tenant`: the flow that the calls stand in."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import pytest
import redis

from limiter import AsyncLimiter, ConfigError, Limit, Limiter, LineFull, Priority, Quota
from limiter.cli import flow
from limiter.cli.calls import Caller
from limiter.cli.settings import Settings, written
from limiter.core import definition, layout
from limiter.mock import MockConfig
from tests.cli.home import Home

BATCH = Priority("batch", level=-10)


def settings_of(*quotas: Quota, priority: str | None = "batch", url: str | None = None) -> Settings:
    return Settings(
        written({quota.name: quota for quota in quotas}), url, "http://x", "openai", "admission",
        None, 1, 0, 9.0, priority,
    )  # fmt: skip


@pytest.fixture
def keys(url: str, name: str) -> Iterator[redis.Redis]:
    """Look into the server that the quota `name` is kept by."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


SLOW = MockConfig(rpm=10**6, tpm=10**9, latency_s=0.2)


@pytest.mark.parametrize("home", [SLOW], indirect=True)
def test_the_calls_stand_in_the_flow_that_was_typed(
    home: Home, url: str, name: str, keys: redis.Redis
) -> None:
    """With a file, its priorities and tenants apply: calls wait as `batch`, for `nightly`."""
    (home.path / "limiter.toml").write_text(
        f'[quotas.{name}]\nrpm = 600\nburst = "smooth"\npriorities.batch = {{level = -10}}\n'
        'tenant_limits = [{dimension = "requests", amount = 100}]\n'
    )
    home.write(*home.requests(30))
    running = home.start("--quota", "limiter.toml", "--url", url, "--priority", "batch",
                         "--tenant", "nightly", "--concurrency", "8", limits=())  # fmt: skip
    home.wait_for_results(5)
    with Limiter(url) as limiter:
        waiting = {k: v.waiting for k, v in limiter.peek(name).priorities.items()}
    assert waiting["batch"] > 0
    assert waiting["default"] == 0
    assert keys.hkeys(layout.keys(name).tenants) == ["nightly"]
    _, said = running.communicate(timeout=60)
    assert running.returncode == 0, said
    assert len(home.results()) == 30


def test_a_bulk_run_outwaits_what_its_priority_says(home: Home) -> None:
    """Neither a priority's timeout nor its max_waiting makes a line fail."""
    (home.path / "limiter.toml").write_text(
        '[quotas.m]\nrpm = 600\nburst = "smooth"\n'
        "priorities.batch = {level = -10, timeout = 0.01, max_waiting = 1}\n"
    )
    home.write(*home.requests(12))
    done = home.run("--quota", "limiter.toml", "--priority", "batch", "--processes", "1",
                    "--max-retries", "0", limits=())  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(home.results()) == 12


def test_a_priority_that_nobody_declares_is_refused_first(
    home: Home, url: str, name: str, keys: redis.Redis
) -> None:
    """The exit is 2 and says what to write; nothing was called, written, or declared anew."""
    with Limiter(url, quotas=[Quota(name, rpm=60, priorities=[BATCH])]) as limiter:
        limiter.peek(name)
    before = keys.hgetall(layout.keys(name).quota)
    (home.path / "limiter.toml").write_text(
        f"[quotas.{name}]\nrpm = 600\npriorities.interactive = {{level = 1}}\n"
    )
    home.write(*home.requests(1))
    done = home.run("--quota", "limiter.toml", "--url", url, "--priority", "batch", limits=())
    assert done.returncode == 2
    assert "--priority: The priority 'batch' of the quota" in done.stderr
    assert "--quota FILE" in done.stderr
    assert keys.hgetall(layout.keys(name).quota) == before
    assert not (home.path / "out.jsonl").exists()
    assert home.server.stats()["accepted"] == 0


def test_a_tenant_is_a_name(home: Home) -> None:
    """What cannot be a tenant's name is refused."""
    home.write(*home.requests(1))
    done = home.run("--tenant", "a\nb")
    assert done.returncode == 2
    assert "A tenant's name is" in done.stderr


def test_what_is_in_the_store_decides(url: str, name: str) -> None:
    """A central definition wins over the file; and a group has the priorities of all its quotas."""
    plain = Quota(name, rpm=60)
    with pytest.raises(ConfigError, match="is not declared"):
        asyncio.run(flow.check(settings_of(plain, url=url)))
    with Limiter(url) as limiter:
        limiter.set_quota(Quota(name, rpm=5, priorities=[BATCH]))
    asyncio.run(flow.check(settings_of(plain, url=url)))
    asyncio.run(flow.check(settings_of(plain, url=url, priority=None)))
    group = [Quota("a", rpm=5, group=f"g{name}"), Quota("b", tpm=5, group=f"g{name}")]
    with Limiter(url, quotas=[Quota("c", rpm=5, group=f"g{name}", priorities=[BATCH])]) as limiter:
        limiter.peek("c")
    asyncio.run(flow.check(settings_of(*group, url=url)))
    agreed = flow.agreed(name, [plain], None)
    assert agreed == definition.read(name, "", definition.write(plain))


def test_a_full_line_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause is the expected wait, between a quarter of a second and five, spread by half."""
    pauses, asked = [], []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    class Full(AsyncLimiter):
        async def acquire(self, *args: object, **kwargs: object) -> str:
            asked.append(kwargs)
            if len(asked) < 4:
                raise LineFull("full", wait_s=(0.0, 2.0, 60.0)[len(asked) - 1])
            return "granted"

    monkeypatch.setattr("limiter.cli.calls.asyncio.sleep", sleep)
    quota = Quota("q", limits=[Limit("requests", 5)], priorities=[BATCH])
    caller = Caller(settings_of(quota), Full("memory://"), None, print)
    assert asyncio.run(caller._granted("q", {"requests": 1})) == "granted"
    assert asked[0] == {"timeout": math.inf, "priority": "batch", "tenant": None}
    for pause, expected in zip(pauses, (0.25, 2.0, 5.0), strict=True):
        assert 0.5 * expected <= pause <= 1.5 * expected
