"""The mock provider in a process of its own, which also keeps a line for each call that came.

Calls are counted here and not at the callers: a limiter's own repeats are seen, and one clock times
all of them. The clock is that of the machine, which its processes share. Nothing here decides
anything about a call.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks.environments import REPOSITORY
from benchmarks.processes import accepts, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limiter.mock import MockConfig, MockServer

# What callers say of themselves: who they are, and what admission will charge them in tokens.
WHO, TOKENS = "x-bench-who", "x-bench-tokens"


class Arrival(NamedTuple):
    """Be a call as the server saw it, with times in seconds since 1970.

    Attributes:
        came_s: when its head had been read.
        answered_s: when its answer began; at most the time of its latency after it was let in.
        status: of HTTP; 0: not answered yet.
    """

    who: str
    tokens: int
    came_s: float
    answered_s: float
    status: int


class Logged:
    """Be an ASGI application that notes the calls of another one, and tells them at /arrivals."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._arrivals: list[list[Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "POST" or "/v1/" not in scope["path"]:
            if scope.get("path") == "/arrivals":
                await _tell(self._arrivals, send)
            else:
                await self._app(scope, receive, send)
            return
        line = [*_said(scope["headers"]), time.time(), 0.0, 0]
        self._arrivals.append(line)

        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                line[3:] = [time.time(), message["status"]]
            await send(message)

        await self._app(scope, receive, noting)


def _said(headers: list[tuple[bytes, bytes]]) -> tuple[str, int]:
    found = dict(headers)
    return found.get(WHO.encode(), b"").decode(), int(found.get(TOKENS.encode(), b"0"))


async def _tell(lines: list[list[Any]], send: Any) -> None:
    body = json.dumps(lines).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class Provider:
    """Be a running server.

    Attributes:
        mock: its commands, counts and levels.
    """

    mock: MockServer

    @property
    def base_url(self) -> str:
        """Return what an OpenAI client takes."""
        return self.mock.base_url

    def arrivals(self) -> list[Arrival]:
        """Return the calls in the order in which they came."""
        with closing(HTTPConnection(urlsplit(self.base_url).netloc, timeout=30)) as connection:
            connection.request("GET", "/arrivals")
            said = json.loads(connection.getresponse().read())
        return [Arrival(*line) for line in said]

    def level(self) -> float:
        """Return the level of the tokens now; negative is a debt."""
        return float(self.mock.stats()["limits"]["tokens"]["level"])

    def drain(self) -> None:
        """Take all tokens with one call, so that no burst stands at the beginning of a run.

        Its text is a quarter of its bytes; what else it is charged, up to 7 for its one message and
        1 for its answer, leaves a few less.
        """
        text = "x" * (4 * (int(self.level()) - 8))
        messages = [{"role": "user", "content": text}]
        body = {"model": "gpt-4o", "messages": messages, "max_tokens": 1}
        with closing(HTTPConnection(urlsplit(self.base_url).netloc, timeout=30)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {WHO: "drain"})
            assert connection.getresponse().status == 200


@contextmanager
def provider(config: MockConfig) -> Iterator[Provider]:
    """Run a server until the block ends."""
    from limiter.mock import MockServer

    port = free_port()
    command = [sys.executable, "-m", "benchmarks.feedback.server", str(port)]
    command.append(json.dumps(asdict(config)))
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with tempfile.TemporaryDirectory(prefix="limiter-bench-") as home:
        log = Path(home) / "provider.log"
        with running(command, log, lambda: accepts(("127.0.0.1", port)), env=env):
            yield Provider(MockServer(f"http://127.0.0.1:{port}/v1"))


def main() -> None:
    """Serve until terminated."""
    import uvicorn

    from limiter.mock import MockConfig, create_app

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("config", type=json.loads)
    args = parser.parse_args()
    app = Logged(create_app(MockConfig(**args.config)))
    uvicorn.run(app, port=args.port, access_log=False, log_level="critical", lifespan="off",
                ws="none", backlog=4096, timeout_graceful_shutdown=1)  # fmt: skip


if __name__ == "__main__":
    main()
