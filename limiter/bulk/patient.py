"""A limiter as a bulk run uses it: calls wait for as long as it takes, and what they do is counted.

Stands between a limited HTTP client and the limiter, with the verbs that the client calls. Nothing
here knows of lines, files or other processes.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from limiter.errors import CircuitOpen, LimitExceeded, LineFull, RetriesSpent

if TYPE_CHECKING:
    from limiter.api import AsyncLimiter
    from limiter.providers import Profile, Rule, Verdict
    from limiter.providers.profile import Body

Report = Callable[..., None]
Granted = Callable[[], None]


def nobody() -> None:
    """Do nothing: nobody wants to know."""


# How soon a call comes again that was turned away: the expected wait, within these.
_LEAST_S, _MOST_S = 0.25, 5.0


class Patient:
    """Let calls wait, whatever their priority says: a bulk run has the time.

    A call that finds the line full, the fleet's retry budget spent, or an open circuit comes again a
    little later: nothing of it was sent. Only where the circuit is open because calls are denied
    (key, billing) it fails, as the calls before it did.

    Args:
        limiter: of this process; its store is shared by all.
        report: told `spent`, `refused` and `retry` as they happen.

    Attributes:
        sending: the tasks whose call is on the wire.
    """

    def __init__(self, limiter: AsyncLimiter, report: Report, granted: Granted = nobody) -> None:
        self._limiter, self._granted = limiter, granted
        self._report = report
        self.sending: set[asyncio.Task[Any] | None] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._limiter, name)

    def as_async(self) -> Patient:
        """Return this limiter."""
        return self

    async def acquire(self, quota: str, cost: Mapping[str, int], **asked: Any) -> Counted:
        """Reserve a cost, see `AsyncLimiter.acquire`."""
        if asked.get("repeats"):
            self._report("retry")
        asked["timeout"] = math.inf
        while True:
            try:
                held = await self._limiter.acquire(quota, cost, **asked)
            except (LineFull, CircuitOpen, RetriesSpent) as turned_away:
                await asyncio.sleep(_pause_s(turned_away))
            else:
                self.sending.add(asyncio.current_task())
                self._granted()
                return Counted(held, self)

    def refused(self) -> None:
        """Take note of a refusal."""
        self._report("refused")

    def ended(self, held: Counted, used: Mapping[str, int] | None) -> None:
        """Take note that an attempt is over; None: nothing was used."""
        self.sending.discard(held.task)
        spent = dict.fromkeys(held.estimate, 0) if used is None else {**held.estimate, **used}
        self._report("spent", held.quota, spent, held.granted_at)


def _pause_s(turned_away: LimitExceeded) -> float:
    """Return when to come again, spread by half.

    Raises:
        CircuitOpen: waiting mends nothing.
    """
    if isinstance(turned_away, CircuitOpen) and turned_away.denied:
        raise turned_away
    return min(_MOST_S, max(_LEAST_S, turned_away.wait_s or 0.0)) * (0.5 + random.random())


class Counted:
    """Be a reservation whose end is counted; it never waits for the store's answer."""

    def __init__(self, held: Any, patient: Patient) -> None:
        self._held, self._patient = held, patient
        self.task = asyncio.current_task()
        self.granted_at = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._held, name)

    async def settle(self, **used: int) -> None:
        """Replace the estimate by what was used."""
        self.settle_soon(used)

    async def cancel(self) -> None:
        """Give everything back."""
        self.settle_soon(None)

    def settle_soon(self, used: Mapping[str, int] | None, late: Verdict | None = None) -> None:
        """Settle (None: cancel), and count it; `late` is to be reported then."""
        if self._held.state == "held":
            self._patient.ended(self, used)
        self._held.settle_soon(used, late)

    def settle_from_finalizer(
        self, used: Mapping[str, int] | None, late: Verdict | None = None
    ) -> None:
        """Settle from a `__del__`."""
        self._held.settle_from_finalizer(used, late)

    def report_soon(self, verdict: Verdict) -> None:
        """Let the fleet know what was answered."""
        if verdict.status == 429:
            self._patient.refused()
        self._held.report_soon(verdict)

    async def report(self, verdict: Verdict) -> None:
        """Let the fleet know what was answered; the others hear of it first."""
        if verdict.status == 429:
            self._patient.refused()
        await self._held.report(verdict)


class Counting:
    """Count as a provider does; an endpoint that it has no rule for is a request all the same."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._profile, name)

    @property
    def name(self) -> str:
        """Return the provider's name."""
        return self._profile.name

    def estimate(
        self, path: str, body: Body, *, rule: Rule = "admission", output_tokens: int | None = None
    ) -> dict[str, int]:
        """Say what a call is charged."""
        found = self._profile.estimate(path, body, rule=rule, output_tokens=output_tokens)
        return {"requests": 1} if found is None else found

    def settled(self, *args: Any, **kwargs: Any) -> dict[str, int]:
        """Say what a call was charged in the end."""
        return self._profile.settled(*args, **kwargs)

    def failure(self, status: int | None, estimate: Mapping[str, int]) -> dict[str, int]:
        """Say what a failed call was charged."""
        return self._profile.failure(status, estimate)

    def usage(self, payload: object) -> Any:
        """Read the usage of a response."""
        return self._profile.usage(payload)

    def output_counts(self, path: str, body: Body, rule: Rule) -> bool:
        """Say whether the answer's tokens are reserved and settled."""
        return self._profile.output_counts(path, body, rule)
