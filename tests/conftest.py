"""Fixtures: real servers, shared by the whole run; each test takes names of its own."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import servers

# Nothing asserts a duration, not even of an example.
settings.register_profile("limiter", deadline=None)
settings.load_profile("limiter")


@pytest.fixture(scope="session", params=sorted(servers.binaries()))
def any_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on every kind of server there is."""
    with servers.server(servers.binaries()[request.param]) as url:
        yield url


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Run the test on the server of the embedded default."""
    with servers.server(servers.binaries()["valkey"]) as address:
        yield address


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> float:
    """Leave wake-ups alone with their work: nothing polls. Return a lease that has no need of it."""
    for name in ("POLL_US", "STANDING_POLL_US"):
        monkeypatch.setattr(f"limiter.core.line.{name}", 3_600_000_000)
    return 3600.0


_counter = itertools.count()


@pytest.fixture
def name() -> str:
    """Name a quota that no other test uses."""
    return f"q{next(_counter)}-{uuid.uuid4().hex[:6]}"
