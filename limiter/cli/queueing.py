"""What the commands of the queue do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from limiter.api import AsyncLimiter, Limiter
from limiter.bulk.settings import Settings
from limiter.errors import ConfigError
from limiter.queue import JobStatus, Queue
from limiter.queue.levels import level_of

if TYPE_CHECKING:
    from limiter.cli.following import Following
    from limiter.config import Config
    from limiter.core.quota import Quota

OK, FAILED = 0, 1


class Submission(NamedTuple):
    """Hold what `limiter submit` was asked for."""

    source: Path
    queue: str
    priority: str | None
    tenant: str | None
    model: str | None
    most: int
    keep_s: float
    timeout_s: float | None
    broker: str | None


def submit(asked: Submission, url: str | None, found: Config) -> int:
    """Put a file into a queue; print the job's id.

    Raises:
        ConfigError: the file cannot be read, a line is no request, or nobody declares the priority.
        QueueFull: there was no room in time.
    """
    level = level_of(asked.priority, found.quotas.values()) if found.quotas else None
    options: dict[str, Any] = {"name": asked.queue, "most": asked.most, "keep": asked.keep_s,
                               "broker": asked.broker}  # fmt: skip
    with Queue(url, **options) as queue, _opened(asked.source) as lines:
        job = queue.submit(
            lines, priority=asked.priority, level=level, tenant=asked.tenant, model=asked.model,
            name=asked.source.name, timeout=asked.timeout_s,
        )  # fmt: skip
        total = queue.status(job).total
    sys.stderr.write(f"{total:,} calls wait in the queue {asked.queue!r}.\n")
    if url is None:
        # It is no place for work that must outlive its submitter, and looks like one.
        sys.stderr.write(
            "They are in the embedded server of this machine, which ends a minute after its last user, "
            "and they with it: start a worker now, or give --url of a Redis.\n"
        )
    sys.stdout.write(f"{job}\n")
    return OK


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be read ({exc.strerror}); give a file with one JSON request per line."
        ) from exc


def quotas(found: Config, url: str | None) -> dict[str, Quota]:
    """Return the quotas of a `limiter.toml`, else those that the store knows.

    Raises:
        ConfigError: there are none.
    """
    known = dict(found.quotas)
    if not known:
        with Limiter(url) as limiter:
            known = {each.quota.name: each.quota for each in limiter.declarations()}
    if not known:
        raise ConfigError(
            "No quota is declared: write a limiter.toml with [quotas.NAME], give --quota FILE, or declare "
            "them in the store."
        )
    return known


class Serving(NamedTuple):
    """Hold how a worker serves a queue."""

    queue: str
    concurrency: int
    lease_s: float
    tries: int
    grace_s: float
    broker: str | None


def work(serving: Serving, settings: Settings) -> int:
    """Make the calls of a queue until a signal comes."""
    return asyncio.run(_work(serving, settings))


async def _work(serving: Serving, settings: Settings) -> int:
    from limiter.bulk.calls import Caller, Ended
    from limiter.queue.api import AsyncQueue
    from limiter.queue.layout import Taken
    from limiter.queue.sources import opened
    from limiter.queue.worker import Worker

    done = {True: 0, False: 0}

    def ended(_taken: Taken, end: Ended) -> None:
        done[end.ok] += 1

    limiter = AsyncLimiter(settings.url, quotas=settings.declared().values(), lease=serving.lease_s)
    opened_queue = AsyncQueue(settings.url, name=serving.queue, broker=serving.broker)
    async with (
        opened_queue as queue,
        limiter,
        opened(queue, serving.lease_s, serving.tries) as source,
    ):
        worker = Worker(source, concurrency=serving.concurrency, lease=serving.lease_s, ended=ended)
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, worker.stop)
        caller = Caller(settings, limiter, lambda *_: None, worker.granted)
        sys.stderr.write(f"Serving the queue {serving.queue!r}; Ctrl-C stops.\n")
        async with caller:
            await worker.run(caller, serving.grace_s)
    sys.stderr.write(f"Stopped: {done[True]:,} calls made, {done[False]:,} failed.\n")
    return OK


# --- results ----------------------------------------------------------------------------------


def results(job: str, output: Path | None, queue: str, url: str | None, *, follow: bool) -> int:
    """Write a job's results; return 0 if each of its calls has one."""
    with Queue(url, name=queue) as opened, _followed(opened, job, url, follow=follow) as following:
        opened.status(job)
        with _sink(output) as write:
            for line in opened.lines(
                job, follow=follow, tick=following.tick if following else None
            ):
                write(line if line.endswith(b"\n") else line + b"\n")
                if following:
                    following.saw(line)
        status = opened.status(job)
    sys.stderr.write(f"{_counted(status)}\n")
    return FAILED if status.failed or status.left or status.dropped else OK


@contextlib.contextmanager
def _followed(
    queue: Queue, job: str, url: str | None, *, follow: bool
) -> Iterator[Following | None]:
    """Show a person how far the job is; nobody, where nobody looks."""
    if not (follow and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console

    from limiter.cli.following import Following

    with Console(stderr=True).status(f"{job} …") as shown:
        following = Following(
            url, lambda: queue.status(job), lambda text: shown.update(f"{job}: {text}")
        )
        with contextlib.closing(following):
            yield following


@contextlib.contextmanager
def _sink(output: Path | None) -> Iterator[Any]:
    """Yield what writes a line: to the output, failures into a file beside it."""
    if output is None:
        yield lambda line: (sys.stdout.buffer.write(line), sys.stdout.buffer.flush())
        return
    errors = output.with_name(f"{output.name}.errors.jsonl")
    errors.unlink(missing_ok=True)
    try:
        with output.open("wb") as file:

            def write(line: bytes) -> None:
                if json.loads(line)["error"] is None:
                    file.write(line)
                else:
                    with errors.open("ab") as beside:
                        beside.write(line)

            yield write
    except OSError as exc:
        raise ConfigError(
            f"{output}: cannot be written ({exc.strerror}); choose another -o."
        ) from exc


def _counted(status: JobStatus) -> str:
    parts = [f"{status.total:,} calls", f"{status.ok:,} ok"]
    rest = {"failed": status.failed, "dropped": status.dropped, "left": status.left}
    parts += [f"{count:,} {name}" for name, count in rest.items() if count]
    return f"{status.job}: {', '.join(parts)}; {status.tokens:,} tokens ({status.state})"


def jobs(queue: str, url: str | None, *, dead: bool, as_json: bool) -> int:
    """List the jobs, or their calls that failed."""
    with Queue(url, name=queue) as opened:
        found = opened.jobs()
        failed = [(job.job, each) for job in found if dead for each in opened.failed(job.job)]
    if dead:
        for job, each in failed:
            _print_failed(job, each, as_json=as_json)
    elif as_json:
        for status in found:
            sys.stdout.write(json.dumps({**asdict(status), "left": status.left}) + "\n")
    else:
        _print_jobs(found)
    return OK


def _print_failed(job: str, each: Any, *, as_json: bool) -> None:
    error = json.loads(each.why)["error"]
    told = {"job": job, "number": each.number, "custom_id": each.call.custom_id, **error}
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write(f"{job}  {each.call.custom_id}  {error['message']} ({error['code']})\n")


def _print_jobs(found: list[JobStatus]) -> None:
    if not found:
        sys.stdout.write("No jobs.\n")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("job", no_wrap=True)
    table.add_column("of", overflow="ellipsis", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("calls", "ok", "failed", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for job in found:
        whose = " ".join(part for part in (job.name, job.priority, job.tenant) if part)
        counts = (job.total, job.ok, job.failed, job.left)
        table.add_row(job.job, whose, job.state, *(f"{count:,}" for count in counts))
    Console().print(table)


def cancel(job: str, queue: str, url: str | None) -> int:
    """Cancel a job."""
    with Queue(url, name=queue) as opened:
        sys.stderr.write(f"{_counted(opened.cancel(job))}\n")
    return OK


def retry(job: str, queue: str, url: str | None) -> int:
    """Put the failed calls of a job into the queue again."""
    with Queue(url, name=queue) as opened:
        opened.status(job)
        sys.stderr.write(f"{opened.retry(job):,} calls wait in the queue {queue!r} again.\n")
    return OK
