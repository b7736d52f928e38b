"""Laws about the servers: what they enforce, what they charge, how they start and end."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis

from benchmarks.environments import EnvironmentMissingError, find_python, version_of
from benchmarks.perfect_line import Bucket, Call, perfect_line
from benchmarks.processes import running
from benchmarks.servers import (
    EnforcedLimit,
    LimitingServer,
    configurations,
    encoded,
    fakeai_charge,
    mocklimit_charge,
    read_limits,
)
from benchmarks.servers_redis import redis_server

if TYPE_CHECKING:
    from pathlib import Path

CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "a" * 10}],
    "max_completion_tokens": 37,
}


def configuration(strategy: str, **entry: float) -> dict[str, Any]:
    limit = {"dimension": "total_tokens", **entry}
    return {"policies": {"chat": {"strategy": strategy, "limits": [limit]}}}


def test_a_token_bucket_is_mirrored_as_it_is() -> None:
    """Capacity and refill rate are the configuration's; the burst asked for plays no part."""
    (limit,) = read_limits(configuration("token_bucket", capacity=3000, refill_rate=1000.0))
    assert limit == EnforcedLimit("tokens", "token_bucket", 3000, 1000.0)
    assert limit.bucket(burst=7) == Bucket(3000, 1000.0)


def test_no_window_ever_sees_more_than_its_limit() -> None:
    """Burst + rate x window is the window's limit, so that a full bucket never oversteps it."""
    (limit,) = read_limits(configuration("sliding_window", limit=6000, window_seconds=6))
    assert limit == EnforcedLimit("tokens", "sliding_window", 6000, 1000.0, 6)
    bucket = limit.bucket(burst=600)
    assert bucket == Bucket(600, 900)
    assert bucket.capacity + bucket.rate_per_s * limit.window_s == limit.amount


def test_a_servers_limits_are_the_perfect_lines_buckets() -> None:
    """A stack of windows is a bucket each; 2 of 10 calls a second go into the burst, 8 are rate."""
    entries = [
        {"dimension": "requests", "limit": 10, "window_seconds": 1},
        {"dimension": "total_tokens", "limit": 60_000, "window_seconds": 60},
    ]
    limits = read_limits({"policies": {"chat": {"strategy": "fixed_window", "limits": entries}}})
    server = LimitingServer("mocklimit", "http://127.0.0.1/v1", limits, mocklimit_charge)
    assert server.cost(500) == (1, 500)
    assert server.buckets(burst_calls=2, largest_tokens=500) == [
        Bucket(2, 8),
        Bucket(1_000, 59_000 / 60),
    ]
    calls = [Call(server.cost(500), server.cost(500))] * 4
    # Tokens bind: 2,000 - 1,000 of burst, at 983.3 a second.
    line = perfect_line(server.buckets(2, 500), calls)
    assert line.makespan_s == pytest.approx(60 / 59)


def test_mocklimit_charges_the_whole_body_and_the_completion() -> None:
    """97 bytes of JSON are 24 tokens, and 37 may be written; `usage` says the same."""
    assert len(encoded(CHAT)) == 97
    assert mocklimit_charge(CHAT) == 24 + 37
    assert mocklimit_charge(encoded(CHAT)) == 24 + 37
    assert mocklimit_charge(CHAT, {"usage": {"total_tokens": 61}}) == 61
    uncapped = {key: value for key, value in CHAT.items() if key != "max_completion_tokens"}
    assert mocklimit_charge(uncapped) == len(encoded(uncapped)) // 4 + 100
    answer = {"model": "gpt-4o", "input": "hello", "max_output_tokens": 5}
    assert mocklimit_charge(answer, endpoint="/responses") == len(encoded(answer)) // 4 + 5


def test_fakeai_charges_the_body_alone_and_at_least_a_hundred() -> None:
    """Neither the completion nor the response's usage is in it; Responses cost no tokens."""
    assert fakeai_charge(CHAT, {"usage": {"total_tokens": 9_999}}) == 100
    big = {**CHAT, "messages": [{"role": "user", "content": "ü" * 1_000}]}
    assert fakeai_charge(big) == len(encoded(big)) // 4 == (2_000 + 87) // 4
    assert fakeai_charge(CHAT, endpoint="/responses") == 0


def test_where_the_configurations_are_can_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment wins, and a directory without them is named in the error."""
    monkeypatch.setenv("LIMITER_SHARED_SERVERS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="LIMITER_SHARED_SERVERS"):
        configurations()
    (tmp_path / "mocklimit").mkdir()
    assert configurations() == tmp_path / "mocklimit"


def test_an_interpreter_counts_only_if_it_runs(tmp_path: Path) -> None:
    """A name that exists proves nothing: a version manager leaves names that refuse to run."""
    assert version_of(find_python((3, 11))) >= (3, 11)
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert version_of(shim) == (0, 0)
    with pytest.raises(EnvironmentMissingError, match=r"Python >= 3\.99"):
        find_python((3, 99), newest=(3, 99))


def test_a_private_redis_keeps_nothing_and_ends_with_its_block() -> None:
    """It answers at its unix socket only, saves nothing, and its process is gone afterwards."""
    with redis_server() as server:
        client = redis.Redis.from_url(server.url)
        assert client.ping()
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert client.config_get("port") == {"port": "0"}
        assert "v=" in server.version
        client.close()
    assert not server.socket.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    """The error holds its last words instead of a timeout's silence."""
    command = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with (
        pytest.raises(RuntimeError, match="no such port"),
        running(command, tmp_path / "log", lambda: False),
    ):
        pass
