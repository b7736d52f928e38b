"""Two bulk runs of the same questions: what the second one asks, how long it takes, what is stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.environments import REPOSITORY
from benchmarks.report import Row
from limiter.cache import Cache
from limiter.mock import MockConfig, MockServer, background

_PROCESSES = 4


class _Ran(NamedTuple):
    took_s: float
    requests: int
    lines: int
    summary: str


def rows(redis_url: str, questions: Path) -> list[Row]:
    """Send the questions of GSM8K twice through `limiter run --cache`, into two files."""
    config = MockConfig(rpm=60_000, tpm=60_000_000, latency_s=0.3, answer_tokens=150)
    with tempfile.TemporaryDirectory() as folder, background(config, process=True) as server:
        home = Path(folder)
        texts = [json.loads(line)["question"] for line in questions.read_text().splitlines()]
        (home / "in.jsonl").write_text("".join(map(_line, range(len(texts)), texts)))
        first = _run(home, server, redis_url, "first")
        second = _run(home, server, redis_url, "second")
        with Cache(redis_url) as cache:
            answers, size = cache.size()
            stats = cache.stats()
        plain = sum(
            len(json.dumps(json.loads(line)["response"]["body"], separators=(",", ":")))
            for line in (home / "first.jsonl").read_text().splitlines()
        )
    took = (
        f"{second.took_s:.1f} s, the first run {first.took_s:.1f} s; both with 4 processes to start"
    )
    each = (
        f"{size / answers:.0f} B each, {answers:,} answers; their JSON has {plain / answers:.0f} B"
    )
    saved = f"{stats.requests_saved:,} requests and {stats.tokens_saved:,} tokens saved"
    return [
        Row("requests of the second run", second.requests, 0, "stay below",
            note=f"{second.lines:,} lines answered; {saved}"),
        Row("second run / first run, time", second.took_s / first.took_s, 1, "stay below", "x", took),
        Row("stored bytes / bytes of the answers", size / plain, 1, "stay below", "x", each),
    ]  # fmt: skip


def _line(number: int, text: str) -> str:
    messages = [{"role": "user", "content": text}]
    body = {"model": "gpt-4o", "messages": messages, "max_tokens": 300}
    call = {
        "custom_id": f"q{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }
    return json.dumps(call) + "\n"


def _run(home: Path, server: MockServer, redis_url: str, name: str) -> _Ran:
    before = server.stats()["accepted"]
    command = [sys.executable, "-m", "limiter", "run", "in.jsonl", "-o", f"{name}.jsonl",
               "--rpm", "60000", "--tpm", "60000000", "--base-url", server.base_url, "--url", redis_url,
               "--cache-url", redis_url, "--processes", str(_PROCESSES)]  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=home, text=True, capture_output=True, check=True,
        env={**os.environ, "OPENAI_API_KEY": "k", "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    took_s = time.monotonic() - began
    lines = len((home / f"{name}.jsonl").read_text().splitlines())
    return _Ran(took_s, server.stats()["accepted"] - before, lines, done.stderr)
