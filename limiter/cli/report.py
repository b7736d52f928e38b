"""The words at the end of a run. Pure text."""

from __future__ import annotations

import json
import shlex
import sys

from limiter.cli.progress import clock
from limiter.cli.tally import Spending, Tally


def reason(line: bytes) -> str:
    """Return what an output line of a failure says, for people."""
    error = json.loads(line)["error"]
    return f"failed: {error['message']} ({error['code']})"


def summary(tally: Tally, took_s: float) -> str:
    """Tell what was done, how fast, and how much of each quota it used."""
    counts = f"{tally.total} lines: {tally.ok} ok, {tally.failed + tally.bad} failed"
    counts += f", {tally.skipped} already done" if tally.skipped else ""
    counts += f", {tally.left} left" if tally.left else ""
    counts += f"; {tally.cached} from the cache" if tally.cached else ""
    lines = [
        f"{counts}; {tally.refused} × 429, {tally.retries} retries",
        f"took {_span(took_s)}; ideal {_span(tally.ideal_s)} (beyond the burst, at the rate)",
    ]
    if tally.prompts.before:
        lines.append(f"prompts: {tally.prompts}")
    for name, spending in tally.spending.items():
        lines += _used(name, spending)
    return "".join(f"{line}\n" for line in lines)


def _used(name: str, spending: Spending) -> list[str]:
    lines = []
    for limit, _, _ in spending.limits():
        used = spending.used.get(limit.dimension, 0)
        share = spending.share_after_burst(limit)
        told = "within the burst" if share is None else f"{share:.1%} of the quota after the burst"
        lines.append(f"{name}: {used:,} {limit.dimension}, {told} ({limit.label})")
    return lines


def resume(tally: Tally) -> str:
    """Tell how to go on after an interruption."""
    command = shlex.join(["limiter", *sys.argv[1:]])
    return (
        f"Interrupted with {tally.left} of {tally.total} lines left. The same command does the "
        f"rest:\n  {command}\n"
    )


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)
