"""Measure what comes of fleet-wide feedback: `python -m benchmarks.feedback [NAME …]`.

Real processes, a real Redis, the openai client, and a mock provider over HTTP. A proof says what it
measured and what it must reach; `--repeat 3` measures it three times, since a machine that does
something else meanwhile changes it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.feedback import brake, changes, outputs, peers
from benchmarks.report import Row, publish
from benchmarks.servers_redis import redis_server

PROOFS: dict[str, Callable[[str], list[Row]]] = {
    "brake": brake.rows,
    "changes": changes.rows,
    "changes-short": partial(changes.rows, phases=changes.SHORT),
    "peers": peers.rows,
    "outputs": outputs.rows,
}
ALL = ("brake", "changes", "peers", "outputs")


def main() -> int:
    """Print a table for each proof; return 1 if a bar was not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feedback", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROOFS))
    parser.add_argument("--repeat", type=int, default=1)
    args = parser.parse_args()
    unknown = {*args.names} - {*PROOFS}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(PROOFS)}")
    met = True
    for name in args.names or ALL:
        for number in range(args.repeat):
            print(f"\n{name}, {number + 1} of {args.repeat}", flush=True)
            with redis_server() as redis:
                rows = PROOFS[name](redis.url)
                into = Path(f".bench/feedback-{name}-{number + 1}.json")
                met &= publish(rows, redis_version=redis.version, into=into)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
