"""Which broker carries calls, by its URL."""

from __future__ import annotations

import pytest

from limiter.errors import ConfigError
from limiter.queue import AsyncQueue, Queue

REDIS = "redis://localhost:6379/0"


@pytest.mark.parametrize("kind", [Queue, AsyncQueue])
@pytest.mark.parametrize("url", ["amqp://localhost/", "AMQPS://u:p@host:5671/v"])
def test_a_rabbitmq_is_named_by_argument_or_variable(monkeypatch, kind, url):
    """The argument wins; without either, Redis carries the calls."""
    monkeypatch.delenv("LIMITER_BROKER_URL", raising=False)
    assert kind(REDIS, broker=url).broker == url
    assert kind(REDIS).broker is None
    monkeypatch.setenv("LIMITER_BROKER_URL", "amqp://elsewhere/")
    assert (kind(REDIS).broker, kind(REDIS, broker=url).broker) == ("amqp://elsewhere/", url)


def test_a_redis_is_the_one_of_the_jobs(monkeypatch):
    """Another one would keep calls apart from what is known of them."""
    assert Queue(REDIS, broker=REDIS).broker is None
    monkeypatch.setenv("LIMITER_URL", REDIS)
    assert Queue(broker=REDIS).broker is None
    with pytest.raises(ConfigError, match="the same URL"):
        Queue(REDIS, broker="redis://other/")


@pytest.mark.parametrize("broker", ["kafka://u:secret@host/", "memory://", "localhost", 5])
def test_what_is_no_broker_is_said(broker):
    """Without the password."""
    with pytest.raises(ConfigError, match="broker= is the URL of a RabbitMQ") as wrong:
        Queue(REDIS, broker=broker)
    assert "secret" not in str(wrong.value)
