"""A private runtime directory per test, and user processes that do what they are told.

Nothing survives a test: what still runs in its directory is killed by pid at the end. The idle
time is a minute unless the test is about it, so that a slow machine cannot end a server early.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from limiter.shells import embedded

# Evaluates one expression per line of its standard input, as a process of its own.
_ACTOR = """
import os, signal, sys, time
from limiter.shells import embedded
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class Actor:
    """A process that uses the embedded server."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ACTOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def tell(self, expression: str) -> None:
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def answer(self) -> object:
        return ast.literal_eval(self.process.stdout.readline())

    def ask(self, expression: str) -> object:
        self.tell(expression)
        return self.answer()

    def kill(self) -> None:
        """Kill -9 the process and its whole group, forked children too."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class World:
    """The runtime directory, and the processes that belong to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "server.sock")

    def processes(self) -> set[int]:
        """Find guards and servers by the directory in their command lines; zombies have none."""
        rows = subprocess.check_output(
            ["ps", "-A", "-ww", "-o", "pid=,args="], text=True
        ).splitlines()
        return {int(row.split()[0]) for row in rows if str(self.folder) in row}

    def server(self) -> int:
        return int(self.call("INFO", "server")["process_id"])

    def guards(self) -> set[int]:
        return self.processes() - {self.server()}

    def call(self, *words: str) -> object:
        with redis.Redis(unix_socket_path=self.socket) as client:
            return client.execute_command(*words)

    def wait(self, done: Callable[[], bool]) -> None:
        """Return as soon as a condition holds; the limit only ends a test that has failed."""
        give_up_at = time.monotonic() + 20
        while not done():
            assert time.monotonic() < give_up_at, f"never came true; {self.processes()}"
            time.sleep(0.02)

    def wait_for_end(self) -> None:
        self.wait(lambda: not self.processes())

    def clear(self) -> None:
        while left := self.processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="limiter-test-", dir="/tmp"))
    monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(folder))
    monkeypatch.delenv("LIMITER_EMBEDDED_IDLE_S", raising=False)
    made = World(folder)
    yield made
    embedded.leave()
    made.clear()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def actor(world: World) -> Iterator[Callable[[], Actor]]:
    actors: list[Actor] = []

    def make() -> Actor:
        actors.append(Actor())
        return actors[-1]

    yield make
    for one in actors:
        one.kill()
