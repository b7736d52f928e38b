"""How far a job is, and when it will be done, while somebody waits for its results.

By the quota's arithmetic: what the calls that are left will take of each limit, at its rate, beyond what is
there. Nobody else's calls are foreseen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from limiter.api import Limiter
from limiter.cli.progress import clock
from limiter.errors import LimiterError
from limiter.providers import route

if TYPE_CHECKING:
    from limiter.queue import JobStatus
    from limiter.status import QuotaStatus

LOOK_EVERY_S = 1.0


def eta_s(status: JobStatus, quota: QuotaStatus) -> float | None:
    """Return the seconds until a job's calls are made at the earliest; None: nothing is known of their cost."""
    if not status.ok:
        return None
    each = {"requests": 1.0, "tokens": status.tokens / status.ok}
    waits = [quota.brake_s or 0.0]
    for limited in quota.limits.values():
        rate = float(limited.limit.rate) * 1e6
        cost = each.get(limited.limit.dimension)
        if rate and cost is not None:
            waits.append((status.left * cost - limited.level) / rate)
    return max(0.0, *waits)


def told(status: JobStatus, seconds: float | None) -> str:
    """Say how far a job is, in a line."""
    parts = [f"{status.ok:,} of {status.total:,} done"]
    parts += [f"{status.failed:,} failed"] if status.failed else []
    parts += [f"{status.left:,} waiting or under way", f"{status.tokens:,} tokens"]
    if seconds is not None and status.left:
        parts.append(
            f"{clock(seconds)} left at most, by the quota" if seconds >= 1 else "seconds left"
        )
    return ", ".join(parts)


class Following:
    """Tell a person how far a job is, now and then.

    Args:
        url: of the store that the quota is in.
        look: returns the job's state.
        show: takes the line.
    """

    def __init__(
        self, url: str | None, look: Callable[[], JobStatus], show: Callable[[str], None]
    ) -> None:
        self._url, self._look, self._show = url, look, show
        self._next = 0.0
        self._quota: str | None = None
        self._limiter: Limiter | None = None

    def saw(self, line: bytes) -> None:
        """Note a result; its model says which quota counts."""
        if self._quota is None:
            self._quota = self._quota_of(json.loads(line)) or ""
        self.tick()

    def tick(self) -> None:
        """Tell, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_EVERY_S
        status, seconds = self._look(), None
        if self._quota and self._limiter:
            try:
                seconds = eta_s(status, self._limiter.peek(self._quota))
            except LimiterError:
                seconds = None  # it is a word for people, no more
        self._show(told(status, seconds))

    def _quota_of(self, result: Mapping[str, Any]) -> str | None:
        body = (result.get("response") or {}).get("body")
        model = body.get("model") if isinstance(body, Mapping) else None
        if not isinstance(model, str):
            return None
        try:
            self._limiter = Limiter(self._url)
            known = {each.quota.name: each.quota for each in self._limiter.declarations()}
        except LimiterError:
            return None
        return route(model, known)

    def close(self) -> None:
        """Close what it has opened."""
        if self._limiter:
            self._limiter.close()
