"""Measure everything that has a bar, in one run on one machine: `make bench`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import fairness, fleet, flows, peers, speed, wakeups
from benchmarks.report import Row, publish
from benchmarks.servers_redis import redis_server

_RESULTS = Path(".bench/results.json")


def _peer(url: str) -> list[Row]:
    theirs = peers.token_throttle(url)
    name = "token-throttle, 50 tasks: pairs/s, ours / theirs"
    if not theirs["pairs_per_s"]:
        return [Row(name, None, 100, note=theirs["reason"])]
    found = {int(tasks): rate for tasks, rate in theirs["pairs_per_s"].items()}
    ours = {1: speed.pairs_per_s(url, 1, 500), 50: speed.pairs_per_s(url, 50, 200)}
    note = (
        f"50 tasks: {ours[50]:,.0f} against {found[50]:,.0f}; 1 task (nothing to coalesce, a round "
        f"trip each): {ours[1]:,.0f} against {found[1]:,.0f} = {ours[1] / found[1]:.0f} x"
    )
    return [Row(name, ours[50] / found[50], 100, unit="x", note=note)]


def main() -> int:
    """Print the table; return 1 if a bar was not met."""
    with redis_server() as redis:
        rows = [speed.sequential(redis.url), speed.coalesced(redis.url)]
        rows += _peer(redis.url)
        rows += speed.long_line(redis.url)
        rows += speed.memory(redis.url)
        rows += wakeups.rows(redis.url)
        rows += flows.rows(redis.url)
        rows += fairness.rows(redis.url)
        rows += fleet.rows(redis.url)
        met = publish(rows, redis_version=redis.version, into=_RESULTS)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
