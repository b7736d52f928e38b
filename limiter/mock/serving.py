"""Run the mock server: in this thread until it is stopped, or beside a test or a benchmark.

uvicorn is imported when a server starts, and takes uvloop and httptools if they are installed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from limiter.errors import ConfigError
from limiter.mock.config import GROUPS, MockConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import uvicorn
    from starlette.applications import Starlette

LISTENING = "listening on "
_IN_MID_RUN = """A running server follows commands: POST /limits {"rpm": 300}, POST /refuse
{"cooldown_s": 2}, POST /faults {"status": 401, "count": 1}; a GET there says what holds. GET /stats
has counts and levels, GET /timeline what came in each second of the last hour."""
_NOT_STARTED = "the mock server did not start: see what it wrote to standard error"


def _announce(url: str) -> None:
    sys.stdout.write(f"{LISTENING}{url}\n")
    sys.stdout.flush()


def _listen(config: MockConfig) -> tuple[socket.socket, str]:
    """Bind the address of `config`, and give the socket with the URL of the API's root."""
    if config.uds:
        listener = socket.socket(socket.AF_UNIX)
    else:
        # asyncio turns Nagle's delay off (40 ms a call) only for sockets that say they are TCP.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if config.uds:
            listener.bind(config.uds)
            return listener, "http://localhost/v1"
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
    except OSError as exc:
        listener.close()
        where = config.uds or f"{config.host}:{config.port}"
        raise ConfigError(f"cannot listen on {where} ({exc}): choose a free address") from exc
    host, port = listener.getsockname()
    return listener, f"http://{host}:{port}/v1"


def _missing(exc: ImportError) -> ConfigError:
    package = (exc.name or "more").partition(".")[0]
    return ConfigError(f"the mock server needs {package}: pip install 'llm-limiter[mock]'")


def create_app(config: MockConfig, *, clock_us: Callable[[], int] | None = None) -> Starlette:
    """Give the server as an ASGI application, for a server or a transport of your own.

    Args:
        config: what it enforces and answers; its address is not used.
        clock_us: the time that enforcement goes by, in microseconds; it never goes back.

    Raises:
        ConfigError: the extra `mock` is not installed.
    """
    try:
        from limiter.mock.app import build, monotonic_us
    except ImportError as exc:
        raise _missing(exc) from exc
    return build(config, clock_us or monotonic_us)


def _make_server(
    config: MockConfig, clock_us: Callable[[], int] | None, on_ready: Callable[[], None]
) -> uvicorn.Server:
    app = create_app(config, clock_us=clock_us)
    try:
        import uvicorn
    except ImportError as exc:
        raise _missing(exc) from exc

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    # Cut connections are exceptions by intention: below "critical" nothing is worth a line.
    settings = uvicorn.Config(
        app,
        access_log=False,
        log_level="critical",
        lifespan="off",
        ws="none",
        backlog=4096,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return Server(settings)


def serve(config: MockConfig, *, on_ready: Callable[[str], None] = _announce) -> None:
    """Serve until SIGINT or SIGTERM; tell `on_ready` the URL once calls are answered.

    Raises:
        ConfigError: the extra `mock` is not installed, or the address is taken.
    """
    _serve(config, on_ready, stop_at_eof=False)


def _serve(config: MockConfig, on_ready: Callable[[str], None], *, stop_at_eof: bool) -> None:
    url = ""
    server = _make_server(config, None, lambda: on_ready(url))
    listener, url = _listen(config)
    if stop_at_eof:
        threading.Thread(target=_stop_at_eof, args=(server,), daemon=True).start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        _release(config, listener)


def _stop_at_eof(server: uvicorn.Server) -> None:
    """Stop when the parent closes our standard input, by intention or by its death."""
    # Not through sys.stdin: its lock, held by a daemon thread, would abort the interpreter's end.
    while os.read(0, 4096):
        pass
    server.should_exit = True


def _release(config: MockConfig, listener: socket.socket) -> None:
    listener.close()
    if config.uds:
        Path(config.uds).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class MockServer:
    """Be a running server.

    Attributes:
        base_url: what an OpenAI client takes; ends in "/v1".
        azure_endpoint: what an AzureOpenAI client takes.
        uds: the unix socket, if the server listens on one.
        pid: the child process, if the server is one.
    """

    base_url: str
    uds: str | None = None
    pid: int | None = None

    @property
    def azure_endpoint(self) -> str:
        """Give the URL without its path."""
        return self.base_url.removesuffix("/v1")

    def stats(self) -> dict[str, Any]:
        """Give what GET /stats says: counts since the start, and the levels now."""
        return self._ask("GET", "/stats")

    def reset_stats(self) -> None:
        """Forget the counts; the levels stay."""
        self._ask("POST", "/stats/reset")

    def timeline(self, since_s: float = 0.0) -> dict[str, Any]:
        """Give what GET /timeline says: `seconds`, one row for each that had events."""
        return self._ask("GET", f"/timeline?since={since_s!r}")

    def set_limits(self, **limits: int | None) -> dict[str, Any]:
        """Hold another `rpm` or `tpm` from now on (None: no limit), and give those that hold.

        Raises:
            ConfigError: the command makes no sense, and changed nothing; so for the other two.
        """
        return self._ask("POST", "/limits", limits)

    def refuse(self, **how: Any) -> dict[str, Any]:
        """Refuse calls on command, with the fields of POST /refuse: `refuse(cooldown_s=2)`."""
        return self._ask("POST", "/refuse", how)

    def set_faults(self, **how: Any) -> dict[str, Any]:
        """Make calls fail, with the fields of POST /faults: `set_faults(status=401, count=1)`."""
        return self._ask("POST", "/faults", how)

    def _ask(self, method: str, path: str, command: Any = None) -> dict[str, Any]:
        with closing(HTTPConnection(urlsplit(self.base_url).netloc, timeout=10)) as connection:
            if self.uds:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.connect(self.uds)
            body = None if command is None else json.dumps(command)
            connection.request(method, path, body)
            response = connection.getresponse()
            said: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise ConfigError(f"{method} {path}: {said['error']['message']}")
        return said


@contextmanager
def background(
    config: MockConfig | None = None,
    *,
    process: bool = False,
    clock_us: Callable[[], int] | None = None,
) -> Iterator[MockServer]:
    """Run a server beside the caller, and stop it at the end.

    Args:
        config: what it enforces and answers, and where; the defaults if None.
        process: run it as a child process, with a core of its own, instead of a thread.
        clock_us: the time that enforcement goes by; for a thread only.

    Raises:
        ConfigError: the extra `mock` is not installed, or the address is taken.
    """
    config = config or MockConfig()
    if process and clock_us is not None:
        raise ConfigError("a clock cannot enter another process: leave out process or clock_us")
    with _child(config) if process else _thread(config, clock_us) as server:
        yield server


@contextmanager
def _thread(config: MockConfig, clock_us: Callable[[], int] | None) -> Iterator[MockServer]:
    ready = threading.Event()
    server = _make_server(config, clock_us, ready.set)
    listener, url = _listen(config)
    runner = threading.Thread(target=server.run, args=([listener],), name="limiter-mock")
    runner.start()
    try:
        while not ready.wait(0.1):
            if not runner.is_alive():
                raise ConfigError(_NOT_STARTED)
        yield MockServer(url, config.uds)
    finally:
        server.should_exit = True
        runner.join()
        _release(config, listener)


@contextmanager
def _child(config: MockConfig) -> Iterator[MockServer]:
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(  # noqa: S603 - this package, with arguments of its own
        [sys.executable, "-m", "limiter.mock", *_arguments(config), "--stop-at-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        text=True,
    ) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            line = child.stdout.readline()
            if not line.startswith(LISTENING):
                raise ConfigError(_NOT_STARTED)
            yield MockServer(line.removeprefix(LISTENING).strip(), config.uds, child.pid)
            child.stdin.close()
            child.wait(timeout=10)
        finally:
            child.kill()


def _flag(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")


def _arguments(config: MockConfig) -> list[str]:
    """Write a configuration as the command line that `main` reads it from."""
    flags = []
    for one in fields(config):
        value = getattr(config, one.name)
        if one.metadata["parse"] is bool:
            flags += [_flag(one.name)] * value
        elif value != one.default:
            flags.append(f"{_flag(one.name)}={'none' if value is None else value}")
    return flags


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="limiter mock-server",
        usage="%(prog)s [options]",
        description="Serve an OpenAI-compatible API that enforces RPM and TPM as providers do.",
        epilog=_IN_MID_RUN,
    )
    group: argparse._ActionsContainer = parser
    for one in fields(MockConfig):
        if one.name in GROUPS:
            group = parser.add_argument_group(GROUPS[one.name])
        about = one.metadata["about"]
        if one.metadata["parse"] is bool:
            group.add_argument(_flag(one.name), dest=one.name, action="store_true", help=about)
        else:
            default = "none" if one.default is None else one.default
            group.add_argument(
                _flag(one.name),
                dest=one.name,
                type=one.metadata["parse"],
                default=one.default,
                metavar=one.name.rpartition("_")[2].upper(),
                help=f"{about} (default {default})",
            )
    parser.add_argument("--stop-at-eof", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve as the command line says: print "listening on URL" first, then stay.

    Returns:
        The exit status: 0, or 2 for a configuration that makes no sense.
    """
    options = vars(_parser().parse_args(arguments))
    stop_at_eof = options.pop("stop_at_eof")
    try:
        _serve(MockConfig(**options), _announce, stop_at_eof=stop_at_eof)
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    return 0
