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
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from limiter.amounts import used_by_failure
from limiter.api import AsyncLimiter, Limiter
from limiter.asking import AnyOf, Names
from limiter.cache.control import check_cache
from limiter.decorated import CostOf, Held, Plan, TenantOf, Tries
from limiter.errors import ConfigError, StoreError
from limiter.observing import payload_of
from limiter.providers import Provider
from limiter.providers.profile import Usage, usage_of
from limiter.retrying import Retry
from limiter.shortening import shortening

if TYPE_CHECKING:
    from limiter.cache.api import AsyncCache, Cache

P = ParamSpec("P")
R = TypeVar("R")


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
    cache: Cache | AsyncCache | None = None,
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
        cache: returns what the function returned for the same arguments, under the same tenant, and
            takes nothing then; of many such calls at once one runs. See `limiter.cache.cached`, which
            may stand above this decorator instead, with settings of its own.

    Raises:
        ConfigError: it is not used on a function, or there is no such provider. The function itself
            may raise what `Limiter.acquire` does, and `CallFailed` from its last exception.
    """
    if callable(quota) or not (quota or any_of):
        raise ConfigError('Write the quota\'s name: @rate_limited("gpt-4o").')
    asked = {"any_of": any_of, "timeout": timeout, "priority": priority, "fail_fast": fail_fast}
    check_cache(cache)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function):
            raise ConfigError(f"@rate_limited decorates functions, got {function!r:.60}.")
        shorten = shortening(function, compact, fit)
        plan = Plan(
            quota, limiter, cost, tenant, asked, provider, Retry.of(retry), function, shorten
        )
        limited = functools.wraps(function)(_wrapper(plan, function))
        return cast(
            "Callable[P, R]", limited if cache is None else _cached(plan, cache, function, limited)
        )

    return decorate


def _cached(
    plan: Plan, cache: Cache | AsyncCache, function: Callable[..., Any], limited: Callable[..., Any]
) -> Any:
    from limiter.cache import functions, plans

    options = plans.Options(cache, namespace=plan.tenant, standing=plan.standing)
    return functions.wrapped(function, options, within=limited)


def _wrapper(plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        return _async_generator(plan, function)
    if inspect.iscoroutinefunction(function):
        return _coroutine(plan, function)
    if inspect.isgeneratorfunction(function):
        return _generator(plan, function)
    return _plain(plan, function)


def _plain(plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = plan.shorten(args, kwargs)
        tries = Tries(plan, args, kwargs)
        while True:
            with tries.asking() as asked:
                r = plan.limiter.as_sync().acquire(plan.quota, **asked)
            try:
                with r.answered_by(plan.provider):
                    result = function(*args, **kwargs)
                    late = r.hear(result, always=plan.retry is not None)
                    r.settle(**plan.end(r, told(result)))
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


def _coroutine(plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = plan.shorten(args, kwargs)
        tries = Tries(plan, args, kwargs)
        while True:
            with tries.asking() as asked:
                r = await plan.limiter.as_async().acquire(plan.quota, **asked)
            try:
                async with r.answered_by(plan.provider):
                    result = await function(*args, **kwargs)
                    late = r.hear(result, always=plan.retry is not None)
                    await r.settle(**plan.end(r, told(result)))
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


def told(result: object) -> Usage | None:
    """Return the usage that a function's result tells, None where it tells none."""
    # A number that a function returns is its result, not its usage.
    return None if isinstance(result, (int, float)) else usage_of(payload_of(result))


class _Watch:
    """Keep the last usage that the items of a stream tell, and whether there was any item."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.usage: Usage | None = None
        self.has_delivered = False

    def see(self, item: Any) -> Any:
        self.usage = told(item) or self.usage
        self.has_delivered = True
        return item

    def used(self, held: Held, error: BaseException | None) -> dict[str, int]:
        if self.usage is not None or not isinstance(error, Exception):
            return self._plan.end(held, self.usage)
        return used_by_failure(error, held.estimate)


def _generator(plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        args, kwargs = plan.shorten(args, kwargs)
        tries = Tries(plan, args, kwargs)
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


def _async_generator(plan: Plan, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        args, kwargs = plan.shorten(args, kwargs)
        tries = Tries(plan, args, kwargs)
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
