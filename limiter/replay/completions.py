"""Completions: pieces of text with logprobs in parallel lists, and the whole of both.

Nothing here looks into a text; an echoed prompt is a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from limiter.replay.choices import Kind
from limiter.replay.folding import append
from limiter.replay.loss import Payload, fields, text
from limiter.replay.pieces import pieces, token_spans


def _take(into: Payload, choice: Payload) -> None:
    append(into, "text", text(choice.get("text")))


def _cut(choice: Payload) -> Iterator[Payload]:
    whole, logprobs = text(choice.get("text")), choice.get("logprobs")
    spans = _spans(whole, logprobs)
    opening = {"logprobs": logprobs} if "logprobs" in choice else {}
    if spans is None:
        yield {"text": "", **opening}
        for piece in pieces(whole):
            yield {"text": piece}
    else:
        for piece, span in spans:
            yield {"text": piece, "logprobs": _sliced(fields(logprobs), span)}
    yield {"text": ""}


def _spans(whole: str, logprobs: object) -> list[tuple[str, slice]] | None:
    if not isinstance(logprobs, dict) or not isinstance(tokens := logprobs.get("tokens"), list):
        return None
    lists = [value for value in logprobs.values() if isinstance(value, list)]
    if any(len(value) != len(tokens) for value in lists):
        return None
    return token_spans(whole, tokens)


def _sliced(logprobs: Payload, span: slice) -> Payload:
    return {
        name: value[span] if isinstance(value, list) else value for name, value in logprobs.items()
    }


COMPLETIONS = Kind("text_completion", "text_completion", frozenset({"text"}), _take, _cut)
