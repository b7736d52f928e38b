"""A fleet of processes before a provider-like bucket, in real time, against the perfect line.

`python -m benchmarks.fleet` runs it; with `--worker` it is one process of the fleet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.environments import REPOSITORY
from benchmarks.perfect_line import lower_bound, perfect_line, workload
from benchmarks.provider import ProviderClient, provider
from benchmarks.report import Row

if TYPE_CHECKING:
    from benchmarks.perfect_line import Call
    from limiter import AsyncLimiter

RPM, TPM, BURST_S = 6_000, 2_400_000, 12.0
# What the limiter leaves of the provider's burst, because calls are not all equally long under way.
MARGIN_S = 0.05
READY_S = 0.9  # until a process has been started and is connected, on a core that it shares
PATIENCE_S = (0.02, 0.4)  # between which it is drawn how long a caller waits who gives up


@dataclass(frozen=True, slots=True)
class Fleet:
    """Say what a fleet does.

    Attributes:
        giving_up: before this part of the calls their caller asks for another one of the same cost,
            gives it up while it waits, and goes on with the call.
        learned: what calls of the fleet took is reserved instead, as soon as that is known: what was
            enough for nine of ten.
    """

    processes: int = 4
    tasks: int = 32
    calls: int = 2_000
    too_high: float = 1.0
    giving_up: float = 0.0
    learned: bool = False
    seed: int = 1

    def drawn(self) -> list[Call]:
        """Draw the calls that are made, in the order of the line."""
        return list(workload(self.calls, self.seed, too_high=self.too_high))

    @property
    def name(self) -> str:
        """Say it in a few words."""
        words = f"fleet {self.processes}x{self.tasks}, estimates {self.too_high:g}x"
        words += ", learned" if self.learned else ""
        return words + (f", {self.giving_up:.0%} given up" if self.giving_up else "")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what a fleet did; `given_up` counts those who did so while they waited."""

    makespan_s: float
    refused: int
    given_up: int
    busy_s: float


async def _give_up(limiter: AsyncLimiter, tokens: int, draw: random.Random) -> bool:
    """Ask for a call and lose patience; say whether it waited until then."""
    ask = asyncio.ensure_future(limiter.acquire("fleet", tokens=tokens))
    await asyncio.wait([ask], timeout=draw.uniform(*PATIENCE_S))
    if ask.done():
        await (await ask).cancel()
        return False
    ask.cancel()
    await asyncio.wait([ask])
    return True


async def _work(fleet: Fleet, args: argparse.Namespace) -> dict[str, Any]:
    from limiter import AsyncLimiter, Quota
    from limiter.core.sketch import OutputKey

    alike = OutputKey("fleet", 900)
    quota = Quota("fleet", rpm=RPM, tpm=TPM, burst=BURST_S - MARGIN_S)
    draw = random.Random(fleet.seed * 1_000 + args.number)
    left = iter(fleet.drawn()[args.number :: fleet.processes])
    client = await ProviderClient.connect(args.socket)
    refused = given_up = 0
    async with AsyncLimiter(args.url, quotas=[quota]) as limiter:
        await limiter.peek("fleet")

        async def task() -> None:
            nonlocal refused, given_up
            for call in left:
                tokens = int(call.estimate[1])
                if fleet.learned:
                    tokens = min(tokens, limiter.expected_output("fleet", alike) or tokens)
                if draw.random() < fleet.giving_up:
                    given_up += await _give_up(limiter, tokens, draw)
                reservation = await limiter.acquire("fleet", tokens=tokens)
                answer = await client.call(int(call.actual[1]), call.service_s)
                refused += not answer.ok
                if fleet.learned:
                    reservation.record_output(alike, int(call.actual[1]))
                await reservation.settle(tokens=int(call.actual[1]))

        await asyncio.sleep(max(0.0, args.begin - time.monotonic()))
        await asyncio.gather(*(task() for _ in range(fleet.tasks)))
        end = time.monotonic()
    await client.close()
    busy_s = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    return {"end": end, "refused": refused, "given_up": given_up, "busy_s": busy_s}


def run(url: str, fleet: Fleet) -> Outcome:
    """Run one fleet to its end."""
    with provider(RPM, TPM, BURST_S) as running:
        begin = time.monotonic() + READY_S * fleet.processes
        command = [sys.executable, "-m", "benchmarks.fleet", "--worker", "--url", url]
        command += ["--socket", str(running.socket), "--begin", str(begin)]
        command += ["--fleet", json.dumps(asdict(fleet))]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        processes = [
            subprocess.Popen([*command, "--number", str(n)], stdout=subprocess.PIPE, env=env)
            for n in range(fleet.processes)
        ]
        found = [json.loads(process.communicate()[0]) for process in processes]
    return Outcome(
        max(f["end"] for f in found) - begin,
        sum(f["refused"] for f in found),
        sum(f["given_up"] for f in found),
        sum(f["busy_s"] for f in found),
    )


def against_the_perfect_line(url: str, fleet: Fleet) -> list[Row]:
    """Compare one fleet's makespan with the perfect line's.

    The perfect line makes the same calls and knows nothing of those who give up: what they asked for
    is never called and costs nothing, and it does not lose the time for which they waited.
    """
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushall()
    drawn = fleet.drawn()
    with provider(RPM, TPM, BURST_S) as sample:
        buckets = sample.buckets
    perfect = perfect_line(buckets, drawn, fleet.processes * fleet.tasks)
    bound_s = lower_bound(buckets, drawn)
    outcome = run(url, fleet)
    note = (
        f"{outcome.makespan_s:.2f} s; perfect line {perfect.makespan_s:.2f} s; cost/rate "
        f"{bound_s:.2f} s, so {outcome.makespan_s / bound_s:.3f} x cost/rate; all processes "
        f"together were busy for {outcome.busy_s:.1f} s, starting up included"
    )
    if fleet.giving_up:
        note += f"; {outcome.given_up} gave up while they waited"
    ratio = outcome.makespan_s / perfect.makespan_s
    if fleet.learned:
        # The perfect line trusts its estimates, so it is no measure of one that learns better ones.
        by_cost = outcome.makespan_s / bound_s
        return [
            Row(f"{fleet.name}: makespan / (cost/rate)", by_cost, 1.05, "stay below", "", note),
            Row("  … calls refused with 429", outcome.refused, 0, "stay below"),
        ]
    return [
        Row(f"{fleet.name}: makespan / perfect line", ratio, 1.02, "stay below", "", note),
        Row("  … calls refused with 429", outcome.refused, 0, "stay below"),
    ]


def rows(url: str, calls: int = 2_000) -> list[Row]:
    """Measure exact estimates, too high and learned ones, and more callers of whom some give up."""
    fleets = [Fleet(calls=calls, too_high=too_high) for too_high in (1.0, 2.0, 4.0)]
    fleets.append(Fleet(calls=calls, too_high=4.0, learned=True))
    fleets.append(Fleet(processes=8, tasks=16, calls=calls, too_high=4.0, giving_up=0.1))
    return [row for fleet in fleets for row in against_the_perfect_line(url, fleet)]


def main() -> None:
    """Be a worker, or run the whole fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--url")
    parser.add_argument("--socket")
    parser.add_argument("--fleet", default="{}")
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--begin", type=float, default=0.0)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(asyncio.run(_work(Fleet(**json.loads(args.fleet)), args))))
        return
    from benchmarks.report import publish
    from benchmarks.servers_redis import redis_server

    with redis_server() as redis:
        publish(rows(redis.url, args.calls), redis_version=redis.version)


if __name__ == "__main__":
    main()
