"""`limiter tokens`: how many tokens files of text, bodies and batches are. Asks nobody.

A file that is no text, and a line that is no request, end the command with their place; nothing
is guessed around them.
"""

from __future__ import annotations

import codecs
import json
import re
import statistics
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limiter.errors import ConfigError
from limiter.tokens import DEFAULT_MODEL, Count, count_request

# Longest first: UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_UTF8 = "the file is not UTF-8, and read as Windows-1252"
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_REQUEST = ("messages", "input", "prompt", "contents")
_WANTED = 'write a body with "messages", "input" or "prompt", or a Batch line with "body"'


@dataclass(frozen=True, slots=True)
class Counted:
    """Hold what was counted in one file.

    Attributes:
        file, kind: its name as given; text, request, messages or requests.
        characters: of the whole file.
        counts: of the text, or of each request.
        assumptions: why bills may differ, each once.
    """

    file: str
    kind: str
    characters: int
    counts: Sequence[Count]
    assumptions: Sequence[str]

    @property
    def tokens(self) -> Sequence[int]:
        """Return the tokens of each request."""
        return [each.total for each in self.counts]


def show(files: Sequence[str], model: str | None, *, as_json: bool) -> int:
    """Count the files and print them; return the exit status.

    Raises:
        ConfigError: a file cannot be read, is no text, or has a line that is no request.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the assumptions say it
        counted = [_file(name, model) for name in files]
    if as_json:
        sys.stdout.write(json.dumps([as_dict(each) for each in counted]) + "\n")
    else:
        sys.stdout.write(table(counted, model or DEFAULT_MODEL))
    return 0


def _file(name: str, model: str | None) -> Counted:
    data = _read(name)
    text, doubt = _decoded(name, data)
    kind, counts = _counts(name, text, model)
    found = dict.fromkeys([*doubt, *(why for each in counts for why in each.assumptions)])
    shown = name.encode(errors="backslashreplace").decode()  # a name need not be UTF-8
    return Counted(shown, kind, len(text), counts, list(found))


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise ConfigError(f"{name}: cannot be read ({reason}); give text or JSON files.") from exc


def _decoded(name: str, data: bytes) -> tuple[str, list[str]]:
    """Return the text of a file, and what was assumed to read it."""
    encoding = next((each for mark, each in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text, doubt = data.decode(encoding), []
    except UnicodeDecodeError:
        text, doubt = data.decode("cp1252", "replace"), [_NO_UTF8]
    # Text has hardly a control character; of compressed data one byte in ten is one.
    if "\0" in text or len(_CONTROL.findall(text)) > len(text) / 50:
        raise ConfigError(f"{name}: is binary, not text; give text, Markdown or JSON files.")
    return text, doubt


def _counts(name: str, text: str, model: str | None) -> tuple[str, list[Count]]:
    if name.endswith(".jsonl") or (name == "-" and _begins_with_request(text)):
        return "requests", [count_request(*each, model) for each in _lines(name, text)]
    if name.endswith(".json") or name == "-":
        body = _json(text)
        if isinstance(body, dict) and (call := _call(body)):
            return "request", [count_request(*call, model)]
        if isinstance(body, list) and body and all(isinstance(each, dict) for each in body):
            calls = [each for each in map(_call, body) if each]
            if len(calls) == len(body):
                return "requests", [count_request(*each, model) for each in calls]
            return "messages", [count_request(body, None, model)]
        if body is None and name != "-":
            _parse(name, text)
    return "text", [count_request(text, None, model)]


def _begins_with_request(text: str) -> bool:
    """Say whether the first line is a request for itself, and not the last one too."""
    first, _, rest = text.strip().partition("\n")
    line = _json(first)
    return isinstance(line, dict) and _call(line) is not None and bool(rest)


def _lines(name: str, text: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    # Not splitlines(): it also ends lines where JSON has a U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            body = _parse(f"{name}:{number}", line)
            call = _call(body) if isinstance(body, dict) else None
            if call is None:
                raise ConfigError(f"{name}:{number}: is no request; {_WANTED}.")
            yield call


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parse(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{place}: is not JSON ({exc}); {_WANTED}.") from exc


def _call(line: dict[str, Any]) -> tuple[dict[str, Any], str | None] | None:
    """Return body and path of a Batch line or a bare body; None if it is neither.

    A bare prompt is a chat's one message, as in `limiter run`.
    """
    body = line.get("body")
    if isinstance(body, dict):
        path = line.get("url")
        return body, path if isinstance(path, str) else None
    bare = {key: value for key, value in line.items() if key != "custom_id"}
    if not any(name in bare for name in _REQUEST):
        return None
    if "messages" not in bare and isinstance(bare.get("prompt"), str):
        bare["messages"] = [{"role": "user", "content": bare.pop("prompt")}]
    return bare, None


def as_dict(counted: Counted) -> dict[str, Any]:
    """Return what was counted as plain values, as `--json` writes it."""
    parts = ("text", "framing", "tools", "images")
    return {
        "file": counted.file,
        "kind": counted.kind,
        "requests": _requests(counted),
        "characters": counted.characters,
        "tokens": sum(counted.tokens),
        **{name: sum(getattr(each, name) for each in counted.counts) for name in parts},
        **_spread(counted),
        "exact": not counted.assumptions,
        "assumptions": list(counted.assumptions),
    }


def _requests(counted: Counted) -> int | None:
    return None if counted.kind == "text" else len(counted.counts)


def _spread(counted: Counted) -> Mapping[str, float | None]:
    if counted.kind != "requests" or not counted.counts:
        return dict.fromkeys(("min", "median", "max"))
    tokens = counted.tokens
    return {"min": min(tokens), "median": statistics.median(tokens), "max": max(tokens)}


_COLUMNS = ("file", "kind", "tokens", "characters", "requests", "min", "median", "max", "")


def table(counted: Sequence[Counted], model: str) -> str:
    """Return a row for each file, their sum, and below it what was assumed."""
    rows = [list(_COLUMNS), *map(_row, counted)]
    if len(counted) > 1:
        sums = [sum(sum(each.tokens) for each in counted), sum(each.characters for each in counted)]
        rows.append(["in all", "", *map(_number, sums), "", "", "", "", ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_padded(row, widths)).rstrip() for row in rows]
    assumed = dict.fromkeys(why for each in counted for why in each.assumptions)
    notes = [f"estimated: {why}" for why in assumed]
    if any(each.kind in {"text", "messages"} for each in counted):
        notes.insert(0, f"texts are counted for {model}")
    return "".join(f"{line}\n" for line in [*lines, *notes])


def _row(counted: Counted) -> list[str]:
    sizes = (sum(counted.tokens), counted.characters, _requests(counted))
    numbers = [*sizes, *_spread(counted).values()]
    how = "estimated" if counted.assumptions else "exact"
    return [counted.file, counted.kind, *map(_number, numbers), how]


def _padded(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if 2 <= index < 8 else cell.ljust(width)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"
