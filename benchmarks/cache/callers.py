"""A process that asks the same thing many times at once: `python -m benchmarks.cache.callers JSON`.

It says "ready", waits for a line, asks, and writes how each call ended.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.environments import REPOSITORY

MODEL = "gpt-4o"


@dataclass(frozen=True, slots=True)
class Job:
    """Say what one process does; `lease_s` is the cache's."""

    redis_url: str
    cache_url: str
    base_url: str
    tasks: int
    prompt: str = "hello"
    lease_s: float = 5.0


async def ask(job: Job) -> Counter[str]:
    """Make the calls; count what they ended in."""
    import openai

    from limiter import AsyncLimiter, Quota
    from limiter.cache import AsyncCache

    quota = Quota(MODEL, rpm=60_000, tpm=60_000_000)
    async with AsyncLimiter(job.redis_url, quotas=[quota]) as limiter:
        cache = AsyncCache(job.cache_url, lease=job.lease_s)
        http = limiter.http_client(cache=cache, retry=None)
        client = openai.AsyncOpenAI(
            api_key="k", base_url=job.base_url, http_client=http, max_retries=0
        )
        messages: Any = [{"role": "user", "content": job.prompt}]

        async def one() -> str:
            try:
                answer = await client.chat.completions.create(model=MODEL, messages=messages)
            except openai.OpenAIError as exc:
                return type(exc).__name__
            return answer.id

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        ended = Counter(await asyncio.gather(*(one() for _ in range(job.tasks))))
        await client.close()
        await cache.aclose()
    return ended


class Asking:
    """Be such a process, seen from its parent."""

    def __init__(self, job: Job) -> None:
        command = [sys.executable, "-m", "benchmarks.cache.callers", json.dumps(asdict(job))]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def go(self) -> None:
        """Let it ask."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def ended(self) -> Counter[str]:
        """Wait for its calls; return what they ended in."""
        out, _ = self.process.communicate()
        return Counter(json.loads(out))

    def kill(self) -> None:
        """Kill it as a machine that fails would."""
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(Job(**json.loads(sys.argv[1]))))), flush=True)
