"""A worker that notes when each call began: `python -m benchmarks.queue.serving JSON`.

It writes a line for each call that has its turn: its custom_id, and the second by the machine's monotonic
clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import REPOSITORY


@dataclass(frozen=True, slots=True)
class Job:
    """Say what one worker does; `quota` are the arguments of the quota `gpt-4o`."""

    redis_url: str
    base_url: str
    queue: str
    log: str
    quota: dict[str, Any]
    priorities: dict[str, int]
    concurrency: int = 64
    lease_s: float = 10.0
    broker: str | None = None


async def serve(job: Job) -> None:
    """Serve the queue until SIGTERM."""
    from limiter import AsyncLimiter, Priority, Quota
    from limiter.bulk.calls import Caller
    from limiter.bulk.settings import Settings, written
    from limiter.queue import AsyncQueue
    from limiter.queue.sources import opened
    from limiter.queue.worker import Worker

    priorities = [Priority(name, level=level) for name, level in job.priorities.items()]
    quotas = {"gpt-4o": Quota("gpt-4o", priorities=priorities, **job.quota)}
    settings = Settings(
        quotas=written(quotas), url=job.redis_url, base_url=job.base_url, provider="openai",
        rule="admission", model=None, concurrency=4096, max_retries=5, timeout_s=600,
    )  # fmt: skip
    log = Path(job.log).open("a", buffering=1)  # noqa: ASYNC230, SIM115 - a line now and then
    limiter = AsyncLimiter(job.redis_url, quotas=quotas.values(), lease=job.lease_s)
    async with (
        limiter,
        AsyncQueue(job.redis_url, name=job.queue, broker=job.broker) as queue,
        opened(queue, job.lease_s, 5) as source,
    ):
        worker = Worker(source, concurrency=job.concurrency, lease=job.lease_s)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)

        def granted() -> None:
            task = asyncio.current_task()
            taken = worker._tasks.get(task) if task else None  # noqa: SLF001 - it is being measured
            if taken is not None:
                log.write(f"{taken.call.custom_id} {time.monotonic()}\n")
            worker.granted()

        async with Caller(settings, limiter, lambda *_: None, granted) as caller:
            print("ready", flush=True)
            await worker.run(caller, 5.0)


class Serving:
    """Be such a process, seen from its parent."""

    def __init__(self, job: Job) -> None:
        command = [sys.executable, "-m", "benchmarks.queue.serving", json.dumps(asdict(job))]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        self.process.send_signal(number)
        self.process.wait()


if __name__ == "__main__":
    asyncio.run(serve(Job(**json.loads(sys.argv[1]))))
