"""Options as they are typed: names, ranges, and a line of help each.

First those of several commands, then those of `limiter simulate`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Url = Annotated[
    str | None,
    typer.Option(help="The limiter's store; else LIMITER_URL, else the embedded server."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON.")]
Compact = Annotated[
    int,
    typer.Option(
        min=0,
        max=3,
        help="1: white space. 2: repeated lines too. 3: HTML and Markdown dressing too.",
    ),
]
Fit = Annotated[
    int | None, typer.Option(min=1, help="Tokens of a prompt at most: its oldest messages go.")
]
File = Annotated[Path | None, typer.Option("--quota", help=r"A limiter.toml with \[quotas.…].")]

Cached = Annotated[
    bool,
    typer.Option("--cache", help="Answer repeated prompts from a cache, and store the others."),
]
CacheUrl = Annotated[
    str | None,
    typer.Option(help="Where that is; else LIMITER_CACHE_URL, else an embedded server."),
]
CacheTtl = Annotated[float, typer.Option(min=0.001, help="Seconds that an answer is kept.")]

Trace = Annotated[Path, typer.Argument(help="A CSV file of arrivals and token counts.")]
Name = Annotated[str | None, typer.Option(help="Which quota of the file.")]
Load = Annotated[
    str | None, typer.Option(help="Limits as shares of the trace's mean load: 0.8,1,1.2.")
]
Scale = Annotated[str | None, typer.Option(help="Limits as multiples of the quota's: 1,1.5,2.")]
Slots = Annotated[int | None, typer.Option(help="A limit on the calls at a time.")]
Mix = Annotated[
    str | None,
    typer.Option(
        help="Priorities, the first one before the others, and their shares of the calls that "
        "name none: interactive=0.3,batch=0.7."
    ),
]
Tenants = Annotated[
    int, typer.Option(min=0, max=10_000, help="Spread calls that name no tenant over so many.")
]
Spread = Annotated[
    Literal["zipf", "uniform"], typer.Option(help="zipf: the k-th tenant calls 1/k as often.")
]
Estimate = Annotated[
    str, typer.Option(help="Output tokens to reserve: exact, max:500, or factor:2 of what is used.")
]
Ttft = Annotated[float, typer.Option(min=0, help="Seconds until the first token.")]
Pace = Annotated[float, typer.Option(min=0.001, help="Output tokens per second, then.")]
Timeout = Annotated[
    float | None, typer.Option(min=0.001, help="Seconds after which a call gives up waiting.")
]
Processes = Annotated[int, typer.Option(min=1, max=1000, help="They share quota and calls.")]
Seed = Annotated[int, typer.Option(help="Draws priorities and tenants.")]
Engine = Annotated[
    Literal["lua", "model"],
    typer.Option(help="lua: the script, on a server. model: the same in Python, without one."),
]
Server = Annotated[
    str | None,
    typer.Option("--url", help="Where the script runs; else the embedded server, never "
                 "LIMITER_URL. On keys of its own, deleted afterwards."),
]  # fmt: skip
Picture = Annotated[
    Path | None, typer.Option("--plot", help="Also draw: a .png, .svg or .pdf. Needs matplotlib.")
]
