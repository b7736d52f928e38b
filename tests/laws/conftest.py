"""The engines that every story is told to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from limiter.core.quota import Quota
from tests import servers
from tests.laws.story import Story

Tell = Callable[..., Story]


@pytest.fixture(scope="session")
def urls() -> Iterator[dict[str, str]]:
    """Run each kind of server once."""
    with servers.all_kinds() as running:
        yield running


@contextlib.contextmanager
def telling(url: str | None, name: str) -> Iterator[Tell]:
    """Begin stories on one engine: `tell(rpm=60, …)`."""
    stories: list[Story] = []

    def begin(**limits: object) -> Story:
        unique = f"{name}-{len(stories)}"
        if group := limits.pop("group", None):
            quotas = [Quota(each, headroom=0, group=unique, **have) for each, have in group.items()]
        else:
            quotas = [Quota(unique, headroom=0, **limits)]
        stories.append(Story(quotas[0], url, *quotas[1:]))
        return stories[-1]

    yield begin
    for story in stories:
        story.close()


@pytest.fixture(params=["model", *sorted(servers.binaries())])
def tell(request: pytest.FixtureRequest, urls: dict[str, str], name: str) -> Iterator[Tell]:
    """Tell a story to the model, and to the Lua on each kind of server."""
    with telling(urls.get(request.param), name) as begin:
        yield begin


@pytest.fixture
def imagine(name: str) -> Iterator[Tell]:
    """Tell a story to the model alone: a long one, of which a short one is told to all."""
    with telling(None, name) as begin:
        yield begin
