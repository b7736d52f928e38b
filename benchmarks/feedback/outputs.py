"""Learned lengths of answers: what they bring, by how a server charges.

Answers become a quarter of `max_tokens`, and take 4 s. Server and fleet have the same bucket, of 6 s:
who reserves `max_tokens` has all of it under way long before the rate is used. Where the server tells
nothing of its level, only the estimates decide; where it does, the level is corrected by that too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from benchmarks.feedback.callers import Crew, Job, fleet
from benchmarks.feedback.server import Provider, provider
from benchmarks.report import Row
from limiter.mock import MockConfig

CALLS_PER_S = 20
INPUT_TOKENS, MAX_TOKENS, SHARE = 10, 256, 0.25
BILLED_FRAME = 7  # of one message, by OpenAI's cookbook: what the mock bills beyond the text
BURST_S, LATENCY_S = 6.0, 4.0
# 20 answers teach; after three times the latency the start is over.
FROM_S, UNTIL_S = 14.0, 34.0
LEARNS: dict[str, Any] = {"output_quantile": 0.9}
NOT: dict[str, Any] = {"output_quantile": None}


@dataclass(frozen=True, slots=True)
class Case:
    """Say how a server charges, and what is reserved.

    Attributes:
        profile: whose accounting: `generic` reserves the expected answer and settles to what was
            used, `bedrock` reserves `max_tokens`, `azure` does and gets nothing back.
        tells: the server's headers tell its level, of a bucket of a minute.
        bar: for the utilisation; None: it is only told.
    """

    name: str
    charge: str
    profile: str
    client: dict[str, Any]
    tells: bool = False
    bar: float | None = None

    @property
    def rate(self) -> float:
        """Return what the server gives a second, in tokens as it counts them in the end."""
        if self.charge == "documented":
            return CALLS_PER_S * (INPUT_TOKENS + MAX_TOKENS)
        return CALLS_PER_S * (INPUT_TOKENS + BILLED_FRAME + SHARE * MAX_TOKENS)


CASES = (
    Case("charges usage: learned", "usage", "generic", LEARNS, bar=0.95),
    Case("charges usage: not learned", "usage", "generic", NOT),
    Case("charges usage and tells its level: learned", "usage", "generic", LEARNS, tells=True),
    Case("charges usage and tells its level: not learned", "usage", "generic", NOT, tells=True),
    Case("reserves max_tokens: learned", "reserve", "generic", LEARNS),
    Case("reserves max_tokens: as it does", "reserve", "bedrock", LEARNS),
    Case("keeps max_tokens: learned", "documented", "generic", LEARNS),
    Case("keeps max_tokens: as it does (azure)", "documented", "azure", LEARNS, bar=0.95),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what was used of what could be, in the time that is judged, and what came in it."""

    utilisation: float
    refused: int
    arrived: int
    level: float


def run(url: str, case: Case) -> Outcome:
    """Let the fleet call a server until it has learned, and then for 20 s."""
    period_s = 60.0 if case.tells else BURST_S
    amount = round(case.rate * period_s)
    config = MockConfig(rpm=None, tpm=amount, period_s=period_s, charge=case.charge,
                        headers="openai" if case.tells else "none", answer_share=SHARE, jitter=0.3,
                        latency_s=LATENCY_S)  # fmt: skip
    with provider(config) as server:
        if case.tells:
            server.drain()
        job = Job("ours", server.base_url, url, mean_tokens=INPUT_TOKENS, max_tokens=MAX_TOKENS,
                  spans=((0.0, UNTIL_S),), limits=(("tokens", amount, period_s),),
                  client={"provider": case.profile, **case.client})  # fmt: skip
        with Crew(fleet(job)) as crew:
            begin_s = crew.begin()
            before = _used(server, begin_s + FROM_S)
            after = _used(server, begin_s + UNTIL_S)
            level = server.level()
            crew.called()
        came = [a for a in server.arrivals() if FROM_S <= a.came_s - begin_s < UNTIL_S]
    used = (after - before) / (case.rate * (UNTIL_S - FROM_S))
    return Outcome(used, sum(a.status == 429 for a in came), len(came), level)


def _used(server: Provider, at_s: float) -> int:
    time.sleep(max(0.0, at_s - time.time()))
    used: int = server.mock.stats()["tokens_accepted"]
    return used


def rows(url: str) -> list[Row]:
    """Measure each server with and without."""
    import redis

    found = []
    for case in CASES:
        with redis.Redis.from_url(url) as client:
            client.flushall()
        done = run(url, case)
        note = (
            f"{done.refused} of {done.arrived} requests refused with 429; {done.level:,.0f} tokens "
            f"left at the end, at {case.rate:,.0f} a second"
        )
        found.append(Row(f"{case.name}: utilisation", done.utilisation, case.bar or 0, note=note))
    return found
