"""The results file: one writer, whole lines only, every finished id exactly once.

A line is finished when it stands in the file with its line feed. Whatever a killed run left behind
its last line feed is cut off; a line that this command cannot have written is never touched. Lines
that failed go to a file of their own, which tells of the last run only, so that another run on the
same output does them again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from limiter.bulk.ids import FINISHED, IdTable
from limiter.errors import ConfigError

# What `success` writes, so that millions of lines are read back without parsing their bodies.
_OURS = re.compile(
    rb'\{"id":"batch_req_[0-9a-f]{24}","custom_id":("(?:[^"\\]|\\.)+"),"response":\{"status_code":2'
)
_START = b'{"id":"batch_req_'
_END = b'"error":null}\n'


class Results:
    """Own the results file, locked, from the start of a run to its end.

    Attributes:
        finished: ids that were in it already.
        torn_bytes: what was cut off behind the last whole line.

    Raises:
        ConfigError: it cannot be opened, another run has it, or it holds something else.
    """

    def __init__(self, path: Path, ids: IdTable) -> None:
        self.path = path
        self.torn_bytes = 0
        self.finished = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as exc:
            raise ConfigError(
                f"{path}: cannot be written ({exc.strerror}); choose another -o."
            ) from exc
        try:
            self._lock()
            self._scan(ids)
        except BaseException:
            os.close(self._file)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{self.path}: another `limiter run` is writing it; let that one end, or choose "
                "another -o."
            ) from None

    def _scan(self, ids: IdTable) -> None:
        self._size = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    self._note(_finished_id(line, f"{self.path}:{number}"), ids)
                    self._size += len(line)
                else:
                    self._mend(line, f"{self.path}:{number}", ids)

    def _note(self, custom_id: str | None, ids: IdTable) -> None:
        if custom_id is not None and not ids.mark(custom_id, FINISHED):
            self.finished += 1

    def _mend(self, line: bytes, where: str, ids: IdTable) -> None:
        """See to a last line without a line feed: cut it off, or finish it if it is whole."""
        with suppress(ConfigError):
            self._note(_finished_id(line, where), ids)
            self.append(b"\n")
            self._size += len(line)
            return
        if not line.startswith(_START[: len(line)]):
            raise _foreign(where)
        os.ftruncate(self._file, self._size)
        self.torn_bytes = len(line)

    def append(self, line: bytes) -> None:
        """Write one line; when it does not fit on the disk, leave nothing of it.

        Raises:
            OSError: the disk is full, or worse.
        """
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += done

    def sync(self) -> None:
        """Have the disk take what was written; blocks for milliseconds."""
        os.fsync(self._file)

    def close(self) -> None:
        """Give the file to the next run."""
        with suppress(OSError):
            self.sync()
        os.close(self._file)


class Errors:
    """Write the failures of this run; the file is there only if there are any."""

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(f"{output.name}.errors.jsonl")
        self.path.unlink(missing_ok=True)

    def append(self, line: bytes) -> None:
        """Write one line."""
        with self.path.open("ab") as file:
            file.write(line)


def _finished_id(line: bytes, where: str) -> str | None:
    """Return the id of an output line; None when it tells of a failure.

    Raises:
        ConfigError: it is no output line.
    """
    if (ours := _OURS.match(line)) and line.endswith(_END):
        custom_id: str = json.loads(ours[1])
        return custom_id
    try:
        found = json.loads(line)
        custom_id, response = found["custom_id"], found["response"] or {}
        is_finished = not found["error"] and 200 <= response.get("status_code", 0) < 300
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _foreign(where) from None
    if not isinstance(custom_id, str):
        raise _foreign(where)
    return custom_id if is_finished else None


def _foreign(where: str) -> ConfigError:
    return ConfigError(
        f"{where}: is no line of results, so the file is left as it is; choose another -o, or "
        "remove that line."
    )
