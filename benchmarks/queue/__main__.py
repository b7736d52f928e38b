"""Measure the queue: `python -m benchmarks.queue [--broker rabbitmq] [urgent|long|overhead] [once|killed --gsm8k FILE]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.queue import proofs
from benchmarks.report import Row, publish
from benchmarks.servers_redis import redis_server


def main() -> int:
    """Print a table for each proof; return 1 if a bar was not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--gsm8k", type=Path, help="gsm8k_test.jsonl, for once and killed")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    args = parser.parse_args()
    broker: str = args.broker
    known: dict[str, Callable[[], list[Row]]] = {
        "urgent": partial(proofs.urgent, broker),
        "overhead": partial(proofs.overhead, broker),
    }
    known["long"] = partial(proofs.long_queue, broker)
    if args.gsm8k:
        known["once"] = partial(proofs.once, args.gsm8k, broker)
        known["killed"] = partial(proofs.killed, args.gsm8k, broker)
    if unknown := {*args.names} - {*known}:
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(known)}")
    with redis_server() as redis:
        version = redis.version
    met = True
    for name in args.names or list(known):
        print(f"\n{name}", flush=True)
        met &= publish(known[name](), redis_version=version, into=Path(f".bench/queue-{name}.json"))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
