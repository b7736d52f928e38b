"""Chat Completions: the deltas of a message, and the message.

Written after the chunks of openai-python's types and of its own accumulator. A spoken answer is
never converted: its bytes come in pieces whose joints nobody documents.
"""

from __future__ import annotations

from collections.abc import Iterator

from limiter.replay.choices import Kind
from limiter.replay.folding import Numbered, agree, append, once
from limiter.replay.loss import Loss, Payload, fields, items, place, text
from limiter.replay.pieces import pieces, token_spans

# In the order in which a model writes them; the reasoning is that of compatible servers.
_TEXTS = ("reasoning_content", "reasoning", "content", "refusal")
_ARGUMENTS = ("arguments", "input")


def _take(into: Payload, choice: Payload) -> None:
    if "message" in choice:
        raise Loss
    message = into.setdefault("message", {})
    for name, value in fields(choice.get("delta")).items():
        if name in _TEXTS:
            append(message, name, value)
        elif name == "role":
            agree(message, name, value)
        elif name == "tool_calls":
            _take_calls(message, value)
        elif name == "function_call":
            _take_function(message, name, value)
        else:
            _refuse_audio(name, value)
            once(message, name, value)


def _refuse_audio(name: str, value: object) -> None:
    if name == "audio" and value is not None:
        raise Loss


def _take_calls(message: Payload, value: object) -> None:
    if value is None:
        message.setdefault("tool_calls", None)
        return
    calls = message.get("tool_calls")
    if calls is None:
        calls = message["tool_calls"] = Numbered()
    for one in items(value):
        call = calls.setdefault(place(fields(one).get("index")), {})
        for name, told in one.items():
            if name in {"function", "custom"}:
                _take_function(call, name, told)
            elif name != "index":
                agree(call, name, told)


def _take_function(into: Payload, name: str, value: object) -> None:
    if value is None:
        into.setdefault(name, None)
        return
    if into.get(name) is None:
        into[name] = {}
    for key, told in fields(value).items():
        if key in _ARGUMENTS:
            append(into[name], key, told)
        else:
            agree(into[name], key, told)


def _cut(choice: Payload) -> Iterator[Payload]:
    message = fields(choice.get("message"))
    _refuse_audio("audio", message.get("audio"))
    logprobs = choice.get("logprobs")
    spans = _content_spans(message, logprobs)
    yield {"delta": _opening(message), **_empty_logprobs(choice)}
    if rest := _other_logprobs(logprobs, "content" if spans else ""):
        yield {"delta": {}, "logprobs": rest}
    for name in _TEXTS:
        if name == "content" and spans:
            yield from _with_logprobs(spans, fields(logprobs))
        else:
            for piece in _pieces(message, name):
                yield {"delta": {name: piece}}
    if function := message.get("function_call"):
        for piece in _pieces(fields(function), "arguments"):
            yield {"delta": {"function_call": {"arguments": piece}}}
    for index, call in enumerate(items(message.get("tool_calls") or [])):
        for part in _call_parts(fields(call)):
            yield {"delta": {"tool_calls": [{**part, "index": index}]}}
    yield {"delta": {}}


def _pieces(within: Payload, name: str) -> Iterator[str]:
    value = within.get(name)
    return pieces("" if value is None else text(value))


def _opening(message: Payload) -> Payload:
    """Give the first delta: all that is no text, and each text as empty as it begins."""
    opening = {name: value for name, value in message.items() if name != "tool_calls"}
    for name in _TEXTS:
        if opening.get(name) is not None:
            opening[name] = ""
    if opening.get("function_call"):
        opening["function_call"] = _without_arguments(opening["function_call"])
    if "tool_calls" in message and not message["tool_calls"]:
        opening["tool_calls"] = message["tool_calls"]
    return opening


def _without_arguments(function: object) -> Payload:
    given = fields(function)
    return {**given, "arguments": ""} if given.get("arguments") else given


def _call_parts(call: Payload) -> Iterator[Payload]:
    function = call.get("function")
    if not function:
        yield call
        return
    yield {**call, "function": _without_arguments(function)}
    for piece in _pieces(fields(function), "arguments"):
        yield {"function": {"arguments": piece}}


def _content_spans(message: Payload, logprobs: object) -> list[tuple[str, slice]] | None:
    content, entries = message.get("content"), None
    if isinstance(logprobs, dict):
        entries = logprobs.get("content")
    if not isinstance(content, str) or not isinstance(entries, list):
        return None
    return token_spans(content, [fields(entry).get("token") for entry in entries])


def _empty_logprobs(choice: Payload) -> Payload:
    """Give the logprobs of an opening, which has no token: openai-python counts those twice."""
    if "logprobs" not in choice:
        return {}
    told = choice["logprobs"]
    return {"logprobs": told if told is None else _without_entries(fields(told))}


def _without_entries(logprobs: Payload) -> Payload:
    return {name: [] if isinstance(value, list) else value for name, value in logprobs.items()}


def _other_logprobs(logprobs: object, but: str) -> Payload:
    """Give those that no piece of text carries; none if there is no entry among them."""
    told = logprobs if isinstance(logprobs, dict) else {}
    entries = {k: v for k, v in told.items() if k != but and v and isinstance(v, list)}
    return {**dict.fromkeys(told), **entries} if entries else {}


def _with_logprobs(spans: list[tuple[str, slice]], logprobs: Payload) -> Iterator[Payload]:
    others = dict.fromkeys(logprobs)
    for piece, span in spans:
        yield {
            "delta": {"content": piece},
            "logprobs": {**others, "content": logprobs["content"][span]},
        }


CHAT = Kind(
    "chat.completion", "chat.completion.chunk", frozenset({"delta", "message"}), _take, _cut
)
