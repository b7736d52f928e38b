"""Answers of a scripted provider: those that a cache keeps, and those that it must not."""

from __future__ import annotations

import threading

from tests.transport.scripted import DONE, completion, event, streamed, whole

NOTHING = {"requests": 0, "tokens": 0, "concurrency": 0}
USAGE = {"prompt_tokens": 1, "completion_tokens": 19, "total_tokens": 20}
LAST = (
    b'data: {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": '
    b'[{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": null}\n\n'
)


def chat_stream(*texts: str, usage: bool = True) -> list[bytes]:
    told = [event(None, USAGE)] if usage else []
    return [*(event(text) for text in texts), LAST, *told, DONE]


def unfinished(reason: str | None) -> dict:
    body = completion(20)
    body["choices"][0]["finish_reason"] = reason
    return body


NOT_STORED = {
    "error_like_an_answer": whole(completion(20), 404),
    "error": whole({"error": {"message": "no"}}, 400),
    "broken_line": streamed([event("one")], end="cut"),
    "error_inside": streamed([event("one"), b'data: {"error": {"message": "no"}}\n\n', DONE]),
    "filtered": whole(unfinished("content_filter")),
    "cut_short": whole(unfinished("length")),
    "no_reason": whole(unfinished(None)),
    "no_json": whole(b"{", kind="application/json"),
    "html": whole(b"<html>", kind="text/html"),
    "too_large": whole(completion(20) | {"padding": "x" * 3_000_000}),
}


class Gate:
    """An answer that is held back until it is let go, and says when it was asked for."""

    def __init__(self, answer) -> None:
        self.answer, self.asked, self.open = answer, threading.Event(), threading.Event()

    def __call__(self, handler) -> None:
        self.asked.set()
        self.open.wait(30)
        self.answer(handler)
