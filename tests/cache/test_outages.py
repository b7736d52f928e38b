"""A store that is away, silent, empty or full is a miss: no exception, one line in the log, and back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from limiter.cache import layout
from limiter.cache.flights import Health
from limiter.errors import StoreError
from tests import servers
from tests.cache.conftest import Face, faces, maybe, question, until, waits

pytestmark = pytest.mark.asyncio


class Server:
    """A server that is killed and started again under the same address."""

    def __init__(self, binary: str) -> None:
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="lim-", dir="/tmp"))
        self.url = f"unix://{self.folder}/s"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = servers.start(self.binary, self.folder / "s")

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def server(binary: str) -> Iterator[Server]:
    made = Server(binary)
    made.start()
    yield made
    made.kill()
    shutil.rmtree(made.folder)


@pytest.fixture
def full(server: Server) -> Iterator[redis.Redis]:
    """Talk to the server, whose memory may be made full."""
    with redis.Redis.from_url(server.url) as client:
        yield client
        with contextlib.suppress(redis.ConnectionError):
            client.config_set("maxmemory", 0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


async def comes_back(face: Face, name: str) -> None:
    """Ask until somebody leads, as one does again some time after the store is back."""

    async def leads() -> bool:
        found, flight = await face.ask(name, patience_s=0.0)
        if flight:
            await face.fill(flight, "value", "back")
        return found.how == "hit"

    await until(leads)


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    yield f"redis://127.0.0.1:{servers.free_port()}"


@contextlib.contextmanager
def silent() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def nonsense() -> Iterator[str]:
    """Answer, and not as a Redis does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    with near, contextlib.suppress(OSError):
                        near.recv(1000)
                        near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("away", [refusing, silent, nonsense])
async def test_a_store_that_is_not_there_is_a_miss(
    kind: str, name: str, away: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls go alone, without a flight; it is said once; while it is known, nobody asks."""
    with away() as url:
        async with faces(kind, url) as make:
            face = make(timeout=0.1)
            for _ in range(5):
                found, flight = await face.ask(name)
                assert (found.how, flight) == ("alone", None)
            driver = await maybe(face.cache._open())
            asked = driver.figures.taken()["errors"]
            assert 0 < asked < 5 or away is nonsense  # which is there, and might come to its senses
            assert len(warnings(caplog)) == 1
            with pytest.raises(StoreError):
                await face.stats()
        assert len(warnings(caplog)) == 1


async def test_a_cluster_that_is_not_there_is_a_miss(
    kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where opening fails already it is tried as seldom, and said once."""
    with refusing() as url:
        async with faces(kind, url.replace("redis", "redis+cluster")) as make:
            face = make(timeout=0.1)
            opened = []
            if kind == "sync":
                opening = face.cache._open
                face.cache._open = lambda: [opened.append(1), opening()][1]
            for _ in range(5):
                found, flight = await face.ask(name)
                assert (found.how, flight) == ("alone", None)
            assert len(opened) == (kind == "sync")
            assert len(warnings(caplog)) == 1


async def test_a_server_that_dies_and_returns(
    kind: str, server: Server, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits goes alone, who leads keeps his answer to himself; then it is as before."""
    async with faces(kind, server.url) as make:
        ann, bob = make(lease=3600, timeout=1), make(lease=3600, timeout=1)
        _, flight = await ann.ask(name)
        waiting = asyncio.create_task(bob.ask(name))
        await waits(server.url, name)
        server.kill()
        found, nothing = await waiting
        assert (found.how, nothing) == ("alone", None)
        await ann.fill(flight, "value", "nobody's")
        assert len(warnings(caplog)) == 2  # each of the two says it
        server.start()
        for face in (ann, bob):
            await comes_back(face, name)
        _, flight = await ann.ask(f"{name}2")
        waiting = asyncio.create_task(bob.ask(f"{name}2"))
        await waits(server.url, f"{name}2")
        await ann.fill(flight, "value", "heard")
        assert (await waiting)[0].served == "heard"
        assert len(warnings(caplog)) == 2


async def test_a_server_that_forgot_all_has_one_go(kind: str, server: Server, name: str) -> None:
    """After FLUSHALL, scripts and all: of those who wait one leads, and the first one's answer serves."""
    async with faces(kind, server.url) as make:
        ann, bob, cyd = (make(lease=3600) for _ in range(3))
        _, flight = await ann.ask(name)
        waiting = [asyncio.create_task(face.ask(name)) for face in (bob, cyd)]
        await waits(server.url, name, 2)
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
            client.script_flush()
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        (leader,) = done
        assert leader.result()[0].how == "lead"
        await ann.fill(flight, "value", "first")
        found = [await task for task in waiting]
        assert {told.how for told, _ in found} == {"lead", "join"}


async def test_what_was_counted_while_it_was_away_is_told(
    kind: str, server: Server, name: str
) -> None:
    """Errors are counted by those who cannot tell them; they do once they can."""
    async with faces(kind, server.url) as make:
        face = make()
        await face.put(name)
        before = await face.stats()
        server.kill()
        assert (await face.ask(name))[0].how == "alone"
        driver = await maybe(face.cache._open())
        await maybe(driver.flush())
        await maybe(driver.flush())
        server.start()
        await comes_back(face, name)
        after = await face.stats()
        assert before.errors == 0
        assert after.errors >= 1


async def test_a_full_server_serves_what_it_has(
    kind: str, server: Server, full: redis.Redis, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Hits are hits, misses go alone; said once, whatever comes between; at once back when there is room."""
    async with faces(kind, server.url) as make:
        face = make()
        await face.put(name)
        full.config_set("maxmemory", 1)
        for n in range(5):
            assert (await face.ask(name))[0].how == "hit"
            found, flight = await face.ask(f"{name}{n}")
            assert (found.how, flight) == ("alone", None)
        assert len(warnings(caplog)) == 1
        full.config_set("maxmemory", 0)
        assert (await face.ask(f"{name}9"))[0].how == "lead"


@pytest.mark.parametrize("end", ["fill", "failed"])
async def test_who_waits_for_a_leader_whose_answer_has_no_room_is_woken(
    kind: str, server: Server, full: redis.Redis, name: str, end: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """By the message: not after a lease, and not by asking again."""
    for constant in ("_PAUSE_S", "_PAUSE_MAX_S"):
        monkeypatch.setattr(f"limiter.cache.looking.{constant}", 3600.0)
    async with faces(kind, server.url) as make:
        ann, bob = make(lease=3600), make(lease=3600)
        _, first = await ann.ask(f"{name}0")
        hearing = asyncio.create_task(bob.ask(f"{name}0"))
        await waits(server.url, f"{name}0")
        await ann.fill(first, "value", "so that bob listens")
        await hearing
        _, flight = await ann.ask(name)
        waiting = asyncio.create_task(bob.ask(name))
        await waits(server.url, name)
        full.config_set("maxmemory", 1)
        await (ann.fill(flight, "value", "x") if end == "fill" else ann.leave(flight))
        assert (await waiting)[0].how in {"alone", "lead"}
        assert full.exists(layout.answer(question(name).key)) == 0


async def test_a_refusal_by_rights_is_no_damage(
    kind: str, server: Server, full: redis.Redis, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who may not read is told so; nothing is counted as damaged, nothing is deleted."""
    async with faces(kind, server.url) as make:
        await make().put(name)
        full.execute_command(
            "ACL", "SETUSER", "guest", "on", "nopass", "~*", "&*", "+@all", "-getrange"
        )
        guest = make(url=server.url.replace("unix://", "unix://guest:x@"))
        assert (await guest.ask(name))[0].how == "alone"
        assert len(warnings(caplog)) == 1
        driver = await maybe(guest.cache._open())
        assert "corrupt" not in driver.figures.taken()
        assert full.exists(layout.answer(question(name).key)) == 1


async def test_what_a_callers_reading_raises_is_not_an_outage(
    kind: str, server: Server, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The next call is asked of the store as before."""

    def fail(_entry: object) -> Any:
        raise KeyError("choices")

    async with faces(kind, server.url) as make:
        face = make()
        await face.put(name)
        found, flight = await face.ask(name, serve=fail)
        assert found.how == "lead"
        await face.fill(flight, "value", "better")
        assert (await face.ask(name))[0].served == "better"
        assert warnings(caplog) == []


async def test_a_server_of_ours_that_cannot_be_revived_is_an_outage(
    kind: str, server: Server, name: str
) -> None:
    """Who asks is told, and so are all who ask later: nobody waits for ever."""

    def revive() -> None:
        raise StoreError("It does not start.")

    async with faces(kind, server.url) as make:
        face = make()
        driver = await maybe(face.cache._open())
        driver.store._revive = revive
        server.kill()
        for _ in range(3):
            driver._health.fine()
            async with asyncio.timeout(20):
                assert (await face.ask(name))[0].how == "alone"
        driver.store._revive = None
        server.start()
        driver._health.fine()
        assert (await face.ask(name))[0].how == "lead"


async def test_a_store_that_is_away_is_tried_more_and_more_seldom() -> None:
    """One at a time; after half a second at first, after half a minute at last."""
    health, now, pauses = Health(), 0.0, []
    health.failed(now, "away")
    for _ in range(12):
        began = now
        while not health.may_ask(now):
            now += 0.01
        assert not health.may_ask(now)
        pauses.append(now - began)
        health.failed(now, "away")
    assert 0.25 <= pauses[0] <= 0.52
    assert all(15 <= pause <= 30.02 for pause in pauses[-4:])
    health.fine()
    assert health.may_ask(now)
    health.failed(now, "away")
    assert health.may_ask(now + 0.5)


async def test_a_refusal_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """However many there are, and whatever is answered in between."""
    health = Health()
    for now in range(0, 180, 2):
        health.refused(now, "OOM")
        assert health.may_ask(now)
        health.fine()
    assert len(warnings(caplog)) == 3
