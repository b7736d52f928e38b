"""A provider-like server for fleet runs: a requests and a tokens bucket, all calls in one process.

It refuses like OpenAI does (its rate-limit guide and recorded 429s): buckets refill continuously,
a call is charged whole at admission or refused at once, a refusal costs nothing and says when to
come again. It speaks lines over a unix socket, not HTTP, so that four processes with 32 tasks each
measure the limiter and not a web server. Nothing is ever given back: what a call really cost is
what it is charged.

    call   `<id> <tokens> <service_us>`   ->  `<id> 1 0` when served, `<id> 0 <wait_us>` if refused
    count  `<id> stats`                   ->  `<id> {json}`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environments import REPOSITORY
from benchmarks.perfect_line import Bucket, fleet
from benchmarks.processes import accepts, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(slots=True)
class Counts:
    """Count calls; `first_s` and `last_s` are the server's monotonic times of admissions."""

    accepted: int = 0
    refused: int = 0
    tokens: int = 0
    first_s: float = 0.0
    last_s: float = 0.0


class Quota:
    """Charge one request and some tokens, or refuse both; the caller gives the time."""

    def __init__(self, buckets: Sequence[Bucket], now_s: float) -> None:
        """Start with every bucket at its initial level."""
        self.buckets = buckets
        self.levels = [bucket.initial for bucket in buckets]
        self.counts = Counts()
        self._at_s = now_s

    def admit(self, tokens: int, now_s: float) -> float:
        """Charge the call and return 0.0, or refuse it and return the seconds until it would fit.

        A call above a bucket's capacity is always refused, with infinity.
        """
        elapsed_s = max(0.0, now_s - self._at_s)
        self._at_s = now_s
        cost = (1, tokens)
        wait_s = 0.0
        for i, bucket in enumerate(self.buckets):
            level = min(bucket.capacity, self.levels[i] + bucket.rate_per_s * elapsed_s)
            self.levels[i] = level
            if cost[i] > bucket.capacity:
                wait_s = float("inf")
            elif cost[i] > level:
                wait_s = max(wait_s, (cost[i] - level) / bucket.rate_per_s)
        if wait_s > 0:
            self.counts.refused += 1
            return wait_s
        self._charge(cost, now_s)
        return 0.0

    def _charge(self, cost: tuple[int, int], now_s: float) -> None:
        self.levels = [level - units for level, units in zip(self.levels, cost, strict=True)]
        counts = self.counts
        counts.first_s = counts.first_s if counts.accepted else now_s
        counts.last_s = now_s
        counts.accepted += 1
        counts.tokens += cost[1]


class _Lines(asyncio.Protocol, ABC):
    """Cut what comes in into lines; the two ends say what a line means."""

    transport: asyncio.WriteTransport
    _rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.line(line)

    @abstractmethod
    def line(self, line: bytes) -> None:
        """Take one line, without its end."""

    def send(self, line: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(line.encode() + b"\n")


class _Served(_Lines):
    """Answer one client; calls of one connection overlap."""

    def __init__(self, quota: Quota, loop: asyncio.AbstractEventLoop) -> None:
        self.quota = quota
        self.loop = loop

    def line(self, line: bytes) -> None:
        call, *numbers = line.decode().split()
        if numbers == ["stats"]:
            self.send(f"{call} {json.dumps(asdict(self.quota.counts))}")
            return
        tokens, service_us = map(int, numbers)
        wait_s = self.quota.admit(tokens, time.monotonic())
        if wait_s > 0:
            # Rounded up: a client that comes back at that moment must not be refused again.
            wait_us = -1 if wait_s == float("inf") else int(wait_s * 1e6) + 1
            self.send(f"{call} 0 {wait_us}")
        else:
            self.loop.call_later(service_us / 1e6, self.send, f"{call} 1 0")


async def serve(socket: str, buckets: Sequence[Bucket]) -> None:
    """Serve at the unix socket until the task is cancelled; the buckets start full."""
    quota = Quota(buckets, time.monotonic())
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: _Served(quota, loop), socket)
    async with server:
        await server.serve_forever()


@dataclass(frozen=True, slots=True)
class Answer:
    """Say whether a call was served; if not, `wait_s` is when it would fit (infinity: never)."""

    ok: bool
    wait_s: float = 0.0


class ProviderClient(_Lines):
    """Call the server from one event loop; any number of tasks may share one client."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._last = 0

    @classmethod
    async def connect(cls, socket: str | Path) -> ProviderClient:
        """Connect to the server's unix socket."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_unix_connection(cls, str(socket))
        return client

    async def call(self, tokens: int, service_s: float) -> Answer:
        """Make one call that costs `tokens` and, if it is let in, lasts `service_s`."""
        ok, wait_us = (await self._ask(f"{tokens} {round(service_s * 1e6)}")).split()
        wait_s = int(wait_us) / 1e6
        return Answer(ok == "1", wait_s if wait_s >= 0 else float("inf"))

    async def stats(self) -> Counts:
        """Return what the server has counted for all clients together."""
        found: dict[str, Any] = json.loads(await self._ask("stats"))
        return Counts(**found)

    async def close(self) -> None:
        """Close the connection; calls under way fail with ConnectionError."""
        self.transport.close()
        await asyncio.sleep(0)

    async def _ask(self, what: str) -> str:
        if self.transport.is_closing():
            raise ConnectionError("the provider is gone: connect again")
        self._last += 1
        call = str(self._last)
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[call] = reply
        try:
            self.send(f"{call} {what}")
            return await reply
        finally:
            del self._waiting[call]

    def line(self, line: bytes) -> None:
        """Hand an answer to the task that waits for it."""
        call, _, rest = line.decode().partition(" ")
        reply = self._waiting.get(call)
        if reply is not None and not reply.done():
            reply.set_result(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the calls under way: nobody will answer them."""
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(ConnectionError(f"the provider is gone: {exc}"))


@dataclass(frozen=True, slots=True)
class Provider:
    """Say where a running provider listens and which buckets it enforces."""

    socket: Path
    buckets: tuple[Bucket, ...]


@contextmanager
def provider(rpm: float, tpm: float, burst_s: float = 60.0) -> Iterator[Provider]:
    """Run a provider in a process of its own; capacity is `burst_s` seconds' worth of refill."""
    with tempfile.TemporaryDirectory(prefix="limiter-bench-") as home:
        socket = Path(home) / "provider.sock"
        command = [sys.executable, "-m", "benchmarks.provider", str(socket)]
        command += ["--rpm", str(rpm), "--tpm", str(tpm), "--burst-s", str(burst_s)]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        log = Path(home) / "provider.log"
        with running(command, log, lambda: accepts(str(socket)), env=env):
            yield Provider(socket, tuple(fleet(rpm, tpm, burst_s)))


def main() -> None:
    """Serve at a unix socket until terminated."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("socket")
    parser.add_argument("--rpm", type=float, required=True)
    parser.add_argument("--tpm", type=float, required=True)
    parser.add_argument("--burst-s", type=float, default=60.0)
    args = parser.parse_args()
    asyncio.run(serve(args.socket, fleet(args.rpm, args.tpm, args.burst_s)))


if __name__ == "__main__":
    main()
