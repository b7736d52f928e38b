"""Measure token-throttle, the closest peer: acquire + refund pairs a second, as JSON.

It is run by `benchmarks.peers` in an environment of its own (token-throttle wants Python 3.12) and
so imports nothing of ours. Both quotas are so high that no call ever waits for capacity: what is
measured is the price of the peer's bookkeeping. Each pair reserves 1 request + 1,000 tokens and
refunds down to 425 used tokens, the pair of the peer's own documentation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from importlib.metadata import version
from typing import Any

# Far above what can be spent in a run, far below 2^53, where floats would lose single tokens.
_RPM = 10**9
_TPM = 10**12
_MODEL = "bench"
# With its default of 5 s a refund fails with a lock-contention error when 50 tasks run. Its lock
# is polled every 50 ms by default, which is kept: every 1 ms gave 16 pairs/s instead of 132.
_LOCK_PATIENCE_S = 120.0


def _limiter(redis_client: Any, prefix: str) -> Any:
    """Build the peer as its documentation says: RPM + TPM per minute, Redis, no callbacks."""
    from token_throttle import (  # type: ignore[import-not-found]
        PerModelConfig,
        Quota,
        RateLimiter,
        RedisBackendBuilder,
        UsageQuotas,
    )

    quotas = UsageQuotas(
        [
            Quota(metric="requests", limit=_RPM, per_seconds=60),
            Quota(metric="tokens", limit=_TPM, per_seconds=60),
        ]
    )
    backend = RedisBackendBuilder(
        redis_client,
        key_prefix=prefix,
        lock_blocking_timeout_seconds=_LOCK_PATIENCE_S,
    )
    return RateLimiter(PerModelConfig(quotas=quotas), backend=backend)


async def _pair(limiter: Any) -> None:
    reservation = await limiter.acquire_capacity(
        model=_MODEL, usage={"requests": 1, "tokens": 1_000}
    )
    await limiter.refund_capacity(
        actual_usage={"requests": 1, "tokens": 425}, reservation=reservation
    )


async def _one_task(limiter: Any, until_s: float, took_s: list[float]) -> None:
    while (begin_s := time.perf_counter()) < until_s:
        await _pair(limiter)
        took_s.append(time.perf_counter() - begin_s)


async def measure(url: str, tasks: int, seconds: float) -> dict[str, Any]:
    """Return pairs a second and the pair's median time with so many tasks in one process."""
    import redis.asyncio

    # More connections than tasks can use at once: the pool must not be what is measured.
    client: Any = redis.asyncio.from_url(url, max_connections=4 * tasks + 16)
    limiter = _limiter(client, f"peer{tasks}")
    await _pair(limiter)
    took_s: list[float] = []
    begin_s = time.perf_counter()
    await asyncio.gather(
        *(_one_task(limiter, begin_s + seconds, took_s) for _ in range(tasks)),
    )
    elapsed_s = time.perf_counter() - begin_s
    await limiter.aclose()
    await client.aclose()
    return {
        "tasks": tasks,
        "pairs": len(took_s),
        "pairs_per_s": round(len(took_s) / elapsed_s, 1),
        "p50_ms": round(sorted(took_s)[len(took_s) // 2] * 1000, 3),
        "seconds": round(elapsed_s, 2),
    }


def main() -> None:
    """Print one JSON object: the versions, and a measurement for each number of tasks."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("url", help="of a Redis that nobody else uses: redis://… or unix://…")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    rows = [asyncio.run(measure(args.url, tasks, args.seconds)) for tasks in args.tasks]
    versions = {name: version(name) for name in ("token-throttle", "redis")}
    print(json.dumps({"versions": versions, "rows": rows}))


if __name__ == "__main__":
    main()
