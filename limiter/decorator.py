"""`@rate_limited`: reserve before a function runs, settle by what it returns.

One decorator for sync and async functions and for generators of both kinds; a limiter of either kind
serves all four.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from limiter.amounts import by_dimension, used_by_failure
from limiter.api import AsyncLimiter, Limiter
from limiter.asking import AnyOf, Names
from limiter.core.quota import check_cost
from limiter.default import default_limiter
from limiter.errors import ConfigError, LimiterError, StoreError
from limiter.observing import payload_of, verdict_of, was_repeated
from limiter.providers import Provider, Verdict, estimate, profile
from limiter.providers.profile import Usage, usage_of
from limiter.reservation import AsyncReservation, Reservation
from limiter.retrying import Course, Retry
from limiter.shortening import Shorten, shortening

P = ParamSpec("P")
R = TypeVar("R")
CostOf = Mapping[str, int] | int | Callable[..., Mapping[str, int] | int] | None
TenantOf = str | Callable[..., str | None] | None

Held = Reservation | AsyncReservation

_CHAT = "/v1/chat/completions"
_PATHS = (("messages", _CHAT), ("input", "/v1/responses"), ("prompt", "/v1/completions"))


def rate_limited(
    quota: Names = (),
    *,
    any_of: AnyOf | None = None,
    limiter: Limiter | AsyncLimiter | None = None,
    cost: CostOf = None,
    timeout: float | None = None,
    priority: str | None = None,
    tenant: TenantOf = None,
    fail_fast: bool = True,
    provider: Provider = "openai",
    retry: Retry | bool | None = None,
    compact: int = 0,
    fit: int | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function run only when its cost is granted.

    What it returns settles the reservation: an openai response, a mapping with `usage`, or anything
    else, for which the estimate stands. A generator reserves when it is begun and settles when it
    ends, breaks, or is closed early, by the usage of its last item that tells one.

    The fleet hears of the exceptions that it raises, if they carry a provider's response or tell that
    there was none, and of results that carry headers.

    Args:
        quota: the quota's name, or several names of one group.
        any_of: instead of `quota`, see `Limiter.acquire`.
        limiter: of either kind; without it the process-wide default (`LIMITER_URL` and
            `limiter.toml`).
        cost: amounts by dimension, a number of tokens, or a function of the call's arguments that
            returns one. Without it the arguments `messages`, `input` or `prompt` are estimated as
            the body of a call; where there are none the call costs one request and its tokens are
            charged when it ends.
        timeout: seconds to wait at most; None: what the priority says, else as long as it takes.
        priority: one that the quota declares; None: `default`.
        tenant: a name, or a function of the call's arguments that returns one.
        fail_fast: fail at once when the wait is expected to be longer than `timeout`.
        provider: whose accounting estimates a call and counts what it used: a name, or a profile of
            your own (`limiter.providers.Accounting`).
        retry: how often, and for how long, the function is called again when it raised what another
            attempt may mend: `Retry(…)`, True for `Retry()`. None: never, because a function may do
            more than one call. What an SDK inside has repeated already is not repeated, nor is a
            generator that has delivered an item.
        compact: shorten the argument `messages`, `input` or `prompt` before it is estimated and
            passed on, by this level (`limiter.prompts.compact`).
        fit: the tokens that it may have; old messages go (`limiter.prompts.fit_messages`).

    Raises:
        ConfigError: it is not used on a function, or there is no such provider. The function itself
            may raise what `Limiter.acquire` does, and `CallFailed` from its last exception.
    """
    if callable(quota) or not (quota or any_of):
        raise ConfigError('Write the quota\'s name: @rate_limited("gpt-4o").')
    asked = {"any_of": any_of, "timeout": timeout, "priority": priority, "fail_fast": fail_fast}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function):
            raise ConfigError(f"@rate_limited decorates functions, got {function!r:.60}.")
        shorten = shortening(function, compact, fit)
        plan = _Plan(
            quota, limiter, cost, tenant, asked, provider, Retry.of(retry), function, shorten
        )
        return cast("Callable[P, R]", functools.wraps(function)(_wrapper(plan, function)))

    return decorate


def _wrapper(plan: _Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        return _async_generator(plan, function)
    if inspect.iscoroutinefunction(function):
        return _coroutine(plan, function)
    if inspect.isgeneratorfunction(function):
        return _generator(plan, function)
    return _plain(plan, function)


class _Plan:
    """Hold what a decorated function was given, and find each call's cost."""

    def __init__(
        self, quota: Names, limiter: Limiter | AsyncLimiter | None, cost: CostOf,
        tenant: TenantOf, asked: dict[str, Any], provider: Provider, retry: Retry | None,
        function: Callable[..., Any], shorten: Shorten,
    ) -> None:  # fmt: skip
        self.quota = quota
        self._limiter = limiter
        self._cost = cost
        self._tenant = tenant
        self._asked = asked
        self._profile = profile(provider)
        self.provider = self._profile.name
        self.retry = retry
        self.shorten = shorten
        self._signature = inspect.signature(function)

    @property
    def limiter(self) -> Limiter | AsyncLimiter:
        return self._limiter or default_limiter()

    def asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what `acquire` is asked for by one call of the function."""
        tenant = self._tenant(*args, **kwargs) if callable(self._tenant) else self._tenant
        return {"cost": self._amounts(args, kwargs), "tenant": tenant, **self._asked}

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


class _Tries:
    """Follow the attempts of one call of a function; without `retry=` there is one."""

    def __init__(self, plan: _Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
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


def _plain(plan: _Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = plan.shorten(args, kwargs)
        tries = _Tries(plan, args, kwargs)
        while True:
            with tries.asking() as asked:
                r = plan.limiter.as_sync().acquire(plan.quota, **asked)
            try:
                with r.answered_by(plan.provider):
                    result = function(*args, **kwargs)
                    late = r.hear(result, always=plan.retry is not None)
                    r.settle(**plan.end(r, _told(result)))
            except Exception as exc:
                pause_s = tries.pause_s(r, exc)
                if pause_s is None:
                    raise
                time.sleep(pause_s)
            else:
                if late is not None:
                    r.report_soon(late)
                return result

    return call


def _coroutine(plan: _Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = plan.shorten(args, kwargs)
        tries = _Tries(plan, args, kwargs)
        while True:
            with tries.asking() as asked:
                r = await plan.limiter.as_async().acquire(plan.quota, **asked)
            try:
                async with r.answered_by(plan.provider):
                    result = await function(*args, **kwargs)
                    late = r.hear(result, always=plan.retry is not None)
                    await r.settle(**plan.end(r, _told(result)))
            except Exception as exc:
                pause_s = tries.pause_s(r, exc)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                if late is not None:
                    r.report_soon(late)
                return result

    return call


def _told(result: object) -> Usage | None:
    # A number that a function returns is its result, not its usage.
    return None if isinstance(result, (int, float)) else usage_of(payload_of(result))


class _Watch:
    """Keep the last usage that the items of a stream tell, and whether there was any item."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self.usage: Usage | None = None
        self.has_delivered = False

    def see(self, item: Any) -> Any:
        self.usage = _told(item) or self.usage
        self.has_delivered = True
        return item

    def used(self, held: Held, error: BaseException | None) -> dict[str, int]:
        if self.usage is not None or not isinstance(error, Exception):
            return self._plan.end(held, self.usage)
        return used_by_failure(error, held.estimate)


def _generator(plan: _Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        args, kwargs = plan.shorten(args, kwargs)
        tries = _Tries(plan, args, kwargs)
        while True:
            watch = _Watch(plan)
            with tries.asking() as asked:
                r = plan.limiter.as_sync().acquire(plan.quota, **asked)
            try:
                value = yield from _watched(function(*args, **kwargs), watch)
            except BaseException as exc:
                r.observe(exc, provider=plan.provider)
                with contextlib.suppress(StoreError):  # the caller's exception matters more
                    r.settle(**watch.used(r, exc))
                pause_s = None
                if isinstance(exc, Exception) and not watch.has_delivered:
                    pause_s = tries.pause_s(r, exc)
                if pause_s is None:
                    raise
                time.sleep(pause_s)
            else:
                r.hear(None, always=plan.retry is not None)
                r.settle(**watch.used(r, None))
                return value

    return call


def _watched(items: Generator[Any, Any, Any], watch: _Watch) -> Generator[Any, Any, Any]:
    """Pass a generator on, with what is sent and thrown into it."""
    try:
        item = next(items)
        while True:
            try:
                sent = yield watch.see(item)
            except GeneratorExit:
                items.close()
                raise
            except BaseException as exc:  # noqa: BLE001 - the inner generator decides
                item = items.throw(exc)
            else:
                item = items.send(sent)
    except StopIteration as stop:
        return stop.value


def _async_generator(plan: _Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        args, kwargs = plan.shorten(args, kwargs)
        tries = _Tries(plan, args, kwargs)
        while True:
            watch = _Watch(plan)
            with tries.asking() as asked:
                r = await plan.limiter.as_async().acquire(plan.quota, **asked)
            items = function(*args, **kwargs)
            error: BaseException | None = None
            try:
                sent = None
                while True:
                    try:
                        item = await items.asend(sent)
                    except StopAsyncIteration:
                        r.hear(None, always=plan.retry is not None)
                        return
                    sent = yield watch.see(item)
            except BaseException as exc:
                error = exc
                r.observe(exc, provider=plan.provider)
                pause_s = None
                if isinstance(exc, Exception) and not watch.has_delivered:
                    pause_s = tries.pause_s(r, exc)
                if pause_s is None:
                    raise
            finally:
                # A generator that is collected by the loop may not wait for a round trip.
                r.settle_soon(watch.used(r, error))
                await items.aclose()
            await asyncio.sleep(pause_s)

    return call
