"""Without a URL: one server for all caches of a user on a machine, beside the limiter's own."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limiter.cache.api import AsyncCache, Cache
from limiter.shells import embedded
from tests.cache.conftest import question, serve
from tests.embedded.conftest import World

_OTHER = """
import asyncio, sys
from limiter.cache.api import AsyncCache, Cache
from tests.cache.conftest import question, serve
with Cache() as cache:
    found, flight = cache.look(question("mine"), serve)
    print(found.how, found.served)
    _, flight = cache.look(question("yours"), serve)
    cache.fill(flight, "value", "theirs")
"""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Have a directory of one's own, and nothing of it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="limiter-test-", dir="/tmp"))
    monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "60")
    monkeypatch.delenv("LIMITER_CACHE_URL", raising=False)
    made = World(folder)
    yield made
    made.clear()
    shutil.rmtree(folder, ignore_errors=True)


def put(cache: Cache, name: str, data: str) -> None:
    _, flight = cache.look(question(name), serve)
    assert flight
    cache.fill(flight, "value", data)


def memory(world: World) -> list[bytes]:
    """Return what a server does when its memory is full, and when that is."""
    names = ("maxmemory-policy", "maxmemory")
    return [value for name in names for value in dict(world.call("CONFIG", "GET", name)).values()]


def test_processes_without_a_url_share_their_answers(world: World) -> None:
    """One process stores, another one serves, and the other way round."""
    with Cache() as cache:
        put(cache, "mine", "ours")
        done = subprocess.run([sys.executable, "-c", _OTHER], capture_output=True, text=True,
                              timeout=60, check=False)  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "hit ours\n", "")
        assert cache.look(question("yours"), serve)[0].served == "theirs"
        assert len(world.processes()) == 2  # a server and its guard


def test_the_servers_are_two_and_only_one_evicts(world: World) -> None:
    """An answer may go when there is no room; what limits know may not."""
    answers = World(world.folder / "cache")
    embedded.join("limiter")
    with Cache() as cache:
        put(cache, "mine", "ours")
        assert memory(answers) == [b"allkeys-lru", b"268435456"]
        assert memory(world) == [b"noeviction", b"0"]
        assert world.call("DBSIZE") == 0
        assert answers.call("DBSIZE") >= 1
        assert len(world.processes()) == 4
    embedded.leave("limiter")


def test_nobody_else_can_reach_the_answers(world: World) -> None:
    """Its folder and socket, and the folder above, have mode 0700."""
    with Cache() as cache:
        put(cache, "mine", "ours")
        folder = world.folder / "cache"
        for path in (world.folder, folder, folder / "server.sock"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_crashed_server_is_replaced(world: World) -> None:
    """By an empty one, which the next question starts: no exception, and answers are kept again."""
    answers = World(world.folder / "cache")
    with Cache() as cache:
        put(cache, "mine", "ours")
        os.kill(answers.server(), signal.SIGKILL)
        assert cache.look(question("mine"), serve)[0].how == "alone"

        def is_back() -> bool:
            found, flight = cache.look(question("mine"), serve)
            if flight:
                cache.fill(flight, "value", "again")
            return found.served == "again"

        world.wait(is_back)


@pytest.mark.asyncio
async def test_an_unsafe_folder_is_a_miss(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Calls go without a cache, it is said, and nothing is started."""
    world.folder.chmod(0o777)
    with Cache() as cache:
        for _ in range(3):
            assert cache.look(question("mine"), serve)[0].how == "alone"
    assert len(caplog.records) == 1
    other = AsyncCache()
    for _ in range(3):
        assert (await other.look(question("mine"), serve))[0].how == "alone"
    await other.aclose()
    assert len(caplog.records) == 2
    assert not world.processes()


def test_the_environment_names_a_store(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`LIMITER_CACHE_URL` stands for the URL that is not given."""
    monkeypatch.setenv("LIMITER_CACHE_URL", url)
    with Cache() as ours, Cache(url) as theirs:
        put(ours, name, "there")
        assert theirs.look(question(name), serve)[0].served == "there"
