"""Run real questions against servers that somebody else wrote, with the burst that each one needs.

`python -m benchmarks.third_party QUESTIONS.jsonl [--only NAME]`; each line of the file has a
`question`. Servers come from benchmarks.servers, in an environment of their own.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.environments import REPOSITORY

_COMPLETION = 100
Server = Callable[[], contextlib.AbstractContextManager[servers.LimitingServer]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Say how a quota is declared for one server.

    Attributes:
        burst: the one word that a user chooses.
        share: how much of the limit is declared: windows punish a call that comes a moment early.
        rule: how calls are counted.
        per_s: the windows to declare; None: all of them.
    """

    server: Server
    burst: str | float
    share: float
    rule: str
    per_s: float | None = None


PLANS = {
    # Less than the server's 3 s of tokens: room for what the estimate misses of the JSON around.
    "bucket": Plan(lambda: servers.mocklimit("bucket"), 0.9, 1.0, "documented"),
    "fixed": Plan(lambda: servers.mocklimit("fixed"), "smooth", 0.98, "documented"),
    "sliding": Plan(lambda: servers.mocklimit("sliding"), "smooth", 0.95, "documented"),
    "quantised": Plan(lambda: servers.mocklimit("quantised"), "smooth", 0.80, "documented", 1.0),
    "fakeai": Plan(servers.fakeai, 30.0, 0.98, "admission"),
}


def requests(questions: Path) -> list[dict[str, object]]:
    """Turn questions into Batch API lines."""
    lines = []
    for i, line in enumerate(questions.read_text().splitlines()):
        messages = [{"role": "user", "content": json.loads(line)["question"]}]
        body = {"model": "gpt-4o-mini", "messages": messages, "max_completion_tokens": _COMPLETION}
        custom_id, url = f"q-{i:05}", "/v1/chat/completions"
        lines.append({"custom_id": custom_id, "method": "POST", "url": url, "body": body})
    return lines


def quota(plan: Plan, server: servers.LimitingServer, scale: float) -> str:
    """Write the limits as a limiter.toml; `scale` is estimate over charge, where that is fixed."""
    limits = []
    for limit in server.limits:
        period_s = limit.window_s or 60.0
        if plan.per_s not in (None, period_s):
            continue
        units = limit.rate_per_s * period_s if limit.window_s == 0 else limit.amount
        factor = plan.share * (scale if limit.dimension != "requests" else 1.0)
        dimension = "requests" if limit.dimension == "requests" else "tokens"
        burst = f'"{plan.burst}"' if isinstance(plan.burst, str) else plan.burst
        limits.append(
            f'{{dimension = "{dimension}", amount = {int(units * factor)}, per = {period_s}, '
            f"burst = {burst}}}"
        )
    return f"[quotas.gpt-4o-mini]\nlimits = [{', '.join(limits)}]\n"


def _ideal_s(server: servers.LimitingServer, charges: list[int]) -> float:
    """Return cost/rate after what the server lets through at once."""
    longest = 0.0
    for limit in server.limits:
        cost = len(charges) if limit.dimension == "requests" else sum(charges)
        rate = limit.rate_per_s if limit.window_s == 0 else limit.amount / limit.window_s
        longest = max(longest, (cost - limit.amount) / rate)
    return longest


@contextlib.contextmanager
def _files(lines: list[dict[str, object]]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lim-", dir="/tmp") as folder:
        home = Path(folder)
        (home / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        yield home


def run(name: str, lines: list[dict[str, object]], processes: int) -> dict[str, object]:
    """Run all lines against one server; return what came of it."""
    from limiter import estimate

    plan = PLANS[name]
    with plan.server() as server, _files(lines) as home:
        bodies = [line["body"] for line in lines]
        charges = [server.charge(body, None) for body in bodies]  # type: ignore[arg-type]
        scale = 1.0
        if plan.rule == "admission":
            told = [estimate("/v1/chat/completions", body)["tokens"] for body in bodies]  # type: ignore[arg-type]
            scale = sum(told) / sum(charges)
        (home / "limiter.toml").write_text(quota(plan, server, scale))
        command = [sys.executable, "-m", "limiter", "run", str(home / "requests.jsonl")]
        command += ["-o", str(home / "out.jsonl"), "--quota", str(home / "limiter.toml")]
        command += ["--base-url", server.base_url, "--processes", str(processes)]
        command += ["--rule", plan.rule]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OPENAI_API_KEY": name,
               "LIMITER_RUNTIME_DIR": str(home / "rt")}  # fmt: skip
        begin = time.monotonic()
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        took_s = time.monotonic() - begin
        said = [line for line in done.stderr.splitlines() if " × 429" in line]
        ideal_s = _ideal_s(server, charges)
    return {
        "server": name, "burst": plan.burst, "declared": plan.share, "exit": done.returncode,
        "took_s": round(took_s, 1), "ideal_s": round(ideal_s, 1),
        "ratio": round(took_s / ideal_s, 3), "summary": said[-1] if said else done.stderr[-500:],
    }  # fmt: skip


def main() -> None:
    """Run against all servers, side by side: each has limits, a store and a line of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--only", action="append", choices=PLANS)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--first", type=int, help="only so many questions")
    args = parser.parse_args()
    lines = requests(args.questions)[: args.first]
    servers.environment()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        runs = [threads.submit(run, name, lines, args.processes) for name in args.only or PLANS]
        for done in concurrent.futures.as_completed(runs):
            print(json.dumps(done.result(), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
