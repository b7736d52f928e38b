"""Fixtures: real servers, shared by the whole run; each test takes names of its own."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

import pytest

from tests import servers


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


_counter = itertools.count()


@pytest.fixture
def name() -> str:
    """Name a quota that no other test uses."""
    return f"q{next(_counter)}-{uuid.uuid4().hex[:6]}"
