"""Anthropic's Messages: blocks of content between the start and the stop of a message.

Written after the public documentation of streaming messages, checked against no recorded stream.
Event types that are not known are never skipped: what they add to an answer is not known either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from limiter.replay.folding import Numbered, Pieces, append, joined
from limiter.replay.frames import parse
from limiter.replay.loss import Loss, Payload, fields, items, kind_of, place, text
from limiter.replay.pieces import pieces

ENDS = frozenset({"message_stop"})

# Of a delta: the field that it holds, and the field of the block that grows by it.
_GROWING = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "input"),
}
_FRAME = ["message_start", "message_stop"]
_LATE = ("stop_reason", "stop_sequence")
_INPUT = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


def fold(events: Sequence[Payload]) -> Payload:
    """Return the message that events amount to."""
    if [kind_of(event) for event in (*events[:1], *events[-1:])] != _FRAME:
        raise Loss
    start, *middle, _ = events
    message = dict(fields(start.get("message")))
    blocks, open_at = Numbered(), set[int]()
    for event in middle:
        match kind_of(event):
            case "ping":
                pass
            case "message_delta":
                _take_delta(message, event)
            case "content_block_start":
                _start(blocks, open_at, event)
            case "content_block_delta":
                _grow(_block(blocks, open_at, event), fields(event.get("delta")))
            case "content_block_stop":
                _stop(_block(blocks, open_at, event))
                open_at.remove(place(event["index"]))
            case _:
                raise Loss
    if open_at or message.get("content") or not isinstance(message.get("stop_reason"), str):
        raise Loss
    return {**message, "content": joined(blocks)}


def _take_delta(message: Payload, event: Payload) -> None:
    """Take what is known at the end; its usage counts all, and replaces what the start told."""
    message.update(fields(event.get("delta")))
    if told := event.get("usage"):
        known = {name: value for name, value in fields(told).items() if value is not None}
        message["usage"] = fields(message.get("usage") or {}) | known
    others = {name: event[name] for name in event if name not in {"type", "delta", "usage"}}
    message.update(others)


def _start(blocks: Numbered, open_at: set[int], event: Payload) -> None:
    index = place(event.get("index"))
    if index in blocks:
        raise Loss
    blocks[index] = block = dict(fields(event.get("content_block")))
    if block.get("citations"):
        block["citations"] = [*items(block["citations"])]
    open_at.add(index)


def _block(blocks: Numbered, open_at: set[int], event: Payload) -> Payload:
    index = place(event.get("index"))
    if index not in open_at:
        raise Loss
    return blocks[index]


def _grow(block: Payload, delta: Payload) -> None:
    kind = kind_of(delta)
    if kind == "citations_delta":
        block["citations"] = items(block.get("citations") or [])
        block["citations"].append(delta.get("citation"))
        return
    if kind not in _GROWING:
        raise Loss
    source, target = _GROWING[kind]
    if target not in block or (target == "input" and block["input"] == {}):
        block[target] = ""
    if not isinstance(block[target], Pieces):
        block[target] = Pieces([text(block[target])])
    append(block, target, text(delta.get(source)))


def _stop(block: Payload) -> None:
    if isinstance(written := block.get("input"), Pieces):
        whole = "".join(written)
        block["input"] = parse(whole) if whole else {}


def unfold(message: Payload) -> Iterator[Payload]:
    """Give the events that a stream of a message would be."""
    usage = fields(message.get("usage") or {})
    counts = {"output_tokens": 0} if "output_tokens" in usage else {}
    begun: Payload = {"content": [], **{name: None for name in _LATE if name in message}}
    if "usage" in message:
        begun["usage"] = {**usage, **counts}
    yield {"type": "message_start", "message": {**message, **begun}}
    for index, block in enumerate(items(message.get("content"))):
        yield from _block_events(index, fields(block))
    end = {name: message[name] for name in _LATE if name in message}
    told = {name: usage[name] for name in counts}
    yield {"type": "message_delta", "delta": end, "usage": told}
    yield {"type": "message_stop"}


def _block_events(index: int, block: Payload) -> Iterator[Payload]:
    begun, *deltas = _deltas(block)
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _deltas(block: Payload) -> Iterator[Payload]:
    """Give the block as it begins, then what it grows by."""
    match kind_of(block):
        case "text":
            citations = items(block.get("citations") or [])
            yield {**block, "text": "", **({"citations": []} if citations else {})}
            yield from _grown("text_delta", text(block.get("text")))
            for citation in citations:
                yield {"type": "citations_delta", "citation": citation}
        case "thinking":
            signature = text(block.get("signature", ""))
            yield {**block, "thinking": "", **({"signature": ""} if signature else {})}
            yield from _grown("thinking_delta", text(block.get("thinking")))
            if signature:
                yield {"type": "signature_delta", "signature": signature}
        case kind if kind in _INPUT:
            given = fields(block.get("input"))
            yield {**block, "input": {}}
            yield from _grown("input_json_delta", json.dumps(given) if given else "")
        case _:
            yield block


def _grown(kind: str, whole: str) -> Iterator[Payload]:
    for piece in pieces(whole):
        yield {"type": kind, _GROWING[kind][0]: piece}
