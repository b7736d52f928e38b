"""The commands of the queue as they are typed: submit, worker, results, jobs, cancel, retry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from limiter import config
from limiter.bulk.settings import Settings, written
from limiter.cli import options, typed
from limiter.cli.typed import AsJson, File, Url
from limiter.core.priority import check_tenant
from limiter.providers import names, profile
from limiter.providers.profile import Rule, check_rule

Name = Annotated[str, typer.Option("--queue", help="Which queue; workers serve one.")]
Broker = Annotated[
    str | None,
    typer.Option(
        help="A RabbitMQ that carries the calls, amqp://…; else LIMITER_BROKER_URL, else Redis."
    ),
]
Job = Annotated[str, typer.Argument(help="Its id, as `limiter submit` told it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (submit, worker, results, jobs, cancel, retry):
        app.command()(command)


def _store(url: str | None) -> str | None:
    return url or os.environ.get("LIMITER_URL") or config.load().url


def submit(
    requests: Annotated[Path, typer.Argument(help="One JSON request per line; - is the input.")],
    queue: Name = "default",
    priority: Annotated[str | None, typer.Option(help="One that the quota declares.")] = None,
    tenant: Annotated[str | None, typer.Option(help="On whose behalf the calls are.")] = None,
    model: Annotated[str | None, typer.Option(help="For lines that name none.")] = None,
    most: Annotated[int, typer.Option(min=0, help="Calls that may wait in the queue; 0: any.")] = 10
    ** 6,
    keep: Annotated[float, typer.Option(min=1, help="Seconds that results are kept.")] = 604_800.0,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for room; else as long as it takes."),
    ] = None,
    url: Url = None,
    broker: Broker = None,
    quota: File = None,
) -> None:
    """Put a file of requests into a queue; print the id of the job.

    limiter worker makes the calls, limiter results has their answers. The
    file may be larger than memory: it goes in as there is room.
    """
    from limiter.cli import queueing

    check_tenant(tenant or "")
    asked = queueing.Submission(
        requests, queue, priority, tenant, model, most, keep, timeout, broker
    )
    raise typer.Exit(queueing.submit(asked, _store(url), config.load(quota)))


def worker(
    queue: Name = "default",
    concurrency: Annotated[int, typer.Option(min=1, max=4096, help="Calls under way.")] = 64,
    url: Url = None,
    broker: Broker = None,
    quota: File = None,
    base_url: Annotated[str | None, typer.Option(help="The API; else OPENAI_BASE_URL.")] = None,
    provider: Annotated[str, typer.Option(help=f"How calls are counted: {names()}.")] = "openai",
    rule: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(Rule))}.")] = "admission",
    max_retries: Annotated[int, typer.Option(min=0, max=100)] = 5,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for one attempt.")] = 600.0,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds of silence after which its calls go to others.")
    ] = 30.0,
    tries: Annotated[
        int, typer.Option(min=1, help="Workers that a call may lose before it is put aside.")
    ] = 5,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that calls under way have when it is stopped.")
    ] = 30.0,
    cache: typed.Cached = False,
    cache_url: typed.CacheUrl = None,
    cache_ttl: typed.CacheTtl = 3600.0,
) -> None:
    """Make the calls of a queue until it is stopped (Ctrl-C, SIGTERM).

    Quotas are those of the limiter.toml, else those that the store knows.
    What waits in line when it is stopped goes back into the queue.
    """
    from limiter.cli import queueing

    profile(provider)
    check_rule(rule)
    store = _store(url)
    settings = Settings(
        quotas=written(queueing.quotas(config.load(quota), store)), url=store,
        base_url=options.base_url(base_url), provider=provider, rule=cast("Rule", rule), model=None,
        # The worker itself bounds what is under way; those that wait in line beside are few.
        concurrency=2 * concurrency + 64, max_retries=max_retries, timeout_s=timeout,
        cached=cache or cache_url is not None, cache_url=cache_url, cache_ttl_s=cache_ttl,
    )  # fmt: skip
    options.check_cache(settings)
    serving = queueing.Serving(queue, concurrency, lease, tries, grace, broker)
    raise typer.Exit(queueing.work(serving, settings))


def results(
    job: Job,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where they go; failures beside it.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for those to come.")] = False,
    queue: Name = "default",
    url: Url = None,
) -> None:
    """Get the results of a job as Batch output lines, in the order in which calls ended."""
    from limiter.cli import queueing

    raise typer.Exit(queueing.results(job, output, queue, _store(url), follow=follow))


def jobs(
    queue: Name = "default",
    dead: Annotated[bool, typer.Option("--dead", help="The calls that failed, and why.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs of a queue: what is done, what waits, what failed."""
    from limiter.cli import queueing

    raise typer.Exit(queueing.jobs(queue, _store(url), dead=dead, as_json=as_json))


def cancel(job: Job, queue: Name = "default", url: Url = None) -> None:
    """Let no more of a job's calls be made; results that are there stay."""
    from limiter.cli import queueing

    raise typer.Exit(queueing.cancel(job, queue, _store(url)))


def retry(job: Job, queue: Name = "default", url: Url = None) -> None:
    """Put the calls of a job that failed into the queue again."""
    from limiter.cli import queueing

    raise typer.Exit(queueing.retry(job, queue, _store(url)))
