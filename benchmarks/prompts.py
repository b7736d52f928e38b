"""What the prompt toolbox saves on real texts: `python -m benchmarks.prompts [FILE …]`.

Always on this project's own documentation and on a page that Python's own documentation tool makes of
one of its modules. A file of JSON lines with `question` counts as one text, a problem to a line. Tokens
are gpt-4o's where a vocabulary is installed, as the head of the table says.
"""

from __future__ import annotations

import argparse
import json
import pydoc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.environments import REPOSITORY
from limiter import tokens
from limiter.prompts import (
    Budget,
    PromptTemplate,
    compact,
    cut_text,
    fit_messages,
    map_reduce,
    split_text,
)

MODEL = "gpt-4o"
_CHUNK_TOKENS, _BUDGET_TOKENS = 400, 500


def texts(files: list[Path]) -> Iterator[tuple[str, str]]:
    """Yield names and texts."""
    for name in ("README.md", "lua/README.md", "CONTRIBUTING.md"):
        yield name, (REPOSITORY / name).read_text()
    import limiter.api

    yield "pydoc of limiter.api (HTML)", pydoc.HTMLDoc().document(limiter.api)
    for file in files:
        text = file.read_text()
        if file.suffix == ".jsonl":
            text = "\n".join(json.loads(line)["question"] for line in text.splitlines())
        yield file.name, text


def rows(text: str) -> Iterator[tuple[str, int, int, str]]:
    """Yield what each function makes of a text: its name, tokens before and after, and a note."""
    count = lambda value: tokens.count(value, MODEL)  # noqa: E731
    before = count(text)
    for level in (1, 2, 3):
        yield f"compact, level {level}", before, count(compact(text, level).text), ""
    yield f"cut_text to {_BUDGET_TOKENS}", before, count(cut_text(text, _BUDGET_TOKENS).text), ""
    template = PromptTemplate(
        "Answer in one word.", "{text}", budgets={"text": Budget(_BUDGET_TOKENS, "middle")}
    )
    told = f"the fixed part, which a provider caches, {count('Answer in one word.')}"
    yield f"template, budget {_BUDGET_TOKENS}", before, count(template.render(text=text)), told
    chat: list[Any] = [{"role": "system", "content": "Be brief."}]
    chat += [{"role": "user", "content": part} for part in text.split("\n\n") if part.strip()]
    chat.append({"role": "user", "content": "Sum it up."})
    whole = count(chat)
    fitted = fit_messages(chat, whole // 4, model=MODEL)
    note = f"{len(fitted.dropped)} of {len(chat)} messages left out"
    yield "fit_messages to a quarter, paragraphs as a chat", whole, count(fitted.messages), note
    chunks = list(split_text(text, _CHUNK_TOKENS, model=MODEL))
    sizes = [count(chunk) for chunk in chunks]
    note = f"{len(chunks)} chunks, the largest {max(sizes)}"
    yield f"split_text, {_CHUNK_TOKENS}", before, sum(sizes), note
    first = lambda part: part.strip().split("\n")[0][:200]  # noqa: E731
    reduced = map_reduce(
        text, first, lambda parts: first("\n".join(parts)), max_tokens=_CHUNK_TOKENS, model=MODEL
    )
    note = f"{reduced.calls} calls; the answers are the first line of what was asked"
    yield "map_reduce", before, count(reduced.text), note


def main() -> None:
    """Print a table for each text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prompts", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    counted = "gpt-4o's tokens" if tokens.encoding_for(MODEL) else "bytes / 4: no vocabulary"
    for name, text in texts(parser.parse_args().files):
        print(f"\n{name}: {len(text):,} characters ({counted})")
        for what, before, after, note in rows(text):
            saved = f"{(before - after) / before:+.1%}" if before else ""
            print(f"  {what:<48} {before:>9,} -> {after:>9,}  {saved:>7}  {note}")


if __name__ == "__main__":
    main()
