"""What a request gives the model to read, and how long its answers may become.

Pure. Bodies of all endpoints are read here, in every provider's spelling; what of it is charged is the
profiles' business. Whatever a body holds, nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limiter.providers.content import (
    READ,
    SPOKEN,
    Content,
    amount,
    json_bytes,
    measure,
    text_tokens,
)
from limiter.providers.endpoints import Endpoint
from limiter.providers.profile import EXPECTED_OUTPUT_TOKENS, Body, field, first

# Flat, whatever the model, size or detail (9 of 9 recorded chat completions with one image). Others
# bill an image less or more; what they do is told by the answer.
IMAGE_TOKENS = 765

# Where the instructions and the messages stand, by endpoint; the first of several that is there.
_INSTRUCTIONS: dict[Endpoint, tuple[str, ...]] = {
    "responses": ("instructions",),
    "messages": ("system",),
    "generate": ("systemInstruction", "system_instruction"),
    "converse": ("system",),
    "invoke": ("system",),
}
_MESSAGES: dict[Endpoint, tuple[str, ...]] = {
    "chat": ("messages",),
    "responses": ("input",),
    "completions": ("prompt",),
    "embeddings": ("input", "content", "requests", "inputText", "texts"),
    "messages": ("messages",),
    "generate": ("contents",),
    "converse": ("messages",),
    "invoke": ("messages", "prompt", "inputText"),
}
_TOOLS = ("tools", "functions", "toolConfig")
_FRAMELESS: tuple[Endpoint, ...] = ("completions", "embeddings")  # plain text, no messages

# The cap on one answer's tokens, by provider and generation; then where it stands deeper.
_LONGEST = (
    "max_completion_tokens", "max_output_tokens", "max_tokens", "max_gen_len",
    "max_tokens_to_sample",
)  # fmt: skip
_SETTINGS = (
    ("generationConfig", "maxOutputTokens"),
    ("generation_config", "max_output_tokens"),
    ("inferenceConfig", "maxTokens"),
    ("textGenerationConfig", "maxTokenCount"),
)


def read(kind: Endpoint, body: Body) -> tuple[Content, int]:
    """Measure what a body gives the model to read, its tools too, and count its messages."""
    found, messages = _measured(kind, body, READ)
    tools = 0 if kind in _FRAMELESS else sum(json_bytes(body.get(name)) for name in _TOOLS)
    return Content(found.text_bytes + tools, found.images, found.token_ids), messages


def spoken(kind: Endpoint, body: Body) -> tuple[Content, int]:
    """Measure the text and images of a body's messages alone, and count them.

    No tools (74 of 74 recorded chat completions), no response format (52 of 52), no tool calls.
    """
    return _measured(kind, body, SPOKEN)


def guessed_input(kind: Endpoint, body: Body) -> int:
    """Guess the billed input of a call before its answer says it."""
    content, messages = read(kind, body)
    return input_tokens(content.text_bytes, messages, content.images) + content.token_ids


def input_tokens(text_bytes: int, messages: int, images: int = 0) -> int:
    """Guess the billed input tokens of a call from bytes: 3, and 4 for each message's frame."""
    return text_tokens(text_bytes) + 4 * messages + 3 + IMAGE_TOKENS * images


def answers(body: Body) -> int:
    """Return how many answers a request asks for: the largest of what says it, at least 1."""
    several = field(body.get("generationConfig"), "candidateCount")
    return max(1, *(amount(n) or 1 for n in (body.get("n"), body.get("best_of"), several)))


def longest_answer(body: Body) -> int | None:
    """Return the body's own cap on the tokens of one answer; None when it sets none."""
    cap = first(body, *_LONGEST)
    if cap is not None:
        return cap
    caps = (first(body.get(settings), name) for settings, name in _SETTINGS)
    return next((cap for cap in caps if cap is not None), None)


def expected_output(body: Body, output_tokens: int | None) -> int:
    """Return the tokens to expect of all answers: the guess, capped by the body, times n."""
    guess = EXPECTED_OUTPUT_TOKENS if output_tokens is None else output_tokens
    cap = longest_answer(body)
    return answers(body) * (guess if cap is None else min(guess, cap))


def mapping(body: object) -> Mapping[str, Any]:
    """Return `body` if it is a JSON object, else an empty one."""
    return body if isinstance(body, Mapping) else {}


def _length(messages: object) -> int:
    if isinstance(messages, str):
        return 1
    return len(messages) if isinstance(messages, Sequence) else 0


def _measured(kind: Endpoint, body: Body, keys: frozenset[str]) -> tuple[Content, int]:
    given = _there(body, _MESSAGES.get(kind, ("input",)))
    if kind in _FRAMELESS:
        return measure(given, keys | {"parts"}), 0
    instructions = _there(body, _INSTRUCTIONS.get(kind, ()))
    return measure([instructions, given], keys), _length(given) + bool(instructions)


def _there(body: Body, names: Sequence[str]) -> object:
    return next((body[name] for name in names if body.get(name)), None)
