"""A Celery application whose tasks are limited: what the workers of the tests run.

The server's socket is named by `SHOP_SOCKET`; what the tasks did is written down there, in a list per test.
"""

from __future__ import annotations

import os

import redis
from celery import Celery

from limiter import Limit, Limiter, Quota
from limiter.contrib.celery import LimitedTask

SOCKET = os.environ["SHOP_SOCKET"]
SLOW_S = 86_400.0 * 400  # within a test nothing is refilled

app = Celery("shop", broker=f"redis+socket://{SOCKET}", backend=f"redis+socket://{SOCKET}")
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)  # fmt: skip
limiter = Limiter(
    f"unix://{SOCKET}",
    quotas=[
        Quota("scarce", limits=[Limit("requests", 4, 0.5, headroom=0)], headroom=0),
        Quota("gone", limits=[Limit("requests", 1, SLOW_S, headroom=0)], headroom=0),
        Quota("tokens", limits=[Limit("tokens", 1000, SLOW_S, headroom=0)], headroom=0),
        Quota("failing", limits=[Limit("tokens", 1000, SLOW_S, headroom=0)], headroom=0),
    ],
)
db = redis.Redis(unix_socket_path=SOCKET, decode_responses=True)


def level(quota: str) -> int:
    """Say what is left of a quota's one limit."""
    (limit,) = limiter.peek(quota).limits.values()
    return int(limit.level)


class Scarce(LimitedTask):
    """Have what all of them have."""

    abstract = True
    limiter = limiter
    wait = 0.1
    longest = 1.0

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        db.rpush(f"{args[0]}:back", type(exc).__name__)


class ConnectError(Exception):
    """Be named as httpx names that nothing was sent."""


@app.task(base=Scarce, quota="scarce", bind=True, max_retries=0)
def ask(self, run, number):
    db.rpush(f"{run}:ran", f"{number}:{self.request.retries}")
    return number


@app.task(base=Scarce, quota="gone")
def never(run):
    db.rpush(f"{run}:ran", "never")


@app.task(base=Scarce)
def free(run):
    db.rpush(f"{run}:ran", "free")


@app.task
def after(number, run):
    db.rpush(f"{run}:after", number)
    return number


@app.task(
    base=Scarce, quota="scarce", bind=True, autoretry_for=(ValueError,), max_retries=2,
    default_retry_delay=0,
)  # fmt: skip
def stubborn(self, run):
    db.rpush(f"{run}:ran", self.request.retries)
    raise ValueError("as ever")


@app.task(base=Scarce, quota="tokens", cost=lambda _run, prompt: len(prompt))
def usage(run, prompt):
    db.rpush(f"{run}:ran", level("tokens"))
    return {"usage": {"total_tokens": 7}}


@app.task(base=Scarce, quota="tokens", cost=50, bind=True)
def by_itself(self, run):
    self.reservation.settle(tokens=3)
    return "a text"


@app.task(
    base=Scarce, quota="failing", cost=100, autoretry_for=(ConnectError,), max_retries=1,
    default_retry_delay=0,
)  # fmt: skip
def unsent(run):
    db.rpush(f"{run}:ran", level("failing"))
    raise ConnectError


@app.task(base=Scarce, quota="tokens", cost=5000)
def too_big(run):
    db.rpush(f"{run}:ran", "too big")
