"""`@rate_limited`: reserve before a function runs, settle by what it returns.

One decorator for sync and async functions and for generators of both kinds; a limiter of either kind
serves all four.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from limiter.api import AsyncLimiter, Limiter
from limiter.asking import AnyOf, Names
from limiter.core.quota import check_cost
from limiter.default import default_limiter
from limiter.errors import ConfigError
from limiter.providers import Provider, estimate, profile
from limiter.providers.profile import Usage, usage_of
from limiter.reservation import AsyncReservation, Reservation, by_dimension, used_by_failure

P = ParamSpec("P")
R = TypeVar("R")
CostOf = Mapping[str, int] | int | Callable[..., Mapping[str, int] | int] | None
TenantOf = str | Callable[..., str | None] | None

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
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function run only when its cost is granted.

    What it returns settles the reservation: an openai response, a mapping with `usage`, or anything
    else, for which the estimate stands. A generator reserves when it is begun and settles when it
    ends, breaks, or is closed early, by the usage of its last item that tells one.

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

    Raises:
        ConfigError: it is not used on a function, or there is no such provider. The function itself
            may raise what `Limiter.acquire` does.
    """
    if callable(quota) or not (quota or any_of):
        raise ConfigError('Write the quota\'s name: @rate_limited("gpt-4o").')
    asked = {"any_of": any_of, "timeout": timeout, "priority": priority, "fail_fast": fail_fast}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function):
            raise ConfigError(f"@rate_limited decorates functions, got {function!r:.60}.")
        plan = _Plan(quota, limiter, cost, tenant, asked, provider, function)
        if inspect.isasyncgenfunction(function):
            wrapper: Any = _async_generator(plan, function)
        elif inspect.iscoroutinefunction(function):
            wrapper = _coroutine(plan, function)
        elif inspect.isgeneratorfunction(function):
            wrapper = _generator(plan, function)
        else:
            wrapper = _plain(plan, function)
        return cast("Callable[P, R]", functools.wraps(function)(wrapper))

    return decorate


class _Plan:
    """Hold what a decorated function was given, and find each call's cost."""

    def __init__(
        self, quota: Names, limiter: Limiter | AsyncLimiter | None, cost: CostOf,
        tenant: TenantOf, asked: dict[str, Any], provider: Provider, function: Callable[..., Any],
    ) -> None:  # fmt: skip
        self.quota = quota
        self._limiter = limiter
        self._cost = cost
        self._tenant = tenant
        self._asked = asked
        self._profile = profile(provider)
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

    def end(self, held: Reservation | AsyncReservation, used: Usage | None) -> dict[str, int]:
        """Return what to settle to: the told usage as the provider counts it, else nothing."""
        if used is None:
            return {}
        known = {**held.estimate, **by_dimension(used)}
        return self._profile.settled(_CHAT, known, used, rule="usage")


def _plain(plan: _Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with plan.limiter.as_sync().reserve(plan.quota, **plan.asked(args, kwargs)) as r:
            result = function(*args, **kwargs)
            r.settle(**plan.end(r, _told(result)))
            return result

    return call


def _coroutine(plan: _Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        async with plan.limiter.as_async().reserve(plan.quota, **plan.asked(args, kwargs)) as r:
            result = await function(*args, **kwargs)
            await r.settle(**plan.end(r, _told(result)))
            return result

    return call


def _told(result: object) -> Usage | None:
    # A number that a function returns is its result, not its usage.
    return None if isinstance(result, (int, float)) else usage_of(result)


class _Watch:
    """Keep the last usage that the items of a stream tell."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self.usage: Usage | None = None

    def see(self, item: Any) -> Any:
        self.usage = _told(item) or self.usage
        return item

    def used(
        self, reservation: Reservation | AsyncReservation, error: BaseException | None
    ) -> dict[str, int]:
        if self.usage is not None or not isinstance(error, Exception):
            return self._plan.end(reservation, self.usage)
        return used_by_failure(error, reservation.estimate)


def _generator(plan: _Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        watch = _Watch(plan)
        r = plan.limiter.as_sync().acquire(plan.quota, **plan.asked(args, kwargs))
        error: BaseException | None = None
        try:
            return (yield from _watched(function(*args, **kwargs), watch))
        except BaseException as exc:
            error = exc
            raise
        finally:
            r.settle(**watch.used(r, error))

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
        watch = _Watch(plan)
        r = await plan.limiter.as_async().acquire(plan.quota, **plan.asked(args, kwargs))
        items = function(*args, **kwargs)
        error: BaseException | None = None
        try:
            sent = None
            while True:
                try:
                    item = await items.asend(sent)
                except StopAsyncIteration:
                    return
                sent = yield watch.see(item)
        except BaseException as exc:
            error = exc
            raise
        finally:
            # A generator that is collected by the loop may not wait for a round trip.
            r.settle_soon(watch.used(r, error))
            await items.aclose()

    return call
