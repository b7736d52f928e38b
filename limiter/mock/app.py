"""The mock server as an ASGI application: routes, the life of a call, statistics.

Import only when the server is to run: it loads Starlette. State lives in the application object,
so a server is one process; all API keys share it, as all keys of an OpenAI organisation do.
Azure's paths are served too, with OpenAI's headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from limiter.mock import answer as answers
from limiter.mock.call import BadBodyError, Call, read_call
from limiter.mock.enforce import Admission, Refusal
from limiter.mock.ledger import Ledger
from limiter.mock.wire import (
    FAULTS,
    error_body,
    limit_headers,
    refusal_body,
    retry_headers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from starlette.requests import Request

    from limiter.mock.config import MockConfig

PATHS = {"/chat/completions": "chat", "/responses": "responses", "/embeddings": "embeddings"}
PREFIXES = ("/v1", "/openai/deployments/{deployment}", "/openai/v1", "/openai")
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "text-embedding-3-small")


class CutError(Exception):
    """End a connection before its response is whole; uvicorn then closes the socket."""


class Running(NamedTuple):
    """Be a call between admission and completion."""

    call: Call
    answer: answers.Answer
    ledger: Ledger
    admission: Admission
    is_cut: bool


def monotonic_us() -> int:
    """Read the clock that enforcement goes by."""
    return time.monotonic_ns() // 1_000


class Mock:
    """Answer calls within the limits of a configuration."""

    def __init__(self, config: MockConfig, clock_us: Callable[[], int]) -> None:
        self.config = config
        self._now_us = clock_us
        self._offset_us = time.time_ns() // 1_000 - clock_us()
        self._ledgers: dict[str, Ledger] = {}
        self._random = Random(config.seed)
        self._request_count = 0
        self._run = secrets.token_hex(8)
        self._errors = self._in_flight = self._max_in_flight = 0
        if not config.per_model:
            self._ledger("")

    def _ledger(self, model: str) -> Ledger:
        name = model if self.config.per_model else ""
        if name not in self._ledgers:
            self._ledgers[name] = Ledger(self.config, self._offset_us)
        return self._ledgers[name]

    async def handle(self, kind: str, request: Request) -> Response:
        """Answer a call, and give the answer an id of its own."""
        self._request_count += 1
        number = self._request_count
        response = await self._answer(kind, request)
        response.headers["x-request-id"] = f"req_{self._run}{number:016x}"
        return response

    async def _answer(self, kind: str, request: Request) -> Response:
        """Admit a call and answer it, or say why not."""
        try:
            call = read_call(kind, await request.body(), request.path_params.get("deployment"))
        except BadBodyError as exc:
            body = error_body(str(exc), "invalid_request_error", None, exc.param)
            return self._error(400, body)
        ledger = self._ledger(call.model)
        cost = {"requests": 1, "tokens": call.admission_tokens(self.config.charge)}
        outcome = ledger.admit(cost, self._now_us())
        headers = self._headers(ledger)
        if isinstance(outcome, Refusal):
            headers |= retry_headers(outcome)
            return self._json(refusal_body(outcome, call.model), headers, 429)
        fault = self._draw_fault()
        if fault is not None and fault in FAULTS:
            status, body = FAULTS[fault]
            return self._error(status, body, headers)
        answer = answers.make_answer(call, self.config)
        running = Running(call, answer, ledger, outcome, fault == "cut")
        if call.is_streamed:
            events = self._cut_or_whole(running, self._events(running))
            return StreamingResponse(events, 200, headers, "text/event-stream")
        return await self._whole(running, headers)

    def _draw_fault(self) -> str | None:
        drawn = self._random.random()
        for name in ("error", "overload", "slow_down", "cut"):
            drawn -= getattr(self.config, f"{name}_rate")
            if drawn < 0:
                return name
        return None

    async def _whole(self, running: Running, headers: dict[str, str]) -> Response:
        self._enter()
        try:
            await _sleep(running.answer.wait_s + running.answer.rest_s)
        finally:
            self._leave(running, running.answer.answer_tokens)
        if self.config.charge == "usage":
            # A provider that trues up writes the headers of an unstreamed call at its end.
            headers = self._headers(running.ledger)
        body = _encode(self._body(running))
        if running.is_cut:
            headers["content-length"] = str(len(body))
            return StreamingResponse(_half(body), 200, headers, "application/json")
        return Response(body, 200, headers, "application/json")

    def _body(self, running: Running) -> dict[str, Any]:
        call, answer, now_s = running.call, running.answer, int(time.time())
        match call.kind:
            case "chat":
                return answers.chat_body(call, answer, now_s)
            case "responses":
                return answers.responses_body(call, answer, now_s)
            case _:
                return answers.embeddings_body(call, answer, self.config.seed)

    async def _events(self, running: Running) -> AsyncGenerator[tuple[bytes, int], None]:
        """Give each event as it goes over the wire, with the tokens told so far."""
        call, answer = running.call, running.answer
        is_chat = call.kind == "chat"
        make = answers.chat_events if is_chat else answers.responses_events
        told = 0
        self._enter()
        try:
            await _sleep(answer.wait_s)
            for event, tokens in make(call, answer, int(time.time())):
                await _sleep(answer.token_s * tokens)
                told += tokens
                frame = b"" if is_chat else f"event: {event['type']}\n".encode()
                yield frame + b"data: " + _encode(event) + b"\n\n", told
            if is_chat:
                yield b"data: [DONE]\n\n", told
        finally:
            # Whoever leaves early pays for what was made until then.
            self._leave(running, told)

    async def _cut_or_whole(
        self, running: Running, events: AsyncGenerator[tuple[bytes, int], None]
    ) -> AsyncIterator[bytes]:
        # Closed here and now: a generator that is left to the garbage collector settles late.
        async with contextlib.aclosing(events):
            async for frame, told in events:
                yield frame
                if running.is_cut and told * 2 >= running.answer.answer_tokens:
                    raise CutError

    def _enter(self) -> None:
        self._in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)

    def _leave(self, running: Running, answer_tokens: int) -> None:
        self._in_flight -= 1
        if self.config.charge == "usage":
            actual = {"tokens": running.answer.prompt_tokens + answer_tokens}
            running.ledger.settle(running.admission, actual, self._now_us())

    def _headers(self, ledger: Ledger) -> dict[str, str]:
        return limit_headers(ledger.enforcer.view(self._now_us()))

    def _error(self, status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
        self._errors += 1
        return self._json(body, headers or {}, status)

    def _json(self, body: Any, headers: dict[str, str], status: int) -> Response:
        return Response(_encode(body), status, headers, "application/json")

    async def models(self, _request: Request) -> Response:
        """List some models; any name is served."""
        data = [{"id": m, "object": "model", "created": 0, "owned_by": "mock"} for m in MODELS]
        return self._json({"object": "list", "data": data}, {}, 200)

    async def stats(self, _request: Request) -> Response:
        """Give the counts of the one quota, or those of every model under `models`."""
        now_us = self._now_us()
        said = {name: ledger.snapshot(now_us) for name, ledger in self._ledgers.items()}
        counts = {
            "errors": self._errors,
            "in_flight": self._in_flight,
            "max_in_flight": self._max_in_flight,
        }
        if not self.config.per_model:
            return self._json({**said[""], **counts}, {}, 200)
        sums = {
            name: sum(snapshot[name] for snapshot in said.values())
            for name in ("accepted", "refused", "requests_accepted", "tokens_accepted")
        }
        return self._json({**sums, **counts, "models": said}, {}, 200)

    async def reset(self, _request: Request) -> Response:
        """Forget the counts, not the levels."""
        self._errors, self._max_in_flight = 0, self._in_flight
        for ledger in self._ledgers.values():
            ledger.reset()
        return self._json({"reset": True}, {}, 200)

    async def refuse_route(self, request: Request, exc: Exception) -> Response:
        """Give unknown paths and methods OpenAI's errors."""
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        where = f"{request.method} {request.url.path}"
        if status == 405:
            text, code = f"Not allowed: {where}.", "method_not_supported"
        else:
            text, code = f"Invalid URL ({where})", None
        return self._error(status, error_body(text, "invalid_request_error", code))


async def _sleep(span_s: float) -> None:
    if span_s > 0:
        await asyncio.sleep(span_s)


async def _half(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise CutError


def _encode(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def build(config: MockConfig, clock_us: Callable[[], int]) -> Starlette:
    """Lay the routes."""
    mock = Mock(config, clock_us)
    calls = [
        Route(prefix + path, partial(mock.handle, kind), methods=["POST"])
        for prefix in PREFIXES
        for path, kind in PATHS.items()
    ]
    others = [
        Route("/v1/models", mock.models),
        Route("/openai/v1/models", mock.models),
        Route("/stats", mock.stats),
        Route("/stats/reset", mock.reset, methods=["POST"]),
    ]
    return Starlette(
        routes=[*calls, *others],
        exception_handlers={HTTPException: mock.refuse_route},
    )
