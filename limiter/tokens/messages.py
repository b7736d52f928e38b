"""The messages of a prompt: their text, their frames, their images, and what is not known of them.

Pure. Works on plain JSON data (`text.plain`), of whatever shape; nothing here raises. What was not
seen to be billed as it is counted goes to `Tally.assumptions`, in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limiter.providers.content import READ, is_image, texts
from limiter.tokens.images import image_tokens
from limiter.tokens.sizes import size_of
from limiter.tokens.text import doubts, tokens_of

if TYPE_CHECKING:
    import tiktoken

# Around each message, beside the tokens of its role; and what starts the reply. Exact in 434 of
# 434 recorded text-only calls of gpt-3.5-turbo to gpt-4.1. From gpt-5 on the reply's start is one
# less: 11 of 11 recordings of gpt-5, 5-mini, 5-nano, 5.6-sol and o3-mini (o3, o4 and gpt-6 are
# taken to be alike).
FRAME, NAME, PRIMING, SHORT_PRIMING = 3, 1, 3, 2
_SHORT = re.compile(r"(ft:)?(gpt-[5-9]|o[3-9])")

# What recordings and OpenAI's cookbook have; of `developer`, `tool` and `function` there is none.
_ROLES = frozenset({"system", "user", "assistant"})
_TEXTS = frozenset({"text", "input_text", "output_text"})
_UNREAD = frozenset({"audio", "file", "input_audio", "input_file"})
_INLINE = ("source", "inlineData", "inline_data", "image")
_KNOWN = frozenset({
    "role", "content", "name", "tool_calls", "function_call", "tool_call_id", "refusal",
    "type", "id", "status",
})  # fmt: skip


class Tally:
    """Add up the parts of a prompt.

    Attributes:
        text, framing, tools, images: tokens.
        assumptions: why the sum may differ from the bill; ordered, each once.
    """

    def __init__(self, model: str, encoding: tiktoken.Encoding | None) -> None:
        self.model, self.encoding = model, encoding
        self.text = self.framing = self.tools = self.images = 0
        self.assumptions: dict[str, None] = {}

    def assume(self, *reasons: str) -> None:
        """Remember why the sum may differ from the bill."""
        self.assumptions.update(dict.fromkeys(reasons))

    def tokens(self, text: str) -> int:
        """Return the tokens of a text, its doubts remembered."""
        self.assume(*(doubts(text) if self.encoding else ()))
        return tokens_of(self.encoding, text)


def priming(model: str) -> int:
    """Return the tokens that start the reply."""
    return SHORT_PRIMING if _SHORT.match(model) else PRIMING


def add_prompt(tally: Tally, instructions: object, messages: object) -> None:
    """Add a whole conversation, its instructions as a system message before it."""
    tally.framing += priming(tally.model)
    if instructions:
        add_message(tally, {"role": "system", "content": instructions})
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    for message in messages if isinstance(messages, list) else [messages] if messages else ():
        add_message(tally, message)


def add_message(tally: Tally, message: object) -> None:
    """Add one message, or one item of /responses' input."""
    tally.framing += FRAME
    if not isinstance(message, Mapping):
        tally.assume("a message that is no object is counted by its text")
        _add_texts(tally, message)
        return
    kind = _word(message.get("type")) or "message"
    if kind == "message":
        _add_spoken(tally, message)
    elif kind in {"function_call", "custom_tool_call"}:
        _add_call(tally, message)
    elif kind in {"function_call_output", "custom_tool_call_output"}:
        tally.assume("the results of tools are framed like messages")
        _add_content(tally, message.get("output"))
    else:
        tally.assume(f"an item of the type {kind!r:.40} is counted by its text")
        _add_texts(tally, message)


def _add_spoken(tally: Tally, message: Mapping[str, Any]) -> None:
    role, name = _word(message.get("role")), message.get("name")
    tally.framing += tally.tokens(role)
    if role not in _ROLES:
        tally.assume(f"a message of the role {role!r:.40} is framed like any other")
    if isinstance(name, str):
        tally.framing += NAME + tally.tokens(name)
    _add_content(tally, message.get("content", message.get("parts")))
    if message.get("refusal"):
        tally.assume("refusals are counted as text")
        _add_texts(tally, message["refusal"])
    calls = message.get("tool_calls")
    for call in [*(calls if isinstance(calls, list) else ()), message.get("function_call")]:
        if isinstance(call, Mapping):
            tally.framing += FRAME
            _add_call(tally, call)
    for field in message:
        if message[field] and field not in _KNOWN and field != "parts":
            tally.assume(f"the field {field!r:.40} of a message is not counted")


def _add_call(tally: Tally, call: Mapping[str, Any]) -> None:
    """Add a call that the model made: an estimate, no recording holds the text of one."""
    tally.assume(f"a tool call is taken for {FRAME} tokens, its name and its arguments")
    called = call.get("function") or call.get("custom") or call
    for field in ("name", "arguments", "input"):
        _add_texts(tally, called.get(field) if isinstance(called, Mapping) else None)


def _add_content(tally: Tally, content: object) -> None:
    parts = content if isinstance(content, list) else [content]
    written = sum(_add_part(tally, part) for part in parts if part)
    if written > 1:
        tally.assume("several parts of text in one message are counted one by one")


def _add_part(tally: Tally, part: object) -> bool:
    """Add a part of a message; return whether it was text."""
    if isinstance(part, str):
        tally.text += tally.tokens(part)
        return True
    kind = _word(part.get("type")) if isinstance(part, Mapping) else ""
    if isinstance(part, Mapping) and is_image(part):
        _add_image(tally, part)
    elif isinstance(part, Mapping) and kind in _TEXTS and isinstance(part.get("text"), str):
        tally.text += tally.tokens(part["text"])
        return True
    elif kind in _UNREAD:
        tally.assume(f"a part of the type {kind!r:.40} is not counted")
    else:
        tally.assume(f"a part of the type {kind!r:.40} is counted by its text")
        _add_texts(tally, part)
    return False


def _add_texts(tally: Tally, value: object) -> None:
    tally.text += sum(map(tally.tokens, texts(value, READ)))


def _add_image(tally: Tally, part: Mapping[str, Any]) -> None:
    place = part.get("image_url")
    inner = place if isinstance(place, Mapping) else {}
    url = inner.get("url") if inner else place or _inline(part)
    detail = str(inner.get("detail") or part.get("detail") or "auto")
    size = size_of(url) if isinstance(url, str) else None
    tokens, assumed = image_tokens(tally.model, size, detail)
    tally.images += tokens
    tally.assume(*assumed)


def _inline(part: Mapping[str, Any]) -> object:
    """Return the base64 of an image as Anthropic, Gemini and Bedrock spell it."""
    inner: Any = next((part[name] for name in _INLINE if name in part), None)
    if isinstance(inner, Mapping) and isinstance(inner.get("source"), Mapping):
        inner = inner["source"]
    return (inner.get("data") or inner.get("bytes")) if isinstance(inner, Mapping) else inner


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def listed(value: object) -> Sequence[Any]:
    """Return a list of the body, or an empty one."""
    return value if isinstance(value, list) else ()
