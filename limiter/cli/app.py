"""The commands as they are typed. Options are checked here; the work is elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

import limiter
from limiter import config
from limiter.bulk.settings import Settings, written
from limiter.cli import options, queues, source, typed
from limiter.cli.cache import app as cache_app
from limiter.cli.quotas import app as quota_app
from limiter.cli.typed import AsJson, File, Url
from limiter.core.priority import check_tenant
from limiter.errors import ConfigError, LimiterError
from limiter.providers import names, profile
from limiter.providers.profile import Rule, check_rule

app = typer.Typer(
    name="limiter",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One fair line in front of an LLM quota, for a whole fleet of processes.",
)

app.add_typer(quota_app)
app.add_typer(cache_app)


def run_app(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        app(args=None if arguments is None else list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except LimiterError as exc:
        sys.stderr.write(f"limiter: {exc}\n")
        return 2 if isinstance(exc, ConfigError) else 1
    return 0


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"limiter {limiter.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """One fair line in front of an LLM quota, for a whole fleet of processes."""


Rpm = Annotated[int | None, typer.Option(help="Requests per minute.")]
Tpm = Annotated[int | None, typer.Option(help="Tokens per minute.")]
Burst = Annotated[
    str | None,
    typer.Option(help="full (a refilled bucket), smooth (windows), or seconds of the rate."),
]


@app.command()
def run(
    requests: Annotated[Path, typer.Argument(help="One JSON request per line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the results go.")],
    rpm: Rpm = None,
    tpm: Tpm = None,
    quota: File = None,
    burst: Burst = None,
    url: Url = None,
    base_url: Annotated[str | None, typer.Option(help="The API; else OPENAI_BASE_URL.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, max=256)] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Calls under way in each process.")
    ] = None,
    max_retries: Annotated[int, typer.Option(min=0, max=100)] = 5,
    model: Annotated[str | None, typer.Option(help="For lines that name none.")] = None,
    provider: Annotated[str, typer.Option(help=f"How calls are counted: {names()}.")] = "openai",
    rule: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(Rule))}.")] = "admission",
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for one attempt.")] = 600.0,
    priority: Annotated[str | None, typer.Option(help="One that the quota declares.")] = None,
    tenant: Annotated[str | None, typer.Option(help="On whose behalf the calls are.")] = None,
    compact: typed.Compact = 0,
    fit: typed.Fit = None,
    cache: typed.Cached = False,
    cache_url: typed.CacheUrl = None,
    cache_ttl: typed.CacheTtl = 3600.0,
) -> None:
    """Send a file of requests as fast as the quota allows; a second start resumes.

    A call waits in the line for as long as it takes, whatever timeout or
    max_waiting its priority has.
    """
    from limiter.cli import run as running

    profile(provider)
    check_rule(rule)
    check_tenant(tenant or "")
    source.count_lines(requests)
    api = options.base_url(base_url)
    first = source.first_call(requests, model)
    name = options.quota_name(model or (_model_of(first) if first else None), api)
    quotas, found = options.quotas(quota, rpm=rpm, tpm=tpm, burst_text=burst, name=name)
    store = url or os.environ.get("LIMITER_URL") or found.url
    per_s = max(options.calls_per_s(each) for each in quotas.values())
    workers = options.processes(processes, per_s, shared=not (store or "").startswith("memory:"))
    settings = Settings(
        quotas=written(quotas), url=store, base_url=api, provider=provider, rule=cast("Rule", rule),
        model=model, concurrency=options.concurrency(concurrency, per_s, workers),
        max_retries=max_retries, timeout_s=timeout, priority=priority, tenant=tenant,
        compact=compact, fit=fit, cached=cache or cache_url is not None, cache_url=cache_url,
        cache_ttl_s=cache_ttl,
    )  # fmt: skip
    options.check_cache(settings)
    raise typer.Exit(running.run(running.Job(requests, output, settings, workers)))


def _model_of(call: Any) -> str | None:
    found = call.body.get("model")
    return found if isinstance(found, str) else None


@app.command()
def status(
    quota: Annotated[str | None, typer.Argument(help="One quota; else all of them.")] = None,
    url: Url = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on looking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show levels, who waits, and what is held, now."""
    from limiter.cli import status as showing

    found = config.load()
    store = url or os.environ.get("LIMITER_URL") or found.url
    try:
        code = showing.status(quota, store, found, watch=watch, as_json=as_json)
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)


@app.command()
def simulate(
    trace: typed.Trace,
    rpm: Rpm = None,
    tpm: Tpm = None,
    quota: File = None,
    name: typed.Name = None,
    load: typed.Load = None,
    scale: typed.Scale = None,
    burst: Burst = None,
    concurrency: typed.Slots = None,
    priority_mix: typed.Mix = None,
    tenants: typed.Tenants = 0,
    spread: typed.Spread = "zipf",
    estimate: typed.Estimate = "exact",
    ttft: typed.Ttft = 0.5,
    tokens_per_s: typed.Pace = 50.0,
    timeout: typed.Timeout = None,
    processes: typed.Processes = 4,
    seed: typed.Seed = 0,
    engine: typed.Engine = "lua",
    url: typed.Server = None,
    as_json: AsJson = False,
    plot: typed.Picture = None,
) -> None:
    """Replay a trace in virtual time under a quota: who waits, how long.

    The trace has a header and a row for each call, in the order of time:
    Azure's TIMESTAMP,ContextTokens,GeneratedTokens, or at_s (or timestamp)
    with input_tokens,output_tokens (or tokens), and, where they are known,
    priority, tenant and service_s.

    A call asks when it arrives, waits in the line, is served for ttft +
    output tokens / tokens-per-s, and settles to what it used. Waits are of
    calls that were granted. The use of a limit is what was granted while
    somebody waited, over what there was to be had.
    """
    from limiter.cli import simulate as simulating
    from limiter.simulation.workload import Workload

    asked = simulating.Asked(rpm, tpm, quota, name, load, scale, burst, concurrency)
    mix = simulating.mix(priority_mix) if priority_mix is not None else {}
    work = Workload(
        simulating.estimate(estimate), ttft, tokens_per_s, timeout, mix, tenants, spread, seed
    )
    how = simulating.How(processes, engine, url, as_json, plot)
    try:
        code = simulating.simulate(trace, asked, work, how)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command(
    "mock-server",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def mock_server(context: typer.Context) -> None:
    """Run an OpenAI-compatible server that enforces RPM and TPM; --help lists its options."""
    from limiter import mock

    raise typer.Exit(mock.main(context.args))


@app.command()
def tokens(
    files: Annotated[list[str], typer.Argument(help="Text, .jsonl, .json; - is the input.")],
    model: Annotated[str | None, typer.Option(help="For requests that name none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count the tokens of texts, request bodies and batches, without asking anybody."""
    from limiter.cli import tokens as counting

    raise typer.Exit(counting.show(files, model, as_json=as_json))


@app.command()
def optimize(
    file: Annotated[Path, typer.Argument(help="A text, Markdown, HTML, or .jsonl of requests.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the result goes; else nowhere.")
    ] = None,
    compact: typed.Compact = 1,
    fit: typed.Fit = None,
    model: Annotated[str | None, typer.Option(help="Whose tokens are counted.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make prompts shorter, and tell what each step saves.

    Of a .jsonl, each line is a request, as limiter run takes it; only its
    prompt changes. With --fit its oldest messages go; any other file is cut
    in its middle, where […] stands then. FILE itself is replaced only where
    it is also OUTPUT, with --force.
    """
    from limiter.cli import optimize as optimizing

    steps = optimizing.steps(compact, fit)
    raise typer.Exit(optimizing.optimize(file, steps, model, output, force=force, as_json=as_json))


queues.register(app)
