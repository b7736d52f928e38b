"""The same load on the same server by three clients: the openai client's own retries, tenacity, ours.

The bucket begins empty, so that no burst hides what a client does when it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.environments import EnvironmentMissingError, ensure
from benchmarks.feedback.callers import FRAME_TOKENS, Called, Crew, Job, fleet
from benchmarks.feedback.server import Arrival, provider
from benchmarks.report import Row
from limiter.mock import MockConfig

CALLS_PER_S, MEAN_TOKENS, CALLS = 40, 300, 1_800
NAMES = {"plain": "openai, max_retries=2", "tenacity": "tenacity", "ours": "ours"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what one client made of the load."""

    called: Sequence[Called]
    arrivals: Sequence[Arrival]
    begin_s: float

    @property
    def makespan_s(self) -> float:
        """Return when the last call ended, with or without an answer."""
        return max(call.ended_s for call in self.called) - self.begin_s

    @property
    def failed(self) -> int:
        """Count the calls whose caller got an error in the end."""
        return sum(bool(call.error) for call in self.called)

    @property
    def refused(self) -> int:
        """Count the 429s."""
        return sum(a.status == 429 for a in self.arrivals)

    @property
    def wasted(self) -> int:
        """Count the requests that got no answer for their caller."""
        return len(self.arrivals) - (len(self.called) - self.failed)

    @property
    def served(self) -> int:
        """Count the calls whose caller got an answer; who gives most of them up is done early."""
        return len(self.called) - self.failed

    @property
    def p99_s(self) -> float:
        """Return how long the slowest hundredth of the calls took at least, from their callers' view."""
        lasted = sorted(call.ended_s - call.began_s for call in self.called)
        return lasted[int(0.99 * (len(lasted) - 1))]

    def __str__(self) -> str:
        return (
            f"makespan {self.makespan_s:.1f} s, {self.failed} of {len(self.called):,} calls failed, "
            f"429s {self.refused:,}, wasted requests {self.wasted:,}, p99 {self.p99_s:.1f} s"
        )


def run(url: str, kind: str, python: Path | None = None) -> Outcome:
    """Let four processes with 32 tasks each make all calls once."""
    tpm = CALLS_PER_S * 60 * MEAN_TOKENS
    config = MockConfig(rpm=CALLS_PER_S * 90, tpm=tpm, latency_s=0.3, answer_tokens=16)
    with provider(config) as server:
        job = Job(kind, server.base_url, url, calls=CALLS, mean_tokens=MEAN_TOKENS)
        with Crew(fleet(job), python) as crew:
            server.drain()
            begin_s = crew.begin()
            called = crew.called()
        return Outcome(called, [a for a in server.arrivals() if a.who != "drain"], begin_s)


def bound_s() -> float:
    """Return cost/rate: no client can be faster."""
    job = Job("ours", "", calls=CALLS, mean_tokens=MEAN_TOKENS)
    cost = sum(tokens + FRAME_TOKENS for tokens in job.texts())
    return cost / (CALLS_PER_S * MEAN_TOKENS)


def _pythons() -> dict[str, Path | None]:
    openai = f"openai=={metadata.version('openai')}"
    return {"plain": None, "tenacity": ensure("venv-tenacity", ("tenacity>=9,<10", openai))}


def rows(url: str) -> list[Row]:
    """Measure the three, ours last."""
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushall()
    try:
        pythons = _pythons()
    except EnvironmentMissingError as exc:
        return [Row("ours / tenacity: calls served", None, 1, note=str(exc))]
    theirs = {kind: run(url, kind, python) for kind, python in pythons.items()}
    ours = run(url, "ours")
    ideal_s = bound_s()
    found = [
        Row("ours: makespan / (cost/rate)", ours.makespan_s / ideal_s, 1.05, "stay below", "",
            f"cost/rate {ideal_s:.1f} s; {ours}"),
        Row("  … 429s", ours.refused, 1, "stay below", "", "the limits are learned"),
        Row("  … calls failed", ours.failed, 0, "stay below"),
    ]  # fmt: skip
    for kind, other in theirs.items():
        ratio = ours.served / max(1, other.served)
        found.append(Row(f"ours / {NAMES[kind]}: calls served", ratio, 1, note=str(other)))
    return found
