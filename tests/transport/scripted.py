"""A real HTTP server on loopback whose answers are written by the test."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Answer = Callable[["_Handler"], None]


class Asked(NamedTuple):
    """Hold a request as it came, its headers' names in lower case, `at` by the monotonic clock."""

    path: str
    headers: dict[str, str]
    content: bytes
    at: float


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: Scripted

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.path, headers, self._content(), time.monotonic())
        self.scripted.requests.append(asked)
        number = len(self.scripted.requests) - 1
        answers = self.scripted.answers
        answers[min(number, len(answers) - 1)](self)

    do_GET = do_POST  # noqa: N815 - the name that http.server calls

    def _content(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that leave early are what these tests are about."""


class Scripted:
    """Run the server; `requests` are those that came, `leave` ends answers that wait."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = answers
        self.requests: list[Asked] = []
        self.leave = threading.Event()
        handler = type("Handler", (_Handler,), {"scripted": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.root}/v1"

    def close(self) -> None:
        self.leave.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def whole(body: Any, status: int = 200, kind: str = "application/json", **headers: str) -> Answer:
    """Answer with a body and its length."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {key.replace("_", "-"): value for key, value in headers.items()}

    def answer(handler: _Handler) -> None:
        length = {"content-type": kind, "content-length": str(len(data))}
        handler.begin(status, length | named)
        handler.wfile.write(data)

    return answer


def streamed(pieces: Iterable[bytes], end: str = "whole", **headers: str) -> Answer:
    """Answer with server-sent events, a piece at a time; then end, cut the line, or wait."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}

    def answer(handler: _Handler) -> None:
        kind = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        handler.begin(200, kind | named)
        for piece in pieces:
            handler.chunk(piece)
        if end == "whole":
            handler.chunk(b"")
            return
        if end == "wait":
            handler.scripted.leave.wait(60)
        handler.close_connection = True

    return answer


def cut(handler: _Handler) -> None:
    """Close the line without a word."""
    handler.close_connection = True


def event(text: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    """Write a chunk of a chat completion as it goes over the wire."""
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    return b"data: " + json.dumps({**body, "choices": choices, "usage": usage}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def completion(total: int) -> dict[str, Any]:
    """Write a chat completion that used so many tokens, 10 of them for the prompt."""
    usage = {"prompt_tokens": 10, "completion_tokens": total - 10, "total_tokens": total}
    message = {"role": "assistant", "content": "x"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
    return {**body, "choices": [choice], "usage": usage}
