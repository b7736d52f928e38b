"""Servers that enforce rate limits and that we did not write: mocklimit and fakeai, from PyPI.

They run in an environment of their own and are driven with the real openai client. What each one
enforces and charges was read in its source and is checked against its headers by running this
module. It must never be fed a number of ours: that is the point of somebody else's server.

What their headers mean differs, and none is OpenAI's "time until full" throughout:
mocklimit's `reset` is that for its token bucket, the time to the window's end for a fixed window,
and the time until the oldest call leaves for a sliding one; so is its `retry-after-ms`, which may
then free too little. In its 429s the limits that did not refuse show `remaining` less a cost that
was never charged. fakeai's `reset` is a Unix time in whole seconds, its `retry-after` is the wait
rounded up to the next whole second.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environments import REPOSITORY, ensure
from benchmarks.perfect_line import Bucket
from benchmarks.processes import accepts, free_port, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# fakeai imports pillow without declaring it. Its 0.3.0 and 0.3.2 differ in the names of settings.
_PACKAGES = ("mocklimit==0.6.0", "fakeai==0.3.2", "pillow")
MOCKLIMIT_CONFIGS = ("bucket", "fixed", "sliding", "quantised")
_TO_JSON = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))"
# The configurations cap the completion by these fields of the body; without one it is 100.
_CAPS = {"/chat/completions": "max_completion_tokens", "/responses": "max_output_tokens"}
_COMPLETION = 100
_DIMENSIONS = {"total_tokens": "tokens"}


@dataclass(frozen=True, slots=True)
class EnforcedLimit:
    """Name one limit of a server: `amount` units, as a bucket's capacity or per window.

    A `fixed_window` is aligned to the epoch (floor(now / window)), not to the first call; a
    `sliding_window` is a log of the calls of the last `window_s`. `window_s` is 0 for a bucket.
    """

    dimension: str
    strategy: str
    amount: float
    rate_per_s: float
    window_s: float = 0.0

    def bucket(self, burst: float = 0.0) -> Bucket:
        """Return the fastest client bucket that this limit never refuses, full at 0 s.

        Args:
            burst: the bucket's capacity in units, at least the largest single call. Ignored for
                a token bucket, which is mirrored as it is. Before a window, a bucket lets
                burst + rate x window through within one, so that the rate must shrink by the burst.

        No latency is counted: calls that overtake each other on the wire need room of their own.
        """
        if self.strategy == "token_bucket":
            return Bucket(self.amount, self.rate_per_s)
        return Bucket(burst, max(0.0, self.amount - burst) / self.window_s)


@dataclass(frozen=True, slots=True)
class LimitingServer:
    """Say where the server is, what it enforces, and what a call costs there in tokens.

    `charge(body, response)` takes the request's JSON body (as sent, or as a mapping) and the
    response's JSON (None: foretell it) and returns the tokens taken at admission.
    """

    name: str
    base_url: str
    limits: tuple[EnforcedLimit, ...]
    charge: Callable[[bytes | Mapping[str, Any], Mapping[str, Any] | None], int]

    def buckets(self, burst_calls: float, largest_tokens: float) -> list[Bucket]:
        """Return a bucket per limit for `perfect_line`, with room for so many of the largest calls.

        See `EnforcedLimit.bucket`: only windows need the burst to be said.
        """
        largest = self.cost(largest_tokens)
        return [
            limit.bucket(burst_calls * units)
            for limit, units in zip(self.limits, largest, strict=True)
        ]

    def cost(self, tokens: float) -> tuple[float, ...]:
        """Return what one call of so many tokens takes from each of `limits`, in their order."""
        return tuple(1 if limit.dimension == "requests" else tokens for limit in self.limits)


def encoded(body: bytes | Mapping[str, Any]) -> bytes:
    """Return the body as the openai client sends it: compact JSON, not escaped to ASCII."""
    if isinstance(body, bytes):
        return body
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def mocklimit_charge(
    body: bytes | Mapping[str, Any],
    response: Mapping[str, Any] | None = None,
    *,
    endpoint: str = "/chat/completions",
) -> int:
    """Return len(whole JSON body in bytes) // 4 + the completion, at least 1.

    The completion is 100, capped by the body's `max_completion_tokens` or `max_output_tokens`.
    Everything is charged at admission and never given back; a refused call costs nothing. The
    response's `usage.total_tokens` is that very number.
    """
    usage = (response or {}).get("usage")
    if usage:
        return max(1, int(usage["total_tokens"]))
    sent = encoded(body)
    cap = json.loads(sent).get(_CAPS[endpoint])
    completion = _COMPLETION if cap is None else min(_COMPLETION, max(0, int(cap)))
    return max(1, len(sent) // 4 + completion)


def fakeai_charge(
    body: bytes | Mapping[str, Any],
    response: Mapping[str, Any] | None = None,  # noqa: ARG001 - one signature for all servers
    *,
    endpoint: str = "/chat/completions",
) -> int:
    """Return max(100, len(whole JSON body in bytes) // 4) at admission; `usage` plays no part.

    Only chat completions, completions and embeddings cost tokens. A call refused for requests
    still costs its tokens; one refused for tokens costs nothing (version 0.3.2).
    """
    if endpoint not in ("/chat/completions", "/completions", "/embeddings"):
        return 0
    return max(100, len(encoded(body)) // 4)


def read_limits(config: Mapping[str, Any], policy: str = "chat") -> tuple[EnforcedLimit, ...]:
    """Return the limits of one policy of a mocklimit configuration, in its order."""
    chosen = config["policies"][policy]
    return tuple(_limit(chosen["strategy"], entry) for entry in chosen["limits"])


def _limit(strategy: str, entry: Mapping[str, Any]) -> EnforcedLimit:
    dimension = _DIMENSIONS.get(entry["dimension"], entry["dimension"])
    if strategy == "token_bucket":
        return EnforcedLimit(dimension, strategy, entry["capacity"], entry["refill_rate"])
    amount, window_s = entry["limit"], entry["window_seconds"]
    return EnforcedLimit(dimension, strategy, amount, amount / window_s, window_s)


def configurations() -> Path:
    """Return the directory of mocklimit's files: `$LIMITER_SHARED_SERVERS`, else beside the repo.

    Raises:
        FileNotFoundError: there is none; the message says where it was looked for.
    """
    chosen = os.environ.get("LIMITER_SHARED_SERVERS")
    home = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "servers"
    if not (home / "mocklimit").is_dir():
        raise FileNotFoundError(f"no mocklimit/ in {home}: set LIMITER_SHARED_SERVERS")
    return home / "mocklimit"


def environment() -> Path:
    """Return the python of the servers' environment; made on first use (a minute)."""
    return ensure("venv-servers", _PACKAGES)


@contextmanager
def mocklimit(config: str = "bucket") -> Iterator[LimitingServer]:
    """Run mocklimit with one of its four configurations; every API key has limits of its own."""
    files = configurations()
    python = environment()
    rates = files / f"{config}.yaml"
    done = subprocess.run(
        [python, "-c", _TO_JSON, str(rates)], capture_output=True, text=True, check=True
    )
    port = free_port()
    command = [str(python.with_name("mocklimit")), "serve", "--spec", str(files / "spec.yaml")]
    command += ["--rate-config", str(rates), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "WARNING"]
    with tempfile.TemporaryDirectory(prefix="limiter-bench-") as logs:
        log = Path(logs) / "server.log"
        with running(command, log, partial(accepts, ("127.0.0.1", port))):
            yield LimitingServer(
                f"mocklimit/{config}",
                f"http://127.0.0.1:{port}/v1",
                read_limits(json.loads(done.stdout)),
                mocklimit_charge,
            )


@contextmanager
def fakeai(rpm: int = 600, tpm: int = 60_000) -> Iterator[LimitingServer]:
    """Run fakeai with a full bucket of `rpm` and `tpm` per API key, refilled at 1/60 a second."""
    python = environment()
    port = free_port()
    env = {
        **os.environ,
        "FAKEAI_RATE_LIMITS__ENABLED": "true",
        "FAKEAI_RATE_LIMITS__RPM_OVERRIDE": str(rpm),
        "FAKEAI_RATE_LIMITS__TPM_OVERRIDE": str(tpm),
        "FAKEAI_REQUIRE_API_KEY": "false",
    }
    command = [str(python), "-m", "uvicorn", "fakeai.app:app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "warning"]
    limits = tuple(
        EnforcedLimit(dimension, "token_bucket", amount, amount / 60)
        for dimension, amount in (("requests", rpm), ("tokens", tpm))
    )
    with tempfile.TemporaryDirectory(prefix="limiter-bench-") as logs:
        log = Path(logs) / "server.log"
        with running(command, log, partial(accepts, ("127.0.0.1", port)), env=env):
            yield LimitingServer("fakeai", f"http://127.0.0.1:{port}/v1", limits, fakeai_charge)
