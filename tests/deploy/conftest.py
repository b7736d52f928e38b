"""Real clusters and sentinels; a scenario is written once and run by both drivers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers


@pytest.fixture(scope="session", params=sorted(servers.binaries()))
def binary(request: pytest.FixtureRequest) -> str:
    """Choose a kind of server."""
    return servers.binaries()[request.param]


@pytest.fixture(scope="session")
def cluster(binary: str) -> Iterator[servers.Cluster]:
    """Run a cluster of three masters."""
    with servers.running(servers.Cluster, binary) as group:
        yield group


@pytest.fixture
def sentinel(binary: str) -> Iterator[servers.Sentinel]:
    """Run a master, its replica and a sentinel, for one test: it ends with the master dead."""
    with servers.running(servers.Sentinel, binary) as group:
        yield group


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Choose a driver."""
    return request.param
