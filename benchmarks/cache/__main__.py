"""Measure the cache: `python -m benchmarks.cache [flights] [speed] [runs --gsm8k FILE]`.

`runs` needs the questions of GSM8K, one JSON object with `question` on each line.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.cache import flights, runs, speed
from benchmarks.report import Row, publish
from benchmarks.servers_redis import redis_server

PROOFS = {"flights": flights.rows, "speed": speed.rows}


def main() -> int:
    """Print a table for each proof; return 1 if a bar was not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROOFS))
    parser.add_argument("--gsm8k", type=Path, help="gsm8k_test.jsonl, for runs")
    args = parser.parse_args()
    proofs = dict(PROOFS)
    if args.gsm8k:
        proofs["runs"] = partial(runs.rows, questions=args.gsm8k)
    names = args.names or list(proofs)
    if unknown := {*names} - {*proofs}:
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(proofs)}")
    met = True
    for name in names:
        print(f"\n{name}", flush=True)
        with redis_server() as redis:
            rows: list[Row] = proofs[name](redis.url)
            into = Path(f".bench/cache-{name}.json")
            met &= publish(rows, redis_version=redis.version, into=into)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
