"""Responses: the last event holds the whole answer, and the others tell how it came about.

Written after openai-python's event types and its accumulator. An answer that ended early
(`incomplete`) is as whole as a completed one: its stream ends with an event of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from limiter.replay.folding import Numbered, joined
from limiter.replay.loss import Loss, Payload, fields, items, kind_of, place, text
from limiter.replay.pieces import pieces, token_spans

_END_OF = {"completed": "response.completed", "incomplete": "response.incomplete"}
ENDS = frozenset(_END_OF.values())

# What is not known before the end.
_LATE = ("completed_at", "incomplete_details", "usage")

# Of an item: the field that is written as it comes, and the events that tell it.
_ARGUMENTS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
    "mcp_call": ("arguments", "response.mcp_call_arguments"),
}
# The same, of a part of an item's content.
_PARTS = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
}


def fold(events: Sequence[Payload]) -> Payload:
    """Return the answer that the last event holds; where it leaves the output out, the items do."""
    last = events[-1] if events else {}
    response = fields(last.get("response"))
    if _END_OF.get(str(response.get("status"))) != kind_of(last) or response.get("error"):
        raise Loss
    done = Numbered()
    for event in events:
        if kind_of(event) == "response.output_item.done":
            done[place(event.get("output_index"))] = fields(event.get("item"))
    output = joined(done) if response.get("output") is None else items(response["output"])
    if done and len(done) != len(output):
        raise Loss
    return {**response, "output": output}


def unfold(response: Payload) -> Iterator[Payload]:
    """Give the events that a stream of an answer would be."""
    for number, event in enumerate(_events(response)):
        yield {**event, "sequence_number": number}


def _events(response: Payload) -> Iterator[Payload]:
    end = _END_OF.get(str(response.get("status")))
    if end is None:
        raise Loss
    late = {name: None for name in _LATE if name in response}
    begun = {**response, **late, "status": "in_progress", "output": []}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(items(response.get("output"))):
        where = {"output_index": index}
        yield {"type": "response.output_item.added", **where, "item": _begun(fields(item))}
        yield from _item_events(item, where)
        yield {"type": "response.output_item.done", **where, "item": item}
    yield {"type": end, "response": response}


def _begun(item: Payload) -> Payload:
    """Give an item as it is before anything is written in it."""
    begun = dict(item)
    if begun.get("status"):
        begun["status"] = "in_progress"
    kind = kind_of(item)
    if kind in {"message", "reasoning"}:
        begun |= {name: [] for name in ("content", "summary") if item.get(name)}
    elif kind in _ARGUMENTS:
        begun[_ARGUMENTS[kind][0]] = ""
    return begun


def _item_events(item: Payload, where: Payload) -> Iterator[Payload]:
    kind = kind_of(item)
    if kind in {"message", "reasoning"}:
        where = {**where, "item_id": text(item.get("id"))}
        for index, part in enumerate(items(item.get("summary") or [])):
            yield from _summary_events(fields(part), {**where, "summary_index": index})
        for index, part in enumerate(items(item.get("content") or [])):
            yield from _part_events(fields(part), {**where, "content_index": index})
    elif kind in _ARGUMENTS:
        name, event = _ARGUMENTS[kind]
        where = {**where, "item_id": text(item.get("id"))}
        whole = text(item.get(name))
        for piece in pieces(whole):
            yield {"type": f"{event}.delta", **where, "delta": piece}
        yield {"type": f"{event}.done", **where, name: whole}


def _summary_events(part: Payload, where: Payload) -> Iterator[Payload]:
    whole, event = text(part.get("text")), "response.reasoning_summary"
    yield {"type": f"{event}_part.added", **where, "part": {**part, "text": ""}}
    for piece in pieces(whole):
        yield {"type": f"{event}_text.delta", **where, "delta": piece}
    yield {"type": f"{event}_text.done", **where, "text": whole}
    yield {"type": f"{event}_part.done", **where, "part": part}


def _part_events(part: Payload, where: Payload) -> Iterator[Payload]:
    kind = kind_of(part)
    name, event = _PARTS.get(kind, ("", ""))
    begun = {**part, name: ""} if name else part
    if kind == "output_text":
        begun |= {late: [] for late in ("annotations", "logprobs") if part.get(late)}
    yield {"type": "response.content_part.added", **where, "part": begun}
    if name:
        yield from _written(text(part.get(name)), part, where, event)
        yield {"type": f"{event}.done", **where, name: part[name], **_logprobs(part)}
    yield {"type": "response.content_part.done", **where, "part": part}


def _written(whole: str, part: Payload, where: Payload, event: str) -> Iterator[Payload]:
    """Give the deltas of a part; those of a text have logprobs, and notes come after it."""
    if part["type"] != "output_text":
        for piece in pieces(whole):
            yield {"type": f"{event}.delta", **where, "delta": piece}
        return
    for piece, logprobs in _pieces(whole, items(part.get("logprobs") or [])):
        yield {"type": f"{event}.delta", **where, "delta": piece, "logprobs": logprobs}
    for index, note in enumerate(items(part.get("annotations") or [])):
        told = {"annotation_index": index, "annotation": note}
        yield {"type": f"{event}.annotation.added", **where, **told}


def _pieces(whole: str, logprobs: list[Payload]) -> Iterator[tuple[str, list[Payload]]]:
    spans = token_spans(whole, [fields(one).get("token") for one in logprobs])
    if spans is None:
        return ((piece, []) for piece in pieces(whole))
    return ((piece, logprobs[span]) for piece, span in spans)


def _logprobs(part: Payload) -> Payload:
    return {"logprobs": part.get("logprobs") or []} if part["type"] == "output_text" else {}
