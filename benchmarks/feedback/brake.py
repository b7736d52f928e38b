"""The brake: one process is refused and told to wait 2 s, and nobody starts a call for 2 s.

Arrivals are counted at the server, from the moment at which it answered the refused call.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.feedback.callers import Crew, Job, fleet
from benchmarks.feedback.server import Arrival, provider
from benchmarks.report import Row
from limiter.mock import MockConfig

WAIT_S = 2.0
# A refusal travels to its caller, from there to the store, and by the next answers to all others: a
# few milliseconds. Who was let go until then is under way; its request takes as long again, on two
# cores that the server shares with four clients. All of these are listed in the notes.
UNDER_WAY_S = 0.05
MEAN_TOKENS, LATENCY_S = 300, 0.3
REFUSED_AT_S, ENDS_AT_S = 8.0, 13.0


@dataclass(frozen=True, slots=True)
class Case:
    """Say how much the provider gives, and how it refuses.

    Attributes:
        full: much is left when the call is refused; else all tasks wait for the refill.
    """

    name: str
    calls_per_s: int
    full: bool
    refusal: dict[str, Any]

    @property
    def rate(self) -> float:
        """Return what the provider gives, in tokens a second."""
        return self.calls_per_s * MEAN_TOKENS


# One that comes too early meets a second refusal only while a cooldown lasts.
CASES = (
    Case("in line, once", 50, full=False, refusal={"count": 1, "retry_after_s": WAIT_S}),
    Case("in line, cooldown", 50, full=False, refusal={"cooldown_s": WAIT_S}),
    Case("full level, cooldown", 200, full=True, refusal={"cooldown_s": WAIT_S}),
)


def run(url: str, case: Case) -> list[Arrival]:
    """Refuse a call in the midst of a saturating load; return all calls."""
    tpm = round(case.rate * 60)
    config = MockConfig(rpm=case.calls_per_s * 90, tpm=tpm, latency_s=LATENCY_S, answer_tokens=16)
    with provider(config) as server:
        if not case.full:
            server.drain()
        job = Job("ours", server.base_url, url, mean_tokens=MEAN_TOKENS, spans=((0.0, ENDS_AT_S),))
        with Crew(fleet(job)) as crew:
            begin_s = crew.begin()
            time.sleep(max(0.0, begin_s + REFUSED_AT_S - time.time()))
            server.mock.refuse(**case.refusal)
            commanded_s = time.time()
            crew.called()
        # What the unknown limits cost before is another proof's business.
        return [a for a in server.arrivals() if a.came_s > commanded_s - 1 and a.who != "drain"]


def rows_of(case: Case, arrivals: Sequence[Arrival]) -> list[Row]:
    """Judge what came after the refusal."""
    refused = [a for a in arrivals if a.status == 429]
    if not refused:
        return [Row(f"{case.name}: calls during the brake", None, 0, note="nobody was refused")]
    zero_s = refused[0].answered_s
    during = [a.came_s - zero_s for a in arrivals if 0 < a.came_s - zero_s < WAIT_S]
    late = [offset_s for offset_s in during if offset_s > UNDER_WAY_S]
    after = [a for a in arrivals if a.came_s - zero_s >= WAIT_S]
    listed = ", ".join(f"{1_000 * offset_s:.1f}" for offset_s in during) or "none"
    first_s = after[0].came_s if after else zero_s
    served = [a for a in after if a.came_s < first_s + 1]
    share = sum(a.tokens for a in served) / case.rate
    tenths = [sum(int(10 * (a.came_s - first_s)) == n for a in served) for n in range(10)]
    return [
        Row(f"{case.name}: calls during the brake", len(late), 0, "stay below", "",
            f"later than {1_000 * UNDER_WAY_S:.0f} ms; all that came, in ms: {listed}"),
        Row("  … in the first second after, of the rate", share, 1.05, "stay below", "",
            f"first call {1_000 * (first_s - zero_s - WAIT_S):.0f} ms after its end; calls by tenths "
            f"of the second: {tenths}"),
        Row("  … 429s after the first", len(refused) - 1, 0, "stay below"),
    ]  # fmt: skip


def rows(url: str) -> list[Row]:
    """Measure all cases."""
    import redis

    found: list[Row] = []
    for case in CASES:
        with redis.Redis.from_url(url) as client:
            client.flushall()
        found += rows_of(case, run(url, case))
    return found
