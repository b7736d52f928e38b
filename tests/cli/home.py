"""A directory in which `limiter` is run as a user does, before a mock server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import limiter
from limiter.mock import MockServer

ROOT = Path(limiter.__file__).parent.parent


class Home:
    """Hold a directory with a requests file, and start `limiter` in it."""

    def __init__(self, path: Path, server: MockServer) -> None:
        self.path = path
        self.server = server
        self.env = {
            k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LIMITER_"))
        }
        self.env |= {"LIMITER_RUNTIME_DIR": str(path / "rt"), "LIMITER_EMBEDDED_IDLE_S": "3",
                     "OPENAI_API_KEY": "mock", "PYTHONPATH": str(ROOT)}  # fmt: skip

    def write(self, *lines: str) -> None:
        (self.path / "in.jsonl").write_text("".join(line + "\n" for line in lines))

    def requests(self, count: int) -> list[str]:
        return [
            json.dumps({"custom_id": f"r{i}", "method": "POST", "url": "/v1/chat/completions",
                        "body": {"model": "m", "messages": [{"role": "user", "content": f"{i}?"}]}})
            for i in range(count)
        ]  # fmt: skip

    def command(self, *more: str, limits: tuple[str, ...] = ("--rpm", "60000")) -> list[str]:
        return [sys.executable, "-m", "limiter", "run", "in.jsonl", "-o", "out.jsonl", *limits,
                "--base-url", self.server.base_url, *more]  # fmt: skip

    def start(self, *more: str, **kwargs: object) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(*more, **kwargs), cwd=self.path, env=self.env, text=True,
                                stderr=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def run(self, *more: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*more, **kwargs), cwd=self.path, env=self.env, text=True,
                              capture_output=True, timeout=60, check=False)  # fmt: skip

    def results(self) -> list[dict]:
        path = self.path / "out.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def workers(self, parent: subprocess.Popen[str]) -> list[int]:
        command = ["pgrep", "-P", str(parent.pid), "-f", "limiter.cli.worker"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(pid) for pid in found.stdout.split()]

    def wait_for_the_end_of(self, pids: list[int]) -> None:
        for _ in range(2000):
            if not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids):
                return
            time.sleep(0.01)
        raise AssertionError("a worker outlived its parent")

    def wait_for_results(self, count: int) -> None:
        path = self.path / "out.jsonl"
        for _ in range(2000):
            if path.exists() and path.read_bytes().count(b"\n") >= count:
                return
            time.sleep(0.01)
        raise AssertionError("the results never came")
