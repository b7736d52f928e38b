"""What a line of the input asks for: OpenAI's Batch API lines, and plain request bodies.

Pure. The parent reads a line to know its id; the worker that gets it reads it again, by the same
rules, to make the call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from limiter.providers import model_of

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"

_BATCH_KEYS = frozenset({"custom_id", "method", "url", "body"})
_EXAMPLE = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {…}}'


class MalformedError(ValueError):
    """Say what is wrong with a line, and what would be right."""


@dataclass(frozen=True, slots=True)
class Call:
    """Hold what is to be sent.

    Attributes:
        custom_id: the line's own, or `line-17` for a plain line without one.
        path: as `/v1/chat/completions`.
        body: the JSON body, with its model.
    """

    custom_id: str
    path: str
    body: dict[str, Any]

    @property
    def content(self) -> bytes:
        """Return the body as it is sent."""
        return encode(self.body)


def read_line(raw: bytes, number: int, model: str | None = None) -> Call:
    """Read one line; `model` stands in where the body names none.

    Raises:
        MalformedError: it is no request.
    """
    line = _object(raw)
    custom_id = _custom_id(line, number)
    if _BATCH_KEYS & line.keys() - {"custom_id"}:
        path, body = _batch(line)
    else:
        path, body = _plain({key: line[key] for key in line if key != "custom_id"}, model)
    _check_body(path, body, model)
    return Call(custom_id, path, body)


def encode(value: object) -> bytes:
    """Write JSON on one line, as UTF-8; lone surrogates, which it cannot hold, as escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def _object(raw: bytes) -> dict[str, Any]:
    try:
        line = json.loads(raw.removeprefix(b"\xef\xbb\xbf").decode())
    except (ValueError, RecursionError) as exc:
        raise MalformedError(f"is not JSON ({exc})") from exc
    if not isinstance(line, dict):
        raise MalformedError(f"is not a JSON object but {type(line).__name__}; write {_EXAMPLE}")
    return line


def _custom_id(line: dict[str, Any], number: int) -> str:
    custom_id = line.get("custom_id", f"line-{number}")
    if not isinstance(custom_id, str) or not custom_id:
        raise MalformedError(f"custom_id must be a text that is not empty, got {custom_id!r:.60}")
    return custom_id


def _batch(line: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if unknown := sorted(line.keys() - _BATCH_KEYS):
        raise MalformedError(f"has the key {unknown[0]!r:.60} beside body; write {_EXAMPLE}")
    if "custom_id" not in line:
        raise MalformedError(f"has no custom_id; write {_EXAMPLE}")
    if (method := line.get("method", "POST")) != "POST":
        raise MalformedError(f"method must be 'POST', got {method!r:.60}")
    url, body = line.get("url"), line.get("body")
    if not isinstance(url, str) or not url.startswith("/") or url.startswith("//"):
        raise MalformedError(f"url must be a path such as '{CHAT}', got {url!r:.80}")
    if not isinstance(body, dict):
        raise MalformedError(f"body must be a JSON object, got {type(body).__name__}")
    return url, body


def _plain(body: dict[str, Any], model: str | None) -> tuple[str, dict[str, Any]]:
    """Name the endpoint that a bare body is meant for; a bare prompt is a chat's one message."""
    if "messages" in body:
        return CHAT, body
    if "prompt" in body:
        prompt = body.pop("prompt")
        if not isinstance(prompt, str):
            raise MalformedError(f"prompt must be a text, got {type(prompt).__name__}")
        return CHAT, {"messages": [{"role": "user", "content": prompt}], **body}
    if "input" in body:
        named = str(body.get("model") or model or "")
        return (EMBEDDINGS if "embedding" in named else RESPONSES), body
    raise MalformedError(f'has none of "messages", "prompt", "input" and "body"; write {_EXAMPLE}')


def _check_body(path: str, body: dict[str, Any], model: str | None) -> None:
    if not body.get("model") and model:
        body["model"] = model
    if model_of(path, body) is None:
        raise MalformedError("names no model; add it to the body, or pass --model")
    if body.get("stream"):
        raise MalformedError("asks for a stream, and a line has one result; remove stream")
