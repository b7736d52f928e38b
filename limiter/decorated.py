"""What a limited function was given, and the attempts of one of its calls; `decorator` runs it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from limiter.amounts import by_dimension
from limiter.api import AsyncLimiter, Limiter
from limiter.asking import Names
from limiter.core.quota import check_cost
from limiter.default import default_limiter
from limiter.errors import LimiterError
from limiter.observing import verdict_of, was_repeated
from limiter.providers import Provider, Verdict, estimate, profile
from limiter.providers.profile import Usage
from limiter.reservation import AsyncReservation, Reservation
from limiter.retrying import Course, Retry
from limiter.shortening import Shorten

CostOf = Mapping[str, int] | int | Callable[..., Mapping[str, int] | int] | None
TenantOf = str | Callable[..., str | None] | None

Held = Reservation | AsyncReservation

_CHAT = "/v1/chat/completions"
_PATHS = (("messages", _CHAT), ("input", "/v1/responses"), ("prompt", "/v1/completions"))


class Plan:
    """Hold what a decorated function was given, and find each call's cost."""

    def __init__(
        self, quota: Names, limiter: Limiter | AsyncLimiter | None, cost: CostOf,
        tenant: TenantOf, asked: dict[str, Any], provider: Provider, retry: Retry | None,
        function: Callable[..., Any], shorten: Shorten,
    ) -> None:  # fmt: skip
        self.quota = quota
        self._limiter = limiter
        self._cost = cost
        self.tenant = tenant
        self._asked = asked
        self._profile = profile(provider)
        self.provider = self._profile.name
        self.retry = retry
        self.shorten = shorten
        self._signature = inspect.signature(function)

    @property
    def limiter(self) -> Limiter | AsyncLimiter:
        """Return the limiter, or the process's."""
        return self._limiter or default_limiter()

    def asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what `acquire` is asked for by one call of the function."""
        tenant = self.tenant(*args, **kwargs) if callable(self.tenant) else self.tenant
        return {"cost": self._amounts(args, kwargs), "tenant": tenant, **self._asked}

    def standing(self) -> tuple[int, float | None]:
        """Return how urgent a call is, and how long it waits, as far as that is declared here."""
        name = self.quota if isinstance(self.quota, str) else next(iter(self.quota), "")
        declared = self.limiter.quotas.get(name)
        policy = declared.policy(self._asked["priority"]) if declared else None
        timeout_s = self._asked["timeout"]
        return (
            policy.level if policy else 0,
            policy.timeout if policy and timeout_s is None else timeout_s,
        )

    def _amounts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, int]:
        cost = self._cost(*args, **kwargs) if callable(self._cost) else self._cost
        if cost is None:
            return self._estimate(args, kwargs)
        return check_cost({"tokens": cost} if isinstance(cost, int) else cost)

    def _estimate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, int]:
        bound = self._signature.bind(*args, **kwargs).arguments
        for name, path in _PATHS:
            if name in bound:
                return estimate(path, {name: bound[name]}, self._profile)
        return {}

    def end(self, held: Held, used: Usage | None) -> dict[str, int]:
        """Return what to settle to: the told usage as the provider counts it, else nothing."""
        if used is None:
            return {}
        known = {**held.estimate, **by_dimension(used)}
        return self._profile.settled(_CHAT, known, used, rule="usage")


class Tries:
    """Follow the attempts of one call of a function; without `retry=` there is one."""

    def __init__(self, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._provider = plan.provider
        self._asked = plan.asked(args, kwargs)
        self._course = None if plan.retry is None else Course(plan.retry)
        self._failed: tuple[Held, Exception, Verdict] | None = None

    @contextlib.contextmanager
    def asking(self) -> Iterator[dict[str, Any]]:
        """Give what to ask of the line; a repeat that gets nowhere ends in what had failed.

        Raises:
            CallFailed: from the function's own exception.
        """
        course = self._course
        if course is None:
            yield self._asked
        elif self._failed is None:
            course.asks()
            yield self._asked
            course.granted()
        else:
            held, error, verdict = self._failed
            patience_s = self._asked["timeout"]
            patience_s = held.patience_s if patience_s is None else patience_s
            try:
                yield {**self._asked, **course.asking(patience_s)}
            except LimiterError as reason:
                response = getattr(error, "response", None)
                raise course.failure(held.quota, verdict, response, reason) from error
            course.granted()

    def pause_s(self, held: Held, error: Exception) -> float | None:
        """Return how long to pause before the next attempt; None: there is nothing to mend.

        Raises:
            CallFailed: another attempt might help, but there will be none.
        """
        course = self._course
        if course is None or course.retry.attempts == 1 or was_repeated(error):
            return None
        verdict = verdict_of(error, provider=self._provider)
        if verdict is None or not verdict.again:
            return None
        pause_s = course.pause_s(verdict)
        if pause_s is None:
            response = getattr(error, "response", None)
            raise course.failure(held.quota, verdict, response) from error
        self._failed = held, error, verdict
        return pause_s
