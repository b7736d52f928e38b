"""Measure the peers in environments of their own, in the same run as ourselves.

A peer that cannot be installed here yields None with the reason: a missing comparison must be
seen, and must not stop the run.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.environments import EnvironmentMissingError, ensure

_TOKEN_THROTTLE = ("token-throttle[redis]>=14,<15",)
_SCRIPT = Path(__file__).with_name("peer_token_throttle.py")


def token_throttle(
    url: str, *, tasks: tuple[int, ...] = (1, 50), seconds: float = 5.0
) -> dict[str, Any]:
    """Measure token-throttle against the Redis at `url`, for `seconds` with each of `tasks`.

    Returns:
        `pairs_per_s`: tasks -> acquire + refund pairs a second, or None with a `reason`;
        `versions` and the `rows` as measured.
    """
    try:
        python = ensure("venv-peer", _TOKEN_THROTTLE, at_least=(3, 12))
    except EnvironmentMissingError as exc:
        return {"pairs_per_s": None, "reason": str(exc)}
    command = [str(python), str(_SCRIPT), url, "--seconds", str(seconds)]
    command += ["--tasks", *map(str, tasks)]
    patience_s = 60 + 3 * seconds * len(tasks)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=patience_s
        )
    except subprocess.TimeoutExpired:
        return {"pairs_per_s": None, "reason": f"token-throttle took more than {patience_s} s"}
    except subprocess.CalledProcessError as exc:
        return {"pairs_per_s": None, "reason": exc.stderr[-2_000:]}
    found: dict[str, Any] = json.loads(done.stdout)
    found["pairs_per_s"] = {row["tasks"]: row["pairs_per_s"] for row in found["rows"]}
    return found


def main() -> None:
    """Measure every peer against a private Redis and print one JSON object."""
    from benchmarks.servers_redis import redis_server

    with redis_server() as redis:
        print(json.dumps({"token-throttle": token_throttle(redis.url)}, indent=2))


if __name__ == "__main__":
    main()
