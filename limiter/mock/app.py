"""The mock server as an ASGI application: routes, and a call's way over HTTP.

Import only when the server is to run: it loads Starlette. State lives in the application object,
so a server is one process. Azure's paths are served too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from limiter.errors import ConfigError
from limiter.mock import answer as answers
from limiter.mock.call import BadBodyError, read_call
from limiter.mock.provider import Provider, Reply, Running
from limiter.mock.wire import error_body

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from limiter.mock.config import MockConfig

PATHS = {"/chat/completions": "chat", "/responses": "responses", "/embeddings": "embeddings"}
PREFIXES = ("/v1", "/openai/deployments/{deployment}", "/openai/v1", "/openai")
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "text-embedding-3-small")


class CutError(Exception):
    """End a connection before its response is whole; uvicorn then closes the socket."""


def monotonic_us() -> int:
    """Read the clock that enforcement goes by."""
    return time.monotonic_ns() // 1_000


class Stream(StreamingResponse):
    """Send events, and say when it is over: also to a caller who left before the first of them."""

    def __init__(
        self,
        events: AsyncIterator[bytes],
        headers: dict[str, str],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(events, 200, headers, "text/event-stream")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything that the events give."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


class Mock:
    """Bring the calls of HTTP to a provider, and its answers back."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._request_count = 0
        self._run = secrets.token_hex(8)

    async def handle(self, kind: str, request: Request) -> Response:
        """Answer a call, and give the answer an id of its own."""
        self._request_count += 1
        number = self._request_count
        response = await self._answer(kind, request)
        response.headers["x-request-id"] = f"req_{self._run}{number:016x}"
        return response

    async def _answer(self, kind: str, request: Request) -> Response:
        try:
            call = read_call(kind, await request.body(), request.path_params.get("deployment"))
        except BadBodyError as exc:
            body = error_body(str(exc), "invalid_request_error", None, exc.param)
            return _reply(self.provider.error(400, body))
        running = self.provider.begin(call)
        if isinstance(running, Reply):
            return _reply(running)
        if call.is_streamed:
            headers, end = self.provider.headers(running), partial(self.provider.end, running)
            return Stream(self._cut_or_whole(running), headers, end)
        return await self._whole(running)

    async def _whole(self, running: Running) -> Response:
        headers = self.provider.headers(running)
        running.told = running.answer.answer_tokens
        try:
            await _sleep(running.answer.wait_s + running.answer.rest_s)
        finally:
            self.provider.end(running)
        if self.provider.trues_up:
            # A provider that trues up writes the headers of an unstreamed call at its end.
            headers = self.provider.headers(running)
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
                return answers.embeddings_body(call, answer, self.provider.config.seed)

    async def _events(self, running: Running) -> AsyncGenerator[bytes, None]:
        """Give each event as it goes over the wire; `running.told` grows with them."""
        call, answer = running.call, running.answer
        is_chat = call.kind == "chat"
        make = answers.chat_events if is_chat else answers.responses_events
        try:
            await _sleep(answer.wait_s)
            for event, tokens in make(call, answer, int(time.time())):
                await _sleep(answer.token_s * tokens)
                running.told += tokens
                frame = b"" if is_chat else f"event: {event['type']}\n".encode()
                yield frame + b"data: " + _encode(event) + b"\n\n"
            if is_chat:
                yield b"data: [DONE]\n\n"
        finally:
            # Whoever leaves early pays for what was made until then.
            self.provider.end(running)

    async def _cut_or_whole(self, running: Running) -> AsyncIterator[bytes]:
        # Closed here and now: a generator that is left to the garbage collector settles late.
        async with contextlib.aclosing(self._events(running)) as events:
            async for frame in events:
                yield frame
                if running.is_cut and running.told * 2 >= running.answer.answer_tokens:
                    raise CutError

    async def models(self, _request: Request) -> Response:
        """List some models; any name is served."""
        data = [{"id": m, "object": "model", "created": 0, "owned_by": "mock"} for m in MODELS]
        return _json({"object": "list", "data": data})

    async def reset(self, _request: Request) -> Response:
        """Forget the counts, not the levels."""
        self.provider.reset()
        return _json({"reset": True})

    async def timeline(self, request: Request) -> Response:
        """Give what happened in each second since `?since=`, a Unix time."""
        given = request.query_params.get("since", "0")
        try:
            since_s = float(given)
        except ValueError:
            return _bad_command(f"since={given!r:.40}: give a Unix time in seconds", "since")
        return _json(self.provider.timeline(since_s))

    async def told(self, tell: Callable[[], dict[str, Any]], _request: Request) -> Response:
        """Say what holds."""
        return _json(tell())

    async def command(self, do: Callable[[bytes], dict[str, Any]], request: Request) -> Response:
        """Follow a command, and say what holds then."""
        try:
            return _json(do(await request.body()))
        except BadBodyError as exc:
            return _bad_command(str(exc), exc.param)
        except ConfigError as exc:
            return _bad_command(str(exc))

    async def refuse_route(self, request: Request, exc: Exception) -> Response:
        """Give unknown paths and methods OpenAI's errors."""
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        where = f"{request.method} {request.url.path}"
        if status == 405:
            text, code = f"Not allowed: {where}.", "method_not_supported"
        else:
            text, code = f"Invalid URL ({where})", None
        body = error_body(text, "invalid_request_error", code)
        return _reply(self.provider.error(status, body))


async def _sleep(span_s: float) -> None:
    if span_s > 0:
        await asyncio.sleep(span_s)


async def _half(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise CutError


def _encode(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _reply(reply: Reply) -> Response:
    return Response(_encode(reply.body), reply.status, reply.headers, "application/json")


def _bad_command(text: str, param: str | None = None) -> Response:
    return _reply(Reply(400, error_body(text, "invalid_request_error", None, param), {}))


def _json(body: Any) -> Response:
    return _reply(Reply(200, body, {}))


def build(config: MockConfig, clock_us: Callable[[], int]) -> Starlette:
    """Lay the routes."""
    provider = Provider(config, clock_us)
    mock = Mock(provider)
    calls = [
        Route(prefix + path, partial(mock.handle, kind), methods=["POST"])
        for prefix in PREFIXES
        for path, kind in PATHS.items()
    ]
    others = [
        Route("/v1/models", mock.models),
        Route("/openai/v1/models", mock.models),
        Route("/stats", partial(mock.told, provider.stats)),
        Route("/stats/reset", mock.reset, methods=["POST"]),
        Route("/timeline", mock.timeline),
    ]
    commands = {
        "/limits": (provider.limits, provider.relimit),
        "/refuse": (provider.refusals, provider.refuse),
        "/faults": (provider.faults, provider.fail),
    }
    for path, (tell, do) in commands.items():
        others.append(Route(path, partial(mock.told, tell)))
        others.append(Route(path, partial(mock.command, do), methods=["POST"]))
    return Starlette(
        routes=[*calls, *others],
        exception_handlers={HTTPException: mock.refuse_route},
    )
