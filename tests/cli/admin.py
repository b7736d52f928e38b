"""A server that tells a project's rate limits, page by page, to who has the admin key."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROJECT, KEY = "proj_abc", "the-admin-key"
PATH = f"/v1/organization/projects/{PROJECT}/rate_limits"


def entry(model: str, **numbers: object) -> dict[str, object]:
    """Write an entry; numbers by the words `rpm`, `tpm`, `rpd` and `ipm`, or by their whole names."""
    words = {"rpm": "max_requests_per_1_minute", "tpm": "max_tokens_per_1_minute",
             "rpd": "max_requests_per_1_day", "ipm": "max_images_per_1_minute"}  # fmt: skip
    told = {words.get(word, word): number for word, number in numbers.items()}
    return {"object": "project.rate_limit", "id": f"rl-{model}", "model": model, **told}


class Admin(ThreadingHTTPServer):
    """Hold what is told, and what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.entries: list[dict[str, object]] = []
        self.page = 100
        self.answer: tuple[int, str, str] | None = None  # instead: status, content type, body
        self.repeats_itself = False
        self.asked: list[dict[str, str]] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def pages(self, after: str) -> tuple[int, Any]:
        """Return what stands on the page after an entry."""
        ids = [each["id"] for each in self.entries]
        first = ids.index(after) + 1 if after and not self.repeats_itself else 0
        shown = self.entries[first : first + self.page]
        more = self.repeats_itself or first + self.page < len(ids)
        return 200, {"object": "list", "data": shown, "has_more": more,
                     "first_id": shown[0]["id"] if shown else None,
                     "last_id": shown[-1]["id"] if shown else None}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    server: Admin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append(query)
        if self.server.answer is not None:
            self._send(*self.server.answer)
        elif self.headers["authorization"] != f"Bearer {KEY}":
            self._refuse(401, "Incorrect API key provided.")
        elif parts.path != PATH:
            self._refuse(404, "No such project.")
        else:
            status, page = self.server.pages(query.get("after", ""))
            self._send(status, "application/json", json.dumps(page))

    def _refuse(self, status: int, message: str) -> None:
        body = {"error": {"message": message, "type": "invalid_request_error", "code": None}}
        self._send(status, "application/json", json.dumps(body))

    def _send(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.send_header("x-should-retry", "false")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def running() -> Iterator[Admin]:
    """Run one server."""
    with Admin() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
