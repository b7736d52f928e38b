"""Replay a real trace under 80, 100 and 120 % of its mean load, three calls in ten interactive.

    python -m benchmarks.trace AzureLLMInferenceTrace_conv.csv

The trace is read where it lies: Azure/AzurePublicDataset, CC-BY 4.0; Patel et al., "Splitwise:
Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024. The replay runs the script on
a private server; the picture and the figures go to `.bench/`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.report import machine
from benchmarks.servers_redis import redis_server
from limiter.core.quota import Quota
from limiter.simulation import plot, quotas, table, trace
from limiter.simulation.run import Plan, run
from limiter.simulation.workload import Workload

_LOADS = (0.8, 1.0, 1.2)
_MIX = {"interactive": 0.3, "batch": 0.7}
_INTO = Path(".bench")


def main() -> int:
    """Print the table; write `.bench/trace.png` and `.bench/trace.json`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--tenants", type=int, default=0)
    args = parser.parse_args()
    survey = trace.survey(args.trace)
    work = Workload(mix=_MIX, tenants=args.tenants)
    runs, took_s = [], []
    with redis_server() as redis:
        plan = Plan(args.trace, work, tuple(_MIX), url=redis.url)
        for load in _LOADS:
            quota = quotas.at_load(Quota("trace", rpm=1, tpm=1), survey, load)
            started = time.monotonic()
            runs.append(run(plan, f"quota = {load:.4g} × mean load", quota))
            took_s.append(time.monotonic() - started)
        where = machine(redis.version)
    print(table.heading(survey), table.table([each.summary for each in runs]), sep="\n\n")
    for each, seconds in zip(runs, took_s, strict=True):
        done = each.summary.runs
        print(f"{each.summary.title}: {done:,} runs of the script in {seconds:.1f} s")
    _INTO.mkdir(exist_ok=True)
    plot.draw(runs, plan.names, _INTO / "trace.png", table.heading(survey))
    found = {"machine": where, "took_s": took_s, "runs": [each.summary.as_dict() for each in runs]}
    (_INTO / "trace.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"the picture: {_INTO / 'trace.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
