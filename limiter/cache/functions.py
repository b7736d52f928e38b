"""`@cached`: what a function returned for the same arguments before, or is returning elsewhere just now.

    @cached(Cache("redis://localhost:6379/1"))
    def summarise(text: str) -> str: ...

Works for sync and async functions and for generators of both kinds, whose items come back one by one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, ParamSpec, TypeVar, overload

from limiter.cache import generators
from limiter.cache.beside import Beside, in_thread, landing, landing_async
from limiter.cache.control import Told, check_cache
from limiter.cache.flights import Flight
from limiter.cache.plans import AnyCache, Function, Options, Plan, tokens_of
from limiter.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


@overload
def cached(cache: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def cached(
    cache: AnyCache | None = None,
    *,
    key: Callable[..., Any] | None = None,
    ignore: Collection[str] = (),
    namespace: str | Callable[..., str] | None = None,
    version: str = "",
    control: Told | Callable[..., Told] = None,
    when: Callable[[Any], bool] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def cached(
    cache: Any = None,
    *,
    key: Callable[..., Any] | None = None,
    ignore: Collection[str] = (),
    namespace: str | Callable[..., str] | None = None,
    version: str = "",
    control: Told | Callable[..., Told] = None,
    when: Callable[[Any], bool] | None = None,
) -> Any:
    """Answer calls of a function from a cache; of many calls with the same arguments at once one runs.

    Stored is what JSON has, bytes, and objects of the openai and anthropic SDKs or of the pydantic class
    that the function is annotated to return. Exceptions are not, nor answers of a provider that were
    filtered or cut. What cannot be stored is said once, and returned.

    Args:
        cache: a `Cache` or `AsyncCache`, whatever the function is; None: one for the process, of
            `LIMITER_CACHE_URL` or the embedded server.
        key: a function of the call's arguments that returns what tells calls apart, as JSON has it.
            None: the arguments themselves, with their defaults.
        ignore: names of arguments that change nothing, as `self`.
        namespace: whose results they are, or a function of the arguments that says so. None: of the
            cache's namespace, else of the credential in `OPENAI_API_KEY`.
        version: change it when the function does.
        control: `no-store`, `refresh`, or seconds that a result may be old, or a function of the arguments;
            None: what a `cache_control` block around says.
        when: says of a result whether to store it.

    Raises:
        ConfigError: an argument is wrong. The function itself raises it where no key can be made of its
            arguments.
    """
    if callable(cache) and not hasattr(cache, "as_async"):
        return cached()(cache)
    check_cache(cache)
    if isinstance(ignore, str):
        raise ConfigError(f"ignore= is a list of the names of arguments, as [{ignore!r}].")
    options = Options(cache, key, tuple(ignore), namespace, version, control, when)
    return lambda function: wrapped(function, options)


def wrapped(function: Function, options: Options, within: Function | None = None) -> Function:
    """Return a function with a cache before it.

    Args:
        function: whose name and arguments make the keys.
        options: see `cached`.
        within: what is called; None: the function itself.
    """
    if not callable(function):
        raise ConfigError(f"@cached decorates functions, got {function!r:.60}.")
    plan = Plan(function, options, within or function)
    return functools.wraps(function)(_wrapper(plan, function))


def _wrapper(plan: Plan, function: Function) -> Function:
    if inspect.isasyncgenfunction(function):
        return generators.of_tasks(plan)
    if inspect.iscoroutinefunction(function):
        return _coroutine(plan)
    if inspect.isgeneratorfunction(function):
        return generators.of_threads(plan)
    return _plain(plan)


def _plain(plan: Plan) -> Function:
    def call(*args: Any, **kwargs: Any) -> Any:
        question = plan.question(args, kwargs)
        if question is None:
            return plan.call(*args, **kwargs)
        found, flight = plan.cache.as_sync().look(question, plan.serve)
        if found.served is None:
            return run(flight, args, kwargs)
        if flight is not None:
            in_thread(lambda: run(flight, args, kwargs))
        return found.served.value

    def run(flight: Flight | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if flight is None:
            return plan.call(*args, **kwargs)
        cache = plan.cache.as_sync()
        with landing(cache, flight):
            result = plan.call(*args, **kwargs)
            kept = plan.kept(result, flight.question.body)
        if kept is None:
            cache.leave(flight)
        else:
            cache.fill(flight, "value", kept, tokens=tokens_of(result))
        return result

    return call


def _coroutine(plan: Plan) -> Function:
    beside = Beside()

    async def call(*args: Any, **kwargs: Any) -> Any:
        question = plan.question(args, kwargs)
        if question is None:
            return await plan.call(*args, **kwargs)
        found, flight = await plan.cache.as_async().look(question, plan.serve)
        if found.served is None:
            return await run(flight, args, kwargs)
        if flight is not None:
            beside.start(run(flight, args, kwargs))
        return found.served.value

    async def run(flight: Flight | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if flight is None:
            return await plan.call(*args, **kwargs)
        cache = plan.cache.as_async()
        async with landing_async(cache, flight):
            result = await plan.call(*args, **kwargs)
            kept = plan.kept(result, flight.question.body)
        if kept is None:
            await cache.leave(flight)
        else:
            await cache.fill(flight, "value", kept, tokens=tokens_of(result))
        return result

    return call
