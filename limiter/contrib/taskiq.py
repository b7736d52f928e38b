"""taskiq: a task that declares its quota, and is put back when the quota is far away.

    broker = ListQueueBroker(url).with_middlewares(PutBackMiddleware(schedule_source=source))

    @broker.task
    @limited_task("gpt-4o", cost=1_200)
    async def ask(messages): …

A put back never counts as a retry, and never happens once the function has begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from taskiq import NoResultError, ScheduleSource, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.kicker import AsyncKicker

from limiter.api import AsyncLimiter, Limiter
from limiter.asking import AnyOf, Names
from limiter.contrib.delays import LONGEST_S, WAIT_S, check_patience, delay_s, passes
from limiter.decorated import CostOf, Held, Plan, TenantOf
from limiter.decorator import told
from limiter.errors import ConfigError, LimiterError, StoreError
from limiter.providers import Provider
from limiter.shortening import shortening

P = ParamSpec("P")
R = TypeVar("R")

_TIMES = "limiter_put_back"  # the label that counts how often a message was put back
_DELAY = "limiter_own_delay"  # the label of a message put back: the task's own `delay`, "" for none
_begins: ContextVar[tuple[Any, TaskiqMessage] | None] = ContextVar("limiter_begins", default=None)
_held: ContextVar[Held] = ContextVar("limiter_held")


class PutBack(NoResultError):
    """End a task's run without a result, because it comes back; seen by middlewares only.

    Attributes:
        reason: why its cost was not granted. delay_s: in how many seconds it comes back.
    """

    __template__ = "The task comes back in {delay_s:.3g} s: {reason}"
    reason: LimiterError
    delay_s: float


def reservation() -> Held:
    """Return what the running task holds, for one whose result tells no usage.

    Raises:
        LookupError: no limited task is running here.
    """
    return _held.get()


def limited_task(
    quota: Names = (),
    *,
    any_of: AnyOf | None = None,
    limiter: Limiter | AsyncLimiter | None = None,
    cost: CostOf = None,
    priority: str | None = None,
    tenant: TenantOf = None,
    provider: Provider = "openai",
    wait: float = WAIT_S,
    longest: float = LONGEST_S,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a task run only when its cost is granted; stands below `@broker.task`.

    Where the wait is expected to be longer than `wait`, `PutBackMiddleware` sends the task once more,
    with the same id, for later. Called directly, or where the broker has no such middleware, it waits
    as a limited function does.

    What it returns settles the reservation if it has a usage; a function that returns something else
    says it with `await reservation().settle(response)`, without `await` in one that is not async.

    Args:
        quota: as of `rate_limited`, and so are the next ones.
        any_of: instead of `quota`.
        limiter: of either kind; without it the process-wide default.
        cost: a value, or a function of the task's arguments.
        priority: one that the quota declares.
        tenant: a value, or a function of the task's arguments.
        provider: whose accounting counts what a call used.
        wait: seconds that a worker may wait in line.
        longest: seconds after which a task comes back at the latest.

    Raises:
        ConfigError: it is not used on a function, an argument is wrong.
    """
    if callable(quota) or not (quota or any_of):
        raise ConfigError('Write the quota\'s name: @limited_task("gpt-4o").')
    check_patience(wait, longest)
    asked = {"any_of": any_of, "timeout": wait, "priority": priority, "fail_fast": True}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if not inspect.isfunction(function):
            raise ConfigError(f"@limited_task stands below @broker.task, got {function!r:.60}.")
        plan = Plan(
            quota, limiter, cost, tenant, asked, provider, None, function,
            shortening(function, 0, None),
        )  # fmt: skip
        is_async = inspect.iscoroutinefunction(function)
        wrapped = (_coroutine if is_async else _plain)(plan, function, longest)
        return cast("Callable[P, R]", functools.wraps(function)(wrapped))

    return decorate


def _coroutine(plan: Plan, function: Callable[..., Any], longest: float) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        message = _own_message(function)
        try:
            r = await plan.limiter.as_async().acquire(
                plan.quota, **_asked(plan, message, args, kwargs)
            )
        except LimiterError as reason:
            _end(reason, message, longest)
        tokens = _begin(r, message)
        try:
            async with r.answered_by(plan.provider):
                result = await function(*args, **kwargs)
                late = r.hear(result) if r.state == "held" else None
                with contextlib.suppress(
                    StoreError
                ):  # the call is made; it is told when it is back
                    await r.settle(**plan.end(r, told(result)))
        finally:
            _leave(*tokens)
        if late is not None:
            r.report_soon(late)
        return result

    return call


def _plain(plan: Plan, function: Callable[..., Any], longest: float) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        message = _own_message(function)
        try:
            r = plan.limiter.as_sync().acquire(plan.quota, **_asked(plan, message, args, kwargs))
        except LimiterError as reason:
            _end(reason, message, longest)
        tokens = _begin(r, message)
        try:
            with r.answered_by(plan.provider):
                result = function(*args, **kwargs)
                late = r.hear(result) if r.state == "held" else None
                with contextlib.suppress(StoreError):
                    r.settle(**plan.end(r, told(result)))
        finally:
            _leave(*tokens)
        if late is not None:
            r.report_soon(late)
        return result

    return call


def _own_message(function: Callable[..., Any]) -> TaskiqMessage | None:
    """Return the message for which a function is about to run; None: somebody calls it directly."""
    entry, message = _begins.get() or (None, None)
    return message if entry is not None and entry is inspect.unwrap(function) else None


def _asked(
    plan: Plan, message: TaskiqMessage | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    asked = plan.asked(args, kwargs)
    return {**asked, "timeout": None} if message is None else asked


def _end(reason: LimiterError, message: TaskiqMessage | None, longest: float) -> NoReturn:
    """Put the task back where waiting mends it, else let it fail."""
    if message is None or not passes(reason):
        raise reason
    times = int(message.labels.get(_TIMES, 0))
    raise PutBack(reason=reason, delay_s=delay_s(reason, times, longest)) from reason


def _begin(held: Held, message: TaskiqMessage | None) -> tuple[Any, Any]:
    """Note what is held; tasks that this one calls are called directly, and retries begin anew."""
    if message is not None:
        message.labels.pop(_TIMES, None)
    return _held.set(held), _begins.set(None)


def _leave(held: Any, begins: Any) -> None:
    _held.reset(held)
    _begins.reset(begins)


class PutBackMiddleware(TaskiqMiddleware):
    """Send tasks once more whose quota is far away, each at its time.

    taskiq leaves delays to others, so say who keeps a task meanwhile:

    - `schedule_source`: taskiq's scheduler (`taskiq scheduler …`), with any broker. It looks at its
      sources once a minute unless told otherwise (`--update-interval`).
    - `broker_delays=True`: the broker itself, where it reads the label `delay`: taskiq-aio-pika with a
      delay queue (in which a task waits behind one that was put in before, if that waits longer), or
      with RabbitMQ's plugin.
    - neither: the worker, unacknowledged and in its slot (of `--max-async-tasks`), but not in the
      line, nor in a thread. taskiq-redis and the in-memory broker read no `delay`; sent at once, a
      task would come back at once.

    Args:
        schedule_source: one that keeps tasks at a time.
        broker_delays: the broker reads the label `delay`.
    """

    def __init__(
        self, *, schedule_source: ScheduleSource | None = None, broker_delays: bool = False
    ) -> None:
        super().__init__()
        if schedule_source is not None and broker_delays:
            raise ConfigError("Give schedule_source=, or broker_delays=True, not both.")
        self._source, self._broker_delays = schedule_source, broker_delays

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Let the task know that it may be put back."""
        own = message.labels.pop(_DELAY, None)
        if own is not None:
            # Retries of other middlewares read `delay`, too: it is the task's own again.
            message.labels.pop("delay", None)
        if own:
            message.labels["delay"] = own
        task = self.broker.find_task(message.task_name)
        # By the innermost function: other decorators may stand in between, and a task may call others.
        _begins.set(None if task is None else (inspect.unwrap(task.original_func), message))
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:  # noqa: ARG002
        """Forget it: a broker in memory may run tasks in the context of who sends them."""
        _begins.set(None)

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        """Send a task once more that ended in `PutBack`; the first message ends without a result."""
        if not isinstance(exception, PutBack):
            return
        labels = {**message.labels, _TIMES: int(message.labels.get(_TIMES, 0)) + 1}
        labels[_DELAY] = labels.pop("delay", "")
        kicker: AsyncKicker[Any, Any] = AsyncKicker(message.task_name, self.broker, labels)
        try:
            await self._send(kicker.with_task_id(message.task_id), message, exception.delay_s)
        except Exception as exc:  # noqa: BLE001 - taskiq reports it as the task's result
            result.error = exc  # its message goes: let it be seen

    async def _send(
        self, kicker: AsyncKicker[Any, Any], message: TaskiqMessage, delay: float
    ) -> None:
        if self._source is not None:
            at = datetime.now(UTC) + timedelta(seconds=delay)
            await kicker.schedule_by_time(self._source, at, *message.args, **message.kwargs)
            return
        if self._broker_delays:
            kicker = kicker.with_labels(delay=delay)
        else:
            await asyncio.sleep(delay)
        await kicker.kiq(*message.args, **message.kwargs)
