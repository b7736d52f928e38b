"""The commands `limiter cache …`: what the cache has done, and what is in it.

Answers are shown only where that is asked for; prompts are not in the store at all.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limiter.cli.typed import AsJson
from limiter.errors import ConfigError

if TYPE_CHECKING:
    from limiter.cache import CacheStats, Stored

app = typer.Typer(
    name="cache",
    no_args_is_help=True,
    help="Look at the answers that are kept for repeated prompts, and at what they saved.",
)

Url = Annotated[
    str | None,
    typer.Option(help="The cache's store; else LIMITER_CACHE_URL, else the embedded one."),
]
Namespace = Annotated[str | None, typer.Option(help="Only whose: as `limiter cache show` lists.")]


@app.command()
def stats(url: Url = None, as_json: AsJson = False) -> None:
    """Show how often it had the answer, and what that saved."""
    from limiter.cache import Cache

    with Cache(url) as cache:
        told, (answers, size) = cache.stats(), cache.size()
    if as_json:
        derived = {"requests_saved": told.requests_saved, "hit_rate": told.hit_rate}
        _print_json({**asdict(told), **derived, "answers": answers, "bytes": size})
    else:
        sys.stdout.write(_words(told, answers, size))


def _words(told: CacheStats, answers: int, size: int) -> str:
    asked = told.hits + told.joins + told.stale + told.misses
    each = f", {size / answers:,.0f} each" if answers else ""
    how = (
        f"{told.hits:,} hits, {told.joins:,} joined another call, {told.stale:,} stale, "
        f"{told.misses:,} misses ({told.hit_rate:.1%} without a call)"
    )
    lines = [
        f"{answers:,} answers, {size:,} bytes{each}",
        f"{asked:,} questions: {how}",
        f"saved: {told.requests_saved:,} requests, {told.tokens_saved:,} tokens",
        f"stored {told.stores:,} ({told.bytes_stored:,} bytes), served {told.bytes_served:,} bytes",
    ]
    odd = [f"{getattr(told, name):,} {word}" for name, word in _ODD if getattr(told, name)]
    return "".join(f"{line}\n" for line in [*lines, *([", ".join(odd)] if odd else [])])


_ODD = (
    ("corrupt", "damaged or foreign, deleted"),
    ("not_stored", "too large to store"),
    ("errors", "times the store did not answer"),
)


@app.command()
def clear(
    url: Url = None,
    namespace: Namespace = None,
    figures: Annotated[bool, typer.Option("--stats", help="The counts, too.")] = False,
) -> None:
    """Delete all answers, or those of a namespace."""
    from limiter.cache import Cache

    with Cache(url) as cache:
        number = cache.clear(namespace)
        if figures:
            cache.clear_stats()
    sys.stdout.write(f"{number:,} answers deleted.\n")


@app.command()
def show(
    key: Annotated[
        str | None, typer.Argument(help="The beginning of a key, or of its digest.")
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the answers, or show one of them whole."""
    from limiter.cache import Cache
    from limiter.cache.api import is_of

    with Cache(url) as cache:
        found = []
        for name in cache.keys():  # noqa: SIM118 - it is no mapping
            is_meant = key is None or name.startswith(key) or name.partition(":")[2].startswith(key)
            is_theirs = namespace is None or is_of(name, namespace)
            if is_meant and is_theirs and (stored := cache.peek(name)) is not None:
                found.append(stored)
                if len(found) >= limit:
                    break
    if key is not None and not found:
        raise ConfigError(
            f"No answer has a key that begins with {key!r:.80}: list them without it."
        )
    if as_json:
        for stored in found:
            _print_json(_plain(stored, whole=key is not None))
    elif key is not None and len(found) == 1:
        sys.stdout.write(_whole(found[0]))
    else:
        _print_table(found)


def _plain(stored: Stored, *, whole: bool) -> dict[str, Any]:
    entry = stored.entry
    told = {"key": stored.key, "kind": entry.kind, "bytes": stored.size, "age_s": stored.age_s,
            "left_s": stored.left_s, "tokens": entry.tokens}  # fmt: skip
    return told | ({"answer": _answer(stored)} if whole else {})


def _answer(stored: Stored) -> Any:
    data = stored.entry.data
    if not isinstance(data, bytes):
        return data
    text = data.decode("utf-8", "replace")
    try:
        return json.loads(text) if stored.entry.kind == "json" else text
    except ValueError:
        return text


def _whole(stored: Stored) -> str:
    answer = _answer(stored)
    text = (
        answer
        if isinstance(answer, str)
        else json.dumps(answer, indent=2, ensure_ascii=False, default=repr)
    )
    return f"{stored.key}  {_told(stored)}\n{text}\n"


def _told(stored: Stored) -> str:
    entry = stored.entry
    return (f"{entry.kind}, {stored.size:,} bytes, {entry.tokens:,} tokens, {stored.age_s:,.0f} s old, "
            f"{stored.left_s:,.0f} s left")  # fmt: skip


def _print_table(found: list[Stored]) -> None:
    if not found:
        sys.stdout.write("No answers.\n")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("namespace", no_wrap=True)
    table.add_column("digest", no_wrap=True)
    table.add_column("kind")
    for name in ("bytes", "tokens", "age", "left"):
        table.add_column(name, justify="right")
    for stored in found:
        namespace, _, digest = stored.key.partition(":")
        entry = stored.entry
        table.add_row(namespace[:16], digest[:12], entry.kind, f"{stored.size:,}", f"{entry.tokens:,}",
                      f"{stored.age_s:,.0f} s", f"{stored.left_s:,.0f} s")  # fmt: skip
    Console().print(table)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=repr) + "\n")
