"""`limiter optimize`: make the prompts of a file shorter, and tell what each step saves.

Writes a whole new file or none, and never over another one unasked.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limiter.bulk.lines import encode
from limiter.errors import ConfigError
from limiter.prompts import Savings, compact, cut_text, optimize_body
from limiter.prompts.counting import DEFAULT_MODEL

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Step:
    """Say what is done: one of the two."""

    compact: int = 0
    fit: int | None = None

    def __str__(self) -> str:
        return f"compact {self.compact}" if self.fit is None else f"fit {self.fit}"

    def on_text(self, text: str, model: str | None) -> tuple[str, Savings]:
        """Do it to a text."""
        named = model or DEFAULT_MODEL
        if self.fit is None:
            found = compact(text, self.compact, model=named)
            return found.text, found.report
        cut = cut_text(text, self.fit, model=named)
        return cut.text, cut.report

    def on_body(self, body: Mapping[str, Any], model: str | None) -> tuple[dict[str, Any], Savings]:
        """Do it to the body of a request."""
        return optimize_body(body, compact=self.compact, fit=self.fit, model=model)


def steps(level: int, fit: int | None) -> list[Step]:
    """Return what is to be done, in its order.

    Raises:
        ConfigError: that is nothing.
    """
    asked = [Step(compact=level)] if level else []
    asked += [Step(fit=fit)] if fit is not None else []
    if not asked:
        raise ConfigError("There is nothing to do: give a --compact of 1 to 3, or --fit.")
    return asked


def optimize(
    file: Path, asked: list[Step], model: str | None, output: Path | None, *, force: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Do all steps to a file; return the exit status.

    Raises:
        ConfigError: a file cannot be read or written, or a line is no request.
    """
    if output is not None and output.exists() and not force:
        raise ConfigError(f"{output} exists: give another file to -o, or --force.")
    raw = _read(file)
    saved = [Savings() for _ in asked]
    with warnings.catch_warnings():
        # How tokens were counted is told with them.
        warnings.simplefilter("ignore", RuntimeWarning)
        work = _lines if file.suffix == ".jsonl" else _text
        made = b"".join(work(file, raw, asked, model, saved))
        counted = _counted(model or DEFAULT_MODEL)
    if output is not None:
        _write(output, made)
    show = _as_json if as_json else _as_table
    sys.stdout.write(show(dict(zip(map(str, asked), saved, strict=True)), counted))
    return 0


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read ({exc.strerror}).") from exc


def _text(
    file: Path, raw: bytes, asked: list[Step], model: str | None, saved: list[Savings]
) -> Iterator[bytes]:
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: is not UTF-8 ({exc.reason} at byte {exc.start}).") from exc
    for i, step in enumerate(asked):
        text, saved[i] = step.on_text(text, model)
    ending = "\n" if raw.endswith(b"\n") and text and not text.endswith("\n") else ""
    yield f"{text}{ending}".encode()


def _lines(
    file: Path, raw: bytes, asked: list[Step], model: str | None, saved: list[Savings]
) -> Iterator[bytes]:
    for number, line in enumerate(raw.removeprefix(_BOM).split(b"\n"), 1):
        yield b"\n" if number > 1 else b""
        if not line.strip():
            yield line
            continue
        try:
            yield _line(line, asked, model, saved)
        except (ValueError, RecursionError) as exc:
            raise ConfigError(f"{file}:{number} {exc}") from exc


def _line(line: bytes, asked: list[Step], model: str | None, saved: list[Savings]) -> bytes:
    """Return a line with a shorter prompt; one that does not change stays byte for byte."""
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ConfigError(f"is not a JSON object but {type(found).__name__}.")
    is_batch = isinstance(found.get("body"), dict)
    before = body = found["body"] if is_batch else found
    for i, step in enumerate(asked):
        body, savings = step.on_body(body, model)
        saved[i] += savings
    if body == before:
        return line
    return encode({**found, "body": body} if is_batch else body)


def _write(output: Path, content: bytes) -> None:
    """Write a file as a whole: one that breaks off leaves what was there."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=output.parent, prefix=f".{output.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(content)
        temporary.chmod(_mode(output))
        temporary.replace(output)
    except OSError as exc:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise ConfigError(f"{output}: cannot be written ({exc.strerror}).") from exc


def _mode(output: Path) -> int:
    """Return the permissions that the file has, or that a new one would get."""
    if output.exists():
        return output.stat().st_mode & 0o777
    os.umask(mask := os.umask(0))
    return 0o666 & ~mask


def _counted(model: str) -> str:
    from limiter import tokens

    return "bytes/4" if tokens.encoding_for(model) is None else tokens.encoding_name(model)


Show = Callable[[Mapping[str, Savings], str], str]


def _total(saved: Mapping[str, Savings]) -> Savings:
    """Return what all steps saved together: each begins where the one before it ended."""
    each = list(saved.values())
    return Savings(each[0].before, each[-1].after, sum(one.dropped for one in each))


def _as_table(saved: Mapping[str, Savings], counted: str) -> str:
    width = max(map(len, ["total", *saved]))
    lines = [f"{name:{width}}  {each}" for name, each in saved.items()]
    if len(saved) > 1:
        lines.append(f"{'total':{width}}  {_total(saved)}")
    return "".join(f"{line}\n" for line in [*lines, f"(counted with {counted})"])


def _as_json(saved: Mapping[str, Savings], counted: str) -> str:
    told = [{"step": name, **_values(each)} for name, each in saved.items()]
    return json.dumps({"steps": told, "total": _values(_total(saved)), "counted": counted}) + "\n"


def _values(savings: Savings) -> dict[str, float]:
    return {
        "before": savings.before,
        "after": savings.after,
        "saved": savings.saved,
        "share": round(savings.share, 4),
        "dropped": savings.dropped,
    }
