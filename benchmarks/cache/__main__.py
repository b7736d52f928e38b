"""Measure the cache: `python -m benchmarks.cache [flights|speed|runs]`.

`runs` needs the questions of GSM8K: `--data DIRECTORY` (or LIMITER_DATA) with gsm8k_test.jsonl.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.cache import flights, speed
from benchmarks.report import Row, publish
from benchmarks.servers_redis import redis_server

PROOFS = {"flights": flights.rows, "speed": speed.rows}


def main() -> int:
    """Print a table for each proof; return 1 if a bar was not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROOFS))
    names = parser.parse_args().names or list(PROOFS)
    if unknown := {*names} - {*PROOFS}:
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(PROOFS)}")
    met = True
    for name in names:
        print(f"\n{name}", flush=True)
        with redis_server() as redis:
            rows: list[Row] = PROOFS[name](redis.url)
            into = Path(f".bench/cache-{name}.json")
            met &= publish(rows, redis_version=redis.version, into=into)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
