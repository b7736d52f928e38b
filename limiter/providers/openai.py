"""How OpenAI charges a call: at admission by bytes, later by what the response says.

Formulas stand as functions of counts, so that they can be checked against recordings that hold
counts and no text. All are inferred from headers (limit - remaining after one call on an idle
bucket) unless a document is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from limiter.providers.accounting import Accounting, Call
from limiter.providers.bodies import (
    IMAGE_TOKENS,
    answers,
    expected_output,
    input_tokens,
    longest_answer,
    read,
    spoken,
)
from limiter.providers.content import Content, text_tokens
from limiter.providers.endpoints import WRITING, Endpoint, endpoint
from limiter.providers.profile import Body, Rule, Usage, check_rule

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


def chat_tokens(text_bytes: int, messages: int, images: int = 0) -> int:
    """Return what a chat completion is charged at admission since 2025-03-18.

    Within -2..+2 in 418 of 418 recordings, exact in 64 %. `max_tokens`, `n`, tools and response
    formats are not in it, and nothing is added when the answer is known.
    """
    return text_tokens(text_bytes) + messages + 1 + IMAGE_TOKENS * images


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


class OpenAI(Accounting):
    """Count as api.openai.com does: at admission by bytes; input from a cache counts in full."""

    name = "openai"

    def output_counts(self, path: str, body: Body, rule: Rule) -> bool:
        """See `Profile.output_counts`: under `"usage"` alone.

        At admission no expected answer is charged. /responses charge one when it is known, beyond
        what stood for it; `"documented"` reserves the body's maximum.
        """
        check_rule(rule)
        del body
        return rule == "usage" and endpoint(path) in WRITING

    def _before(self, call: Call, output_tokens: int | None) -> dict[str, int]:
        kind, body = call.kind, call.body
        # What a chat's tools and tool calls are is billed, but not charged at admission.
        seen = spoken if kind == "chat" and call.rule != "usage" else read
        content, messages = seen(kind, body)
        images = {"input_images": content.images} if content.images else {}
        if call.rule == "documented":
            return {"tokens": documented_tokens(kind, body, content), **images}
        match kind:
            case "chat":
                tokens = chat_tokens(content.text_bytes, messages, content.images)
            case "completions" | "embeddings":
                tokens = text_tokens(content.text_bytes) + content.token_ids
            case _:
                tokens = input_tokens(content.text_bytes, messages, content.images)
        if call.rule == "usage" and kind in WRITING:
            tokens += expected_output(body, output_tokens)
        elif kind == "responses":
            tokens += _scaffold(call)
        return {"tokens": tokens, **images}

    def _after(self, call: Call, estimate: Mapping[str, int], usage: Usage) -> dict[str, int]:
        if (total := usage.total) is None:
            return {}
        if call.rule != "admission":
            return {"tokens": total}
        if call.kind != "responses":
            return {}
        written = usage.output_tokens or 0
        tokens = response_tokens(total - written, written, _scaffold(call))
        # An image is charged 765 and billed less, so the billed tokens say too little.
        least = estimate.get("tokens", 0) if read(call.kind, call.body)[0].images else 0
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


def _scaffold(call: Call) -> int:
    tools = call.body.get("tools")
    listed = tools if isinstance(tools, Sequence) else []
    functions = any(isinstance(t, Mapping) and t.get("type") == "function" for t in listed)
    return scaffold_tokens(call.model, function_tools=functions)
