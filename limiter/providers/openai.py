"""How OpenAI charges a call: at admission by bytes, later by what the response says.

Formulas stand as functions of counts, so that they can be checked against recordings that hold
counts and no text. All are inferred from headers (limit - remaining after one call on an idle
bucket) unless a document is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from limiter.providers.content import READ, Content, json_bytes, measure
from limiter.providers.endpoints import Endpoint, endpoint
from limiter.providers.profile import (
    Body,
    Rule,
    Usage,
    answers,
    bounded,
    charged_by_failure,
    check_rule,
    expected_output,
    longest_answer,
    usage_of,
)

# Flat, whatever the model, size or detail (9 of 9 recorded chat completions with one image).
IMAGE_TOKENS = 765

# The default of max_tokens on /completions (OpenAI's API reference).
_LEGACY_MAX_TOKENS = 16

# What /responses adds to the billed input tokens at admission, without and with function tools.
# Exact in 17 of 19 recordings for gpt-4o and 4.1; gpt-5-nano stands for the first gpt-5 models,
# gpt-5.4 and 5.5 for all later ones (of gpt-5.6 and gpt-6 no recording is known).
_SCAFFOLDS = (
    (re.compile(r"gpt-(5\.([4-9]|\d\d)|[6-9])"), (163, 449)),
    (re.compile(r"gpt-5"), (217, 496)),
)
_SCAFFOLD = (19, 217)


def text_tokens(text_bytes: int) -> int:
    """Return ceil(bytes/4), which is how OpenAI's limiter counts text; no tokenizer is in it.

    Legacy completions: exact in 57 of 66 recordings. Embeddings: the sum over all inputs, at
    most 1 above what was charged in 94 of 101.
    """
    return -(-text_bytes // 4)


def chat_tokens(text_bytes: int, messages: int, images: int = 0) -> int:
    """Return what a chat completion is charged at admission since 2025-03-18.

    Within -2..+2 in 418 of 418 recordings, exact in 64 %. `max_tokens`, `n`, tools and response
    formats are not in it, and nothing is added when the answer is known.
    """
    return text_tokens(text_bytes) + messages + 1 + IMAGE_TOKENS * images


def input_tokens(text_bytes: int, messages: int, images: int = 0) -> int:
    """Guess the billed input tokens of a call from bytes: 3, and 4 for each message's frame."""
    return text_tokens(text_bytes) + 4 * messages + 3 + IMAGE_TOKENS * images


def scaffold_tokens(model: str, *, function_tools: bool) -> int:
    """Return what /responses charges on top of the input, before the answer is known."""
    plain, with_functions = next(
        (pair for pattern, pair in _SCAFFOLDS if pattern.match(model)), _SCAFFOLD
    )
    return with_functions if function_tools else plain


def response_tokens(given: int, written: int, scaffold: int) -> int:
    """Return what a completed /responses call was charged in all.

    `given + scaffold` at admission, then `max(0, written - scaffold)` (16 of 16 recorded
    gpt-5-nano calls with 217, 2 of 2 gpt-5.4 with 163). Cached input counts in full.
    """
    return given + scaffold + max(0, written - scaffold)


class OpenAI:
    """Count as api.openai.com does.

    Other providers with an API of this shape override `_tokens` and `_charged`.
    """

    name = "openai"

    def estimate(
        self,
        path: str,
        body: Body,
        *,
        rule: Rule = "admission",
        output_tokens: int | None = None,
    ) -> dict[str, int] | None:
        """See `Profile.estimate`."""
        check_rule(rule)
        kind, body = endpoint(path), mapping(body)
        match kind:
            case None:
                return None
            case "request":
                return {"requests": 1}
            case "images":
                return bounded({"requests": 1, "images": answers(body)})
        expected = 0 if kind == "embeddings" else expected_output(body, output_tokens)
        return bounded({"requests": 1, **self._tokens(kind, body, rule, expected)})

    def settled(
        self,
        path: str,
        estimate: Mapping[str, int],
        usage: Usage | None,
        *,
        rule: Rule = "admission",
        body: Body | None = None,
    ) -> dict[str, int]:
        """See `Profile.settled`."""
        check_rule(rule)
        kind, cost = endpoint(path), dict(estimate)
        if usage is None or kind is None:
            return cost
        if body is not None:
            usage = usage.completed_by(guessed_input(kind, mapping(body)))
        charged = self._charged(kind, cost, usage, rule, mapping(body))
        return cost | bounded({name: n for name, n in charged.items() if name in cost})

    def failure(self, status: int | None, estimate: Mapping[str, int]) -> dict[str, int]:
        """See `Profile.failure`."""
        return charged_by_failure(status, estimate)

    def usage(self, payload: object) -> Usage | None:
        """See `Profile.usage`."""
        return usage_of(payload)

    def _tokens(self, kind: Endpoint, body: Body, rule: Rule, expected: int) -> dict[str, int]:
        """Return what a call takes before it, without its request."""
        content, messages = read(kind, body)
        images = {"input_images": content.images} if content.images else {}
        if rule == "documented":
            return {"tokens": documented_tokens(kind, body, content), **images}
        match kind:
            case "chat":
                tokens = chat_tokens(content.text_bytes, messages, content.images)
            case "responses" | "messages":
                tokens = input_tokens(content.text_bytes, messages, content.images)
            case _:
                tokens = text_tokens(content.text_bytes) + content.token_ids
        if rule == "usage":
            return {"tokens": tokens + expected, **images}
        scaffold = _scaffold(body) if kind == "responses" else 0
        return {"tokens": tokens + scaffold, **images}

    def _charged(
        self, kind: Endpoint, estimate: Mapping[str, int], usage: Usage, rule: Rule, body: Body
    ) -> dict[str, int]:
        """Return what a call took in all, for the dimensions that its usage decides."""
        if (total := usage.total) is None:
            return {}
        if rule != "admission":
            return {"tokens": total}
        if kind != "responses":
            return {}
        written = usage.output_tokens or 0
        tokens = response_tokens(total - written, written, _scaffold(body))
        # An image is charged 765 and billed less, so the billed tokens say too little.
        least = estimate.get("tokens", 0) if read(kind, body)[0].images else 0
        return {"tokens": max(least, tokens)}


def documented_tokens(kind: Endpoint, body: Body, content: Content) -> int:
    """Return bytes/4 plus the answers' largest possible length.

    OpenAI's rate-limit guide: the estimate by characters and `max_tokens` count (it says the
    larger one; their sum was observed until 2025-02 and is the safe side). Azure's quota guide:
    prompt text, `max_tokens` and `best_of`.
    """
    text = text_tokens(content.text_bytes) + content.token_ids + IMAGE_TOKENS * content.images
    unset = _LEGACY_MAX_TOKENS if kind == "completions" else 0
    longest = longest_answer(body)
    return text + answers(body) * (unset if longest is None else longest)


def read(kind: Endpoint, body: Body) -> tuple[Content, int]:
    """Measure what a body gives the model to read, and count its messages."""
    match kind:
        case "chat":
            return measure(body.get("messages")), _length(body.get("messages"))
        case "responses":
            parts, messages = [body.get("instructions"), body.get("input")], body.get("input")
        case "messages":
            parts, messages = [body.get("system"), body.get("messages")], body.get("messages")
        case "completions":
            return measure(body.get("prompt")), 0
        case _:
            return measure(body.get("input")), 0
    found = measure(parts, READ)
    text_bytes = found.text_bytes + json_bytes(body.get("tools"))
    return Content(text_bytes, found.images, found.token_ids), _length(messages) + bool(parts[0])


def guessed_input(kind: Endpoint, body: Body) -> int:
    """Guess the billed input of a call whose response did not say it."""
    content, messages = read(kind, body)
    return input_tokens(content.text_bytes, messages, content.images) + content.token_ids


def _scaffold(body: Body) -> int:
    tools = body.get("tools")
    listed = tools if isinstance(tools, Sequence) else []
    functions = any(isinstance(t, Mapping) and t.get("type") == "function" for t in listed)
    return scaffold_tokens(str(body.get("model") or ""), function_tools=functions)


def _length(messages: object) -> int:
    if isinstance(messages, str):
        return 1
    return len(messages) if isinstance(messages, Sequence) else 0


def mapping(body: object) -> Mapping[str, Any]:
    """Return `body` if it is a JSON object, else an empty one."""
    return body if isinstance(body, Mapping) else {}
