"""What Chat Completions and Completions share: chunks of choices, and the usage in a last one.

A chunk repeats the answer's head. Servers of OpenAI's shape leave parts of it empty at first
(Azure: id, model), or stamp each chunk anew (`created`): the first that says something holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from limiter.replay.folding import Numbered, agree, extend, joined, once
from limiter.replay.loss import Loss, Payload, fields, items, place, text

# Chunks repeat these; the rest of a head comes with the first chunk alone.
_REPEATED = ("id", "created", "model", "service_tier", "system_fingerprint")


class Kind(NamedTuple):
    """Say how one of the two APIs tells a choice.

    Attributes:
        whole: the `object` of an answer. `chunk`: that of a chunk.
        written: the fields of a choice that hold what was written, in a chunk or in an answer.
        take: fold these fields of a chunk's choice into the answer's choice.
        cut: tell them in pieces; the first is an opening, the last says nothing.
    """

    whole: str
    chunk: str
    written: frozenset[str]
    take: Callable[[Payload, Payload], None]
    cut: Callable[[Payload], Iterator[Payload]]


def fold(kind: Kind, chunks: Sequence[Payload]) -> Payload:
    """Return the answer that chunks amount to."""
    answer: Payload = {}
    choices = Numbered()
    for chunk in chunks:
        for name, value in chunk.items():
            if name != "choices":
                _take_head(kind, answer, name, value)
        for choice in items(chunk.get("choices")):
            index = place(fields(choice).get("index"))
            _take_choice(kind, choices.setdefault(index, {"index": index}), choice)
    if not choices:
        raise Loss
    for choice in choices.values():
        text(choice.get("finish_reason"))
    return {**joined(answer), "choices": joined(choices)}


def _take_head(kind: Kind, answer: Payload, name: str, value: object) -> None:
    match name:
        case "object":
            answer[name] = kind.whole
        case "usage":
            # Some tell it with every chunk: the last one counts all.
            if value is not None:
                answer[name] = fields(value)
        case "created":
            answer[name] = answer.get(name) or value
        case "obfuscation":
            pass
        case _:
            agree(answer, name, value)


def _take_choice(kind: Kind, into: Payload, choice: Payload) -> None:
    kind.take(into, choice)
    for name, value in choice.items():
        if name in kind.written or name == "index":
            continue
        if name == "logprobs":
            extend(into, name, value)
        elif isinstance(value, list):
            once(into, name, value)
        else:
            agree(into, name, value)


def unfold(kind: Kind, answer: Payload) -> Iterator[Payload]:
    """Give the chunks that a stream of an answer would be, one choice after the other.

    An answer with usage is one to a caller who asked for it: the others' streams have none.
    """
    usage = answer.get("usage")
    shared = {name: answer[name] for name in _REPEATED if name in answer}
    if "object" in answer:
        shared["object"] = kind.chunk
    if usage is not None:
        shared["usage"] = None
    told = {*shared, "choices", "usage"}
    head = {**shared, **{name: value for name, value in answer.items() if name not in told}}
    for choice in items(answer.get("choices")):
        for part in _parts(kind, fields(choice)):
            yield {**head, "choices": [part]}
            head = shared
    if usage is not None:
        yield {**shared, "choices": [], "usage": usage}


def _parts(kind: Kind, choice: Payload) -> Iterator[Payload]:
    told = {*kind.written, "index", "logprobs", "finish_reason"}
    more = {name: value for name, value in choice.items() if name not in told}
    base: Payload = {"index": choice.get("index")}
    if "logprobs" in choice:
        base["logprobs"] = None
    *parts, last = kind.cut(choice)
    for part in parts:
        yield {**base, **more, **part, "finish_reason": None}
        more = {}
    yield {**base, **last, "finish_reason": text(choice.get("finish_reason"))}
