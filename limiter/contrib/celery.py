"""Celery: a task that declares its quota, and is put back when the quota is far away.

    @app.task(base=LimitedTask, quota="gpt-4o", cost=1_200)
    def ask(messages): …

A worker waits in line for `wait` seconds at most. A put back never counts as one of the task's own
retries, and never happens once its function has begun.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any

from celery import Task
from celery.exceptions import Reject, Retry

from limiter.api import AsyncLimiter, Limiter
from limiter.asking import AnyOf, Names
from limiter.contrib.delays import LONGEST_S, WAIT_S, check_patience, delay_s, passes
from limiter.decorated import CostOf, Plan, TenantOf
from limiter.decorator import told
from limiter.errors import LimiterError, StoreError
from limiter.providers import Provider
from limiter.reservation import Reservation
from limiter.shortening import shortening

_TIMES = "limiter_put_back"  # the header that counts how often a message was put back
_held: ContextVar[Mapping[str, Reservation]] = ContextVar("limiter_held", default={})  # noqa: B039


class LimitedTask(Task):  # type: ignore[misc]  # Celery has no types
    """Be the base of tasks that run only when their cost is granted.

    Where the wait is expected to be longer than `wait`, the task goes back to the broker with the
    expected wait, and some jitter, as its countdown: its state is RETRY, its id, chain, group and
    `expires` stay, its retries are not touched. Called directly, or eagerly, there is no broker to put
    it back to, and it waits as a limited function does.

    What it returns settles the reservation if it has a usage; a function that returns something else
    says it with `self.reservation.settle(response)` (`bind=True`). What it raises settles as the end of
    a `with` block does, also where Celery retries it.

    Let tasks acknowledge late (`acks_late=True`): one whose worker is lost between its message and
    the next is then made again; else it is gone.

    Attributes:
        quota: the quota's name, or several names of one group; without one, and without `any_of`, a
            task is not limited.
        any_of: instead of `quota`, see `Limiter.acquire`.
        limiter: of either kind; without it the process-wide default.
        cost, tenant: as of `rate_limited`: values, or functions of the task's arguments.
        line_priority: one that the quota declares (`priority` is Celery's, of its messages).
        provider: whose accounting counts what a call used.
        wait: seconds that a worker may wait in line.
        longest: seconds after which a task comes back at the latest; below the visibility timeout of
            the broker.
    """

    abstract = True
    quota: Names = ()
    any_of: AnyOf | None = None
    limiter: Limiter | AsyncLimiter | None = None
    cost: CostOf = None
    tenant: TenantOf = None
    line_priority: str | None = None
    provider: Provider = "openai"
    wait: float = WAIT_S
    longest: float = LONGEST_S

    @property
    def reservation(self) -> Reservation:
        """Return what the running task holds.

        Raises:
            LookupError: it is not running, or not limited.
        """
        held = _held.get().get(self.name)
        if held is None:
            raise LookupError(f"The task {self.name} holds no reservation now.")
        return held

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task when its cost is granted.

        Raises:
            Retry: it was put back.
            LimiterError: its call will never be granted, or it was called directly.
        """
        request = self.request
        # A task that calls itself sees its own request, and has begun.
        is_direct = request.called_directly or self.name in _held.get()
        body = super().__call__ if is_direct else self.run
        if not (self.quota or self.any_of):
            return body(*args, **kwargs)
        asked = self._plan.asked(args, kwargs)
        if is_direct or request.is_eager:
            return self._run(self._acquire({**asked, "timeout": None}), body, args, kwargs)
        try:
            held = self._acquire(asked)
        except LimiterError as reason:
            if not passes(reason):
                raise
            raise self._put_back(reason) from reason
        (request.headers or {}).pop(_TIMES, None)  # a retry begins anew
        return self._run(held, body, args, kwargs)

    @cached_property
    def _plan(self) -> Plan:
        check_patience(self.wait, self.longest)
        asked = {"any_of": self.any_of, "timeout": self.wait, "priority": self.line_priority,
                 "fail_fast": True}  # fmt: skip
        # From the class: a function that is looked up on an instance takes that as its argument.
        kind = type(self)
        return Plan(
            self.quota, self.limiter, kind.cost, kind.tenant, asked, self.provider, None, self.run,
            shortening(self.run, 0, None),
        )  # fmt: skip

    def _acquire(self, asked: dict[str, Any]) -> Reservation:
        return self._plan.limiter.as_sync().acquire(self.quota, **asked)

    def _run(
        self, held: Reservation, body: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        token = _held.set({**_held.get(), self.name: held})
        try:
            with held.answered_by(self._plan.provider), _cause_of_retry(held):
                result = body(*args, **kwargs)
                late = held.hear(result) if held.state == "held" else None
                with contextlib.suppress(
                    StoreError
                ):  # the call is made; it is told when it is back
                    held.settle(**self._plan.end(held, told(result)))
        finally:
            _held.reset(token)
        if late is not None:
            held.report_soon(late)
        return result

    def _put_back(self, reason: LimiterError) -> Retry | Reject:
        """Send the message once more, for later; return what tells the worker so.

        Not by `retry()`, which counts.
        """
        request = self.request
        headers = dict(request.headers or {})
        times = int(headers.get(_TIMES, 0))
        countdown = delay_s(reason, times, self.longest)
        again = self.signature_from_request(
            request, countdown=countdown, retries=request.retries,
            headers={**headers, _TIMES: times + 1},
        )  # fmt: skip
        try:
            again.apply_async()
        except self.OperationalError as exc:
            if not self.acks_late:
                raise  # its message is gone already: let it be seen
            return Reject(exc, requeue=True)
        return Retry(exc=reason, when=countdown, sig=again)


@contextlib.contextmanager
def _cause_of_retry(held: Reservation) -> Iterator[None]:
    """Let a reservation end by what a task raised where Celery retries it for that."""
    try:
        yield
    except Retry as again:
        # `again.exc` is a copy that pickles, without a response.
        error = again.__context__ or again
        held.__exit__(type(error), error, error.__traceback__)
        raise
