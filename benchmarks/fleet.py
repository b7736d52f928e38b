"""A fleet of processes before a provider-like bucket, against the perfect line.

`python -m benchmarks.fleet` runs it; with `--worker` it is one process of the fleet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks.environments import REPOSITORY
from benchmarks.perfect_line import lower_bound, perfect_line, workload
from benchmarks.provider import ProviderClient, provider
from benchmarks.report import Row

PROCESSES, TASKS = 4, 32
RPM, TPM, BURST_S = 6_000, 2_400_000, 12.0
# What the limiter leaves of the provider's burst, because calls are not all equally long under way.
MARGIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what a fleet did."""

    makespan_s: float
    refused: int


async def _work(args: argparse.Namespace) -> None:
    from limiter import AsyncLimiter, Quota

    quota = Quota("fleet", rpm=RPM, tpm=TPM, burst=BURST_S - MARGIN_S)
    calls = list(workload(args.calls, args.seed, too_high=args.too_high))[args.number :: PROCESSES]
    left = iter(calls)
    client = await ProviderClient.connect(args.socket)
    refused = 0
    async with AsyncLimiter(args.url, quotas=[quota]) as limiter:
        await limiter.peek("fleet")

        async def task() -> None:
            nonlocal refused
            for call in left:
                reservation = await limiter.acquire("fleet", tokens=int(call.estimate[1]))
                answer = await client.call(int(call.actual[1]), call.service_s)
                refused += not answer.ok
                await reservation.settle(tokens=int(call.actual[1]))

        await asyncio.sleep(max(0.0, args.begin - time.monotonic()))
        await asyncio.gather(*(task() for _ in range(TASKS)))
        end = time.monotonic()
    await client.close()
    print(json.dumps({"end": end, "refused": refused}))


def run(url: str, calls: int, too_high: float, seed: int = 1) -> Outcome:
    """Run one fleet to its end."""
    with provider(RPM, TPM, BURST_S) as running:
        begin = time.monotonic() + 3.0
        command = [sys.executable, "-m", "benchmarks.fleet", "--worker", "--url", url]
        command += ["--socket", str(running.socket), "--calls", str(calls), "--seed", str(seed)]
        command += ["--too-high", str(too_high), "--begin", str(begin)]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        fleet = [
            subprocess.Popen([*command, "--number", str(n)], stdout=subprocess.PIPE, env=env)
            for n in range(PROCESSES)
        ]
        found = [json.loads(process.communicate()[0]) for process in fleet]
    return Outcome(max(f["end"] for f in found) - begin, sum(f["refused"] for f in found))


def rows(url: str, calls: int = 2_000) -> list[Row]:
    """Measure with exact estimates, and with ones that are twice and four times too high."""
    import redis

    measured = []
    for too_high in (1.0, 2.0, 4.0):
        with redis.Redis.from_url(url) as client:
            client.flushall()
        drawn = list(workload(calls, 1, too_high=too_high))
        with provider(RPM, TPM, BURST_S) as sample:
            buckets = sample.buckets
        perfect = perfect_line(buckets, drawn, PROCESSES * TASKS)
        bound_s = lower_bound(buckets, drawn)
        outcome = run(url, calls, too_high)
        note = (
            f"{outcome.makespan_s:.2f} s; perfect line {perfect.makespan_s:.2f} s; cost/rate "
            f"{bound_s:.2f} s, so {outcome.makespan_s / bound_s:.3f} x cost/rate"
        )
        what = f"fleet 4x32, estimates {too_high:g}x: makespan / perfect line"
        ratio = outcome.makespan_s / perfect.makespan_s
        measured.append(Row(what, ratio, 1.02, "stay below", "", note))
        measured.append(Row("  … calls refused with 429", outcome.refused, 0, "stay below"))
    return measured


def main() -> None:
    """Be a worker, or run the whole fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--url")
    parser.add_argument("--socket")
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--too-high", type=float, default=1.0)
    parser.add_argument("--begin", type=float, default=0.0)
    args = parser.parse_args()
    if args.worker:
        asyncio.run(_work(args))
        return
    from benchmarks.report import publish
    from benchmarks.servers_redis import redis_server

    with redis_server() as redis:
        publish(rows(redis.url, args.calls), redis_version=redis.version)


if __name__ == "__main__":
    main()
