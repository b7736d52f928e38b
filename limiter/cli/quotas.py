"""The commands `limiter quota …` as they are typed: they change what is declared in the store."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from limiter import config
from limiter.cli import typed
from limiter.errors import ConfigError

app = typer.Typer(
    name="quota",
    no_args_is_help=True,
    help="Change the quotas that are declared in the store, for the whole fleet.",
)


@app.command()
def sync(
    project: Annotated[str, typer.Option(help="An OpenAI project's id, as proj_abc123.")],
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Only these of its models.")
    ] = None,
    url: typed.Url = None,
    quota: typed.File = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also models that no quota is for.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    as_json: typed.AsJson = False,
    base_url: Annotated[str | None, typer.Option(help="The API; else OpenAI's.")] = None,
) -> None:
    """Read an OpenAI project's limits, and declare them centrally.

    Needs an admin key in OPENAI_ADMIN_KEY.

    A model's limits become those of the quota that its calls are counted on:
    one of its name in the store or the limiter.toml, or one whose models
    cover it. Everything else that the quota is stays. Of several models, the
    quota gets the smallest numbers. A model without a quota gets one of its
    name where it is typed, or with --all.

    Audio megabytes and the queue of the Batch API are left out. Which models
    share a limit is not told: give those one quota, with models = […].
    """
    from limiter.cli import sync as syncing

    found = config.load(quota)
    store = url or os.environ.get("LIMITER_URL") or found.url
    if (store or "").startswith("memory:") and not dry_run:
        raise ConfigError("memory:// ends with this process: give the --url of a store to share.")
    asked = syncing.Asked(project, base_url, tuple(models or ()), everything, dry_run)
    raise typer.Exit(syncing.sync(asked, store, found, as_json=as_json))
