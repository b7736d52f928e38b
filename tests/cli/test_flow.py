"""`limiter run --priority --tenant`: the flow that the calls stand in."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from functools import partial

import pytest
import redis

from limiter import AsyncLimiter, ConfigError, Limiter, LimitExceeded, LineFull, Priority, Quota
from limiter.bulk.patient import Counted, Patient
from limiter.bulk.settings import Settings, written
from limiter.cli import flow
from limiter.core import definition, layout
from limiter.errors import CircuitOpen, RetriesSpent
from limiter.mock import MockConfig
from limiter.providers import Outcome, Verdict
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


class Turned(AsyncLimiter):
    """Turn calls away before they are granted."""

    def __init__(self, *reasons: LimitExceeded) -> None:
        super().__init__("memory://")
        self.reasons, self.asked = list(reasons), []

    async def acquire(self, *args: object, **kwargs: object) -> str:
        self.asked.append(kwargs)
        if self.reasons:
            raise self.reasons.pop(0)
        return "granted"


async def _no_sleep(pauses: list[float], seconds: float) -> None:
    pauses.append(seconds)


def test_who_is_turned_away_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause is the expected wait, between a quarter of a second and five, spread by half."""
    pauses: list[float] = []
    monkeypatch.setattr("limiter.bulk.patient.asyncio.sleep", partial(_no_sleep, pauses))
    turned = Turned(
        LineFull("full", wait_s=0.0), CircuitOpen("open", wait_s=2.0, denied=False),
        LineFull("full", wait_s=60.0), RetriesSpent("spent", wait_s=None),
    )  # fmt: skip
    reports: list[tuple[object, ...]] = []
    patient = Patient(turned, lambda *parts: reports.append(parts))
    held = asyncio.run(patient.acquire("q", {"requests": 1}, timeout=3, repeats=True))
    assert isinstance(held, Counted)
    assert turned.asked[0] == {"timeout": math.inf, "repeats": True}
    assert reports == [("retry",)]
    for pause, expected in zip(pauses, (0.25, 2.0, 5.0, 0.25), strict=True):
        assert 0.5 * expected <= pause <= 1.5 * expected


def test_who_is_denied_does_not_wait() -> None:
    """A circuit that denials opened fails the line: waiting gives nobody a key."""
    turned = Turned(CircuitOpen("open", wait_s=2.0, denied=True))
    with pytest.raises(CircuitOpen):
        asyncio.run(Patient(turned, print).acquire("q", {"requests": 1}))


def test_a_run_without_numbers_learns_them(home: Home) -> None:
    """Neither --rpm nor a file: one call goes ahead, and the answer's headers tell the limits."""
    home.write(*home.requests(40))
    done = home.run(limits=())
    assert done.returncode == 0, done.stderr
    assert len(home.results()) == 40
    assert home.server.stats()["refused"] == 0


def test_a_counted_reservation_ends_as_any_other() -> None:
    """It takes what the transport gives it: what was used, and what is to be reported after that."""

    async def ends() -> list[tuple[object, ...]]:
        reports: list[tuple[object, ...]] = []
        async with AsyncLimiter("memory://", quotas=[Quota("q", rpm=60)]) as limiter:
            patient = Patient(limiter, lambda *parts: reports.append(parts[:3]))
            for used, late in (({"requests": 1}, Verdict(Outcome.SERVED)), (None, None)):
                held = await patient.acquire("q", {"requests": 1})
                held.settle_soon(used, late)
                held.settle_soon(used, late)
            left = (await patient.acquire("q", {"requests": 1}))._held
            left.settle_from_finalizer(None, None)
        return reports

    assert asyncio.run(ends()) == [("spent", "q", {"requests": 1}), ("spent", "q", {"requests": 0})]
