"""Several processes share one quota: nothing to install, nothing to start, one fair line."""

from __future__ import annotations

import multiprocessing
import time

from limiter import Limiter, Quota

QUOTA = Quota("shared", rpm=1_200, tpm=60_000, burst=1.0)


def work(number: int, calls: int) -> None:
    """Be one process of the fleet."""
    with Limiter(quotas=[QUOTA]) as limiter:
        for _ in range(calls):
            with limiter.reserve("shared", tokens=40) as reservation:
                reservation.settle(tokens=30)
    print(f"process {number}: {calls} calls", flush=True)


if __name__ == "__main__":
    begin = time.monotonic()
    context = multiprocessing.get_context("spawn")
    fleet = [context.Process(target=work, args=(number, 15)) for number in range(4)]
    for process in fleet:
        process.start()
    for process in fleet:
        process.join()
    print(f"60 calls of 4 processes at 20 a second: {time.monotonic() - begin:.1f} s")
