"""Callers of every kind, a provider that enforces limits, and one that does as it is told."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator

import pytest

from limiter.cache import Cache
from limiter.mock import MockConfig, MockServer, background
from tests.transport.callers import Caller
from tests.transport.scripted import Answer, Scripted

KINDS = {
    "sync-httpx2": ("sync", "httpx2", "valkey"),
    "async-httpx2": ("async", "httpx2", "valkey"),
    "sync-httpx": ("sync", "httpx", "memory"),
    "async-httpx": ("async", "httpx", "memory"),
}


@pytest.fixture(params=KINDS)
def caller(request: pytest.FixtureRequest, name: str) -> Iterator[Caller]:
    """Run the test as each kind of caller, on one store or the other."""
    mode, family, store = KINDS[request.param]
    if store == "valkey":
        address = request.getfixturevalue("url")
    else:
        address = f"memory://{uuid.uuid4().hex}"
    made = Caller(mode, family, address, name)
    yield made
    made.close()


@pytest.fixture(scope="package")
def mock() -> Iterator[MockServer]:
    """Serve as OpenAI does, with limits that are never met."""
    # Answers of 600 tokens, so that none is as short as what /responses is charged beside its input.
    with background(MockConfig(rpm=100_000, tpm=100_000_000, answer_tokens=600)) as server:
        yield server


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Start a server that gives the answers of a script, in their order, the last one for good."""
    with contextlib.ExitStack() as stack:

        def start(*answers: Answer) -> Scripted:
            server = Scripted(answers)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def cache(caller):
    """A cache of its own, in this process."""
    made = Cache(f"memory://{uuid.uuid4()}")
    yield made
    caller.run(made.as_async().aclose()) if caller.is_async else made.close()


@pytest.fixture
def real(caller, url):
    """A cache on a real server, with answers of its own."""
    made = Cache(url, namespace=uuid.uuid4().hex, lease=3600)  # nothing is mended by its end
    yield made
    if caller.is_async:
        caller.run(made.as_async().aclose())
    made.close()
