"""Send the 200 requests of this directory with several processes under one quota.

With OPENAI_API_KEY set the calls go to OPENAI_BASE_URL (or to OpenAI); without it a mock server is
started that enforces the same quota as OpenAI does, so that a 429 would show.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent


@contextlib.contextmanager
def provider(rpm: int, tpm: int) -> Iterator[tuple[str, str]]:
    """Yield the base URL and key of OpenAI, or of a mock server that is stopped at the end."""
    if key := os.environ.get("OPENAI_API_KEY"):
        yield os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1"), key
        return
    from limiter.mock import MockConfig, background

    config = MockConfig(rpm=rpm, tpm=tpm, latency_s=0.4, jitter=0.5)
    with background(config, process=True) as server:
        print(f"No OPENAI_API_KEY: using a mock server at {server.base_url}", flush=True)
        yield server.base_url, "mock"
        stats = server.stats()
        print(f"The mock server accepted {stats['accepted']} calls and refused {stats['refused']}.")


def main() -> int:
    """Run `limiter run`, and say where the results are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rpm", type=int, default=100)
    parser.add_argument("--tpm", type=int, default=10_000)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    output = given.output or Path(tempfile.mkdtemp(prefix="limiter-run-")) / "results.jsonl"
    with provider(given.rpm, given.tpm) as (base_url, key):
        command = [
            sys.executable, "-m", "limiter", "run", str(HERE / "requests.jsonl"), "-o", str(output),
            "--rpm", str(given.rpm), "--tpm", str(given.tpm), "--base-url", base_url,
            "--processes", str(given.processes),
        ]  # fmt: skip
        done = subprocess.run(command, env={**os.environ, "OPENAI_API_KEY": key}, check=False)
    print(f"The results are in {output}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
