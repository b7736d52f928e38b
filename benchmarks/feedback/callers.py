"""The processes that call: ours, the competitors, and a foreigner who shares the quota.

`python -m benchmarks.feedback.callers JOB` is one process. It says "ready", waits for a line with
the second at which to begin, and writes what came of its calls as JSON. The limiter is imported by
our own kind only: the others run in environments that do not have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.environments import REPOSITORY

WHO, TOKENS = "x-bench-who", "x-bench-tokens"
MODEL = "gpt-4o"
# Of one message, by what OpenAI was seen to charge: a quarter of its bytes, one for it, one more.
FRAME_TOKENS = 2
FAILED_S = 0.01  # a caller whose calls fail at once leaves the loop to others


@dataclass(frozen=True, slots=True)
class Job:
    """Say what one process does.

    Attributes:
        kind: `ours`, `plain` (the openai client's own retries), `tenacity`, or `foreign`.
        calls: how many all processes of this kind make together; 0: until the end.
        spans: when it calls, in seconds after the beginning.
        rate: of a foreigner, in calls a second.
        limits: arguments of our quota's `Limit`s; none: they are learned.
        client: arguments of our `http_client`.
    """

    kind: str
    base_url: str
    redis_url: str = ""
    number: int = 0
    processes: int = 1
    tasks: int = 32
    calls: int = 0
    mean_tokens: int = 300
    max_tokens: int | None = None
    spans: tuple[tuple[float, float], ...] = ((0.0, 3_600.0),)
    rate: float = 0.0
    seed: int = 1
    limits: tuple[tuple[str, int, float], ...] = ()
    client: dict[str, Any] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """Name it, as the server notes it."""
        return f"{self.kind}-{self.number}"

    def texts(self) -> Iterator[int]:
        """Draw the lengths of its prompts, in tokens: half to one and a half of the mean."""
        drawn = random.Random(self.seed)
        low, high = self.mean_tokens // 2, self.mean_tokens * 3 // 2
        every = (drawn.randint(low, high) for _ in itertools.count())
        end = self.calls or None
        return itertools.islice(every, self.number, end, self.processes)


class Called(NamedTuple):
    """Be a call as its caller saw it: its times, and what became of it ("": it was served)."""

    began_s: float
    ended_s: float
    error: str


# --- one process --------------------------------------------------------------------------------

Ask = Callable[[int], Any]


def _request(job: Job, tokens: int) -> dict[str, Any]:
    """Write the call whose prompt has so many tokens, a quarter of its bytes."""
    charged = tokens + FRAME_TOKENS
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "word" * tokens}],
        "extra_headers": {WHO: job.who, TOKENS: str(charged)},
    }
    return body if job.max_tokens is None else {**body, "max_tokens": job.max_tokens}


@contextlib.asynccontextmanager
async def _ours(job: Job) -> AsyncIterator[Ask]:
    from openai import AsyncOpenAI

    from limiter import AsyncLimiter, Limit, Quota

    quota = Quota(MODEL, limits=[Limit(*limit) for limit in job.limits])
    async with AsyncLimiter(job.redis_url, quotas=[quota]) as limiter:
        await limiter.peek(MODEL)
        http = limiter.http_client(**job.client)
        async with AsyncOpenAI(
            api_key="any", base_url=job.base_url, http_client=http, max_retries=0
        ) as client:
            create = client.chat.completions.create
            yield lambda tokens: create(**_request(job, tokens))


@contextlib.asynccontextmanager
async def _plain(job: Job) -> AsyncIterator[Ask]:
    """Leave it to the client's own retries: twice, as it comes."""
    from openai import AsyncOpenAI

    retries = {"max_retries": 0} if job.kind == "foreign" else {}
    async with AsyncOpenAI(api_key="any", base_url=job.base_url, **retries) as client:
        create = client.chat.completions.create
        yield lambda tokens: create(**_request(job, tokens))


@contextlib.asynccontextmanager
async def _tenacity(job: Job) -> AsyncIterator[Ask]:
    """Back off as OpenAI's cookbook on rate limits shows it: 1 to 60 s at random, six attempts.

    Without the client's own retries, which would multiply them.
    """
    from openai import AsyncOpenAI
    from tenacity import retry, stop_after_attempt, wait_random_exponential

    async with AsyncOpenAI(api_key="any", base_url=job.base_url, max_retries=0) as client:
        again = retry(wait=wait_random_exponential(min=1, max=60), stop=stop_after_attempt(6))
        create = again(client.chat.completions.create)
        yield lambda tokens: create(**_request(job, tokens))


_KINDS = {"ours": _ours, "plain": _plain, "foreign": _plain, "tenacity": _tenacity}


async def _note(ask: Ask, tokens: int, into: list[Called]) -> None:
    began_s = time.time()
    error = ""
    try:
        await ask(tokens)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is counted by its name
        error = type(exc).__name__
    into.append(Called(began_s, time.time(), error))


async def _closed_loop(job: Job, ask: Ask, begin_s: float, into: list[Called]) -> None:
    """Let each task make the next call as soon as its last one ended."""
    texts = job.texts()

    async def task() -> None:
        for tokens in texts:
            await _note(ask, tokens, into)
            if into[-1].error:
                await asyncio.sleep(FAILED_S)

    tasks = [asyncio.ensure_future(task()) for _ in range(job.tasks)]
    _, late = await asyncio.wait(tasks, timeout=begin_s + job.spans[-1][1] - time.time())
    for each in late:
        each.cancel()
    await asyncio.gather(*late, return_exceptions=True)


async def _open_loop(job: Job, ask: Ask, begin_s: float, into: list[Called]) -> None:
    """Call at an even pace, whatever becomes of the calls."""
    texts, under_way, at_s = job.texts(), set(), begin_s
    for start, end in job.spans:
        for n in range(int((end - start) * job.rate)):
            # A foreigner whose process was held up makes up for nothing: that would be a burst.
            at_s = max(begin_s + start + n / job.rate, at_s + 0.5 / job.rate)
            await asyncio.sleep(at_s - time.time())
            call = asyncio.ensure_future(_note(ask, next(texts), into))
            under_way.add(call)
            call.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


async def _work(job: Job) -> list[Called]:
    async with _KINDS[job.kind](job) as ask:
        print("ready", flush=True)
        begin_s = float(await asyncio.to_thread(sys.stdin.readline))
        await asyncio.sleep(begin_s - time.time())
        called: list[Called] = []
        loop = _open_loop if job.kind == "foreign" else _closed_loop
        await loop(job, ask, begin_s, called)
    return called


# --- all of them, from outside ------------------------------------------------------------------


class Crew:
    """Hold processes that are ready to begin together."""

    def __init__(self, jobs: Sequence[Job], python: Path | None = None) -> None:
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        command = [str(python or sys.executable), "-m", "benchmarks.feedback.callers"]
        self._processes = [
            subprocess.Popen([*command, json.dumps(asdict(job))], env=env, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for job in jobs
        ]  # fmt: skip

    def begin(self, begin_s: float | None = None) -> float:
        """Let all of them begin as soon as all are ready, or then; return the moment."""
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{process.args!r:.120} did not start: see what it wrote")
        begin_s = begin_s or time.time() + 0.2
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{begin_s}\n")
            process.stdin.flush()
        return begin_s

    def called(self) -> list[Called]:
        """Wait for the end of all, and return their calls."""
        found = [json.loads(process.communicate()[0]) for process in self._processes]
        return [Called(*call) for calls in found for call in calls]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            with process:  # closes its pipes, and waits for it
                if process.poll() is None:
                    process.kill()


def fleet(job: Job, processes: int = 4) -> list[Job]:
    """Spread a job over processes."""
    return [replace(job, number=n, processes=processes) for n in range(processes)]


def main() -> None:
    """Be one process."""
    given = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(_work(Job(**given)))))


if __name__ == "__main__":
    main()
