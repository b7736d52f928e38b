"""The lines of results, in the format of OpenAI's Batch API. Pure."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from limiter.bulk.lines import encode


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what the server said to the last attempt of a call; `body` is JSON, or text."""

    status: int
    request_id: str | None
    body: Any


def success(custom_id: str, answer: Answer) -> bytes:
    """Write the output line of a call that succeeded."""
    return _line(custom_id, answer, None)


def failure(custom_id: str | None, code: str, message: str, answer: Answer | None = None) -> bytes:
    """Write the output line of a line that failed; `answer` None: there is no response."""
    return _line(custom_id, answer, {"code": code, "message": message})


def _line(custom_id: str | None, answer: Answer | None, error: dict[str, str] | None) -> bytes:
    response = answer and {
        "status_code": answer.status,
        "request_id": answer.request_id,
        "body": answer.body,
    }
    name = f"batch_req_{secrets.token_hex(12)}"
    line = {"id": name, "custom_id": custom_id, "response": response, "error": error}
    return encode(line) + b"\n"
