"""Queues whose calls a real RabbitMQ carries; without one, these tests are skipped."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import pytest

from limiter.mock import MockConfig, background
from limiter.queue import Queue
from tests.cli.test_queue import Desk
from tests.rabbit.broker import Rabbit, binary


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    program = binary()
    if program is None:
        pytest.skip("no rabbitmq-server here; `make test-rabbitmq` installs it where it may")
    pytest.importorskip("aio_pika")
    running = Rabbit(program)
    with contextlib.closing(running):
        running.start()
        yield running


@pytest.fixture
def queue(url, rabbit) -> Iterator[Queue]:
    with Queue(url, name=f"q-{uuid.uuid4().hex[:8]}", broker=rabbit.url) as made:
        yield made


@pytest.fixture
def desk(tmp_path, url, rabbit, request) -> Iterator[Desk]:
    config = MockConfig(**{"rpm": 60_000, "tpm": None, **getattr(request, "param", {})})
    with background(config) as server:
        made = Desk(tmp_path, server, url)
        made.env["LIMITER_BROKER_URL"] = rabbit.url
        yield made
        made.close()
