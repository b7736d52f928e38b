"""Start a server as a child process, wait until it answers, end it by its own id.

Every server binds to the loopback or to a unix socket; none outlives its `with` block.
"""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_LAST_WORDS = 15


def free_port() -> int:
    """Return a TCP port of the loopback that is free now (another process may take it first)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    answers: Callable[[], bool],
    *,
    env: Mapping[str, str] | None = None,
    patience_s: float = 60.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` until the block ends; enter it once `answers()` is true.

    Output goes to `log`: a pipe that nobody reads would stop the server once it is full.

    Raises:
        RuntimeError: it ended, or did not answer in time; the message holds its last lines.
    """
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
    try:
        _wait(child, log, answers, patience_s)
        yield child
    finally:
        _end(child)


def _wait(
    child: subprocess.Popen[bytes], log: Path, answers: Callable[[], bool], patience_s: float
) -> None:
    until = time.monotonic() + patience_s
    while not answers():
        if child.poll() is not None or time.monotonic() > until:
            words = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_WORDS:])
            state = f"ended with {child.returncode}" if child.returncode else "does not answer"
            raise RuntimeError(f"{child.args!r} {state}: {words}")
        time.sleep(0.02)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def accepts(address: tuple[str, int] | str) -> bool:
    """Say whether something accepts connections at (host, port) or at a unix socket's path."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex(address) == 0
