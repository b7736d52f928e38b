"""The input of a run: one pass over the file, line by line, that leaves out what is not to be done.

Memory does not grow with the input but for its ids (`IdTable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from limiter.bulk.ids import FINISHED, SEEN, IdTable
from limiter.bulk.lines import Call, MalformedError, read_line
from limiter.cli.tally import Tally
from limiter.errors import ConfigError

_CHUNK_BYTES = 2**20

Complain = Callable[[int, str | None, str, str], None]


@dataclass(slots=True)
class Work:
    """Be a line that is to be called.

    Attributes:
        number: of the line in the file, from 1.
        raw: the line.
        custom_id: as `read_line` gives it.
        losses: workers that died while they had it.
    """

    number: int
    raw: bytes
    custom_id: str
    losses: int = 0


def count_lines(path: Path) -> int:
    """Count lines, the last one even without its line feed; about a gigabyte per second.

    Raises:
        ConfigError: the file cannot be read.
    """
    count, last = 0, b"\n"
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                count, last = count + chunk.count(b"\n"), chunk[-1:]
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be read ({exc.strerror}); give a file with one JSON request per line."
        ) from exc
    return count + (last != b"\n")


def first_call(path: Path, model: str | None) -> Call | None:
    """Return the first line that is a request; None if there is none."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                return read_line(raw, number, model)
            except MalformedError:
                continue
    return None


def pending(
    path: Path, ids: IdTable, tally: Tally, model: str | None, complain: Complain
) -> Iterator[Work | None]:
    """Yield the lines to be called, in order, and None for each that is not.

    Malformed lines and ids that come again go to `complain(number, custom_id, code, message)`;
    lines that are finished and blank ones are only counted.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            yield _work(number, raw.strip(), ids, tally, model, complain)


def _work(
    number: int, raw: bytes, ids: IdTable, tally: Tally, model: str | None, complain: Complain
) -> Work | None:
    if not raw:
        tally.total -= 1
        return None
    try:
        custom_id = read_line(raw, number, model).custom_id
    except MalformedError as exc:
        tally.bad += 1
        complain(number, None, "malformed_line", str(exc))
        return None
    known = ids.mark(custom_id, SEEN)
    if known & SEEN:
        tally.bad += 1
        complain(number, custom_id, "duplicate_custom_id",
                 f"has the custom_id {custom_id!r:.80} of an earlier line; only the first is run")  # fmt: skip
    elif known & FINISHED:
        tally.skipped += 1
    return None if known else Work(number, raw, custom_id)
