"""Read a request body into the numbers that charging and answering need. Pure.

The charges follow what OpenAI's response headers showed (recorded exchanges, 2023 to 2026):

- Chat Completions since 2025-03: ceil(UTF-8 bytes of all message text / 4) + messages + 1, and a
  flat 765 for each image; neither max_tokens nor tool schemas are in it.
- Before: ceil(bytes / 4) + n x max_tokens (16 when unset), which is also what the guide describes.
- Responses: the billed input tokens + a hidden scaffold of 19, or 217 with a function tool
  (gpt-4o and gpt-4.1 families).
- Embeddings: about a quarter of the bytes of each input.

`CHARGES` are the ways in which providers go on from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

IMAGE_TOKENS = 765
DEFAULT_MAX_TOKENS = 16
SCAFFOLD_TOKENS = 19
FUNCTION_SCAFFOLD_TOKENS = 217

# The longest answer of the mock's models, which `reserve` takes where a body has no cap: Bedrock's
# quota guide has it so, with the maximum of each model.
LONGEST_TOKENS = 4_096

CHARGES = {
    "admission": "its input, as OpenAI was seen to",
    "documented": "its input and max_tokens, kept, as OpenAI and Azure write",
    "usage": "its input, at the end what it used, which may leave debt",
    "reserve": "its input and max_tokens, at the end what it used, as Bedrock does",
}
TRUED_UP = frozenset({"usage", "reserve"})


class BadBodyError(Exception):
    """Say that a body cannot be a request of this endpoint; `param` names the culprit."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Call:
    """Be a request, in numbers.

    Attributes:
        texts: every text that is charged, message by message (embeddings: input by input).
        max_tokens: the answer's cap; None if unset.
    """

    kind: str
    body: dict[str, Any]
    model: str
    texts: tuple[str | int, ...]
    images: int = 0
    n: int = 1
    max_tokens: int | None = None
    has_functions: bool = False
    is_streamed: bool = False
    includes_usage: bool = False

    @property
    def text_tokens(self) -> int:
        """Estimate the tokens of the text: a quarter of its bytes, rounded up."""
        if self.kind == "embeddings":
            return sum(_quarter(text) for text in self.texts)
        return -(-sum(_bytes(text) for text in self.texts) // 4)

    @property
    def prompt_tokens(self) -> int:
        """Give what `usage` bills for the input.

        Text, 4 for the frame of each message, 3 for the reply's start (OpenAI's cookbook), images.
        """
        if self.kind == "embeddings":
            return self.text_tokens
        tools = self.body.get("tools")
        schemas = len(json.dumps(tools)) // 4 if tools else 0
        frames = 4 * len(self.texts) + 3
        return self.text_tokens + frames + schemas + IMAGE_TOKENS * self.images

    def admission_tokens(self, charge: str) -> int:
        """Give what the call takes from the tokens before it runs, in a charge mode.

        Of `usage` that is its input only: no more is known of it yet, and the rest is charged when
        it is. `reserve` takes the most that it can come to, by what will be billed.
        """
        if self.kind == "embeddings":
            return max(1, self.text_tokens)
        if charge == "reserve":
            return self.prompt_tokens + self.n * (self.max_tokens or LONGEST_TOKENS)
        if charge == "documented":
            return self.text_tokens + self.n * (self.max_tokens or DEFAULT_MAX_TOKENS)
        if self.kind == "responses":
            scaffold = FUNCTION_SCAFFOLD_TOKENS if self.has_functions else SCAFFOLD_TOKENS
            return self.prompt_tokens + scaffold
        return chat_tokens(self.text_tokens, len(self.texts), self.images)


def chat_tokens(text_tokens: int, messages: int, images: int) -> int:
    """Give what Chat Completions takes at admission; `text_tokens` is ceil(bytes / 4)."""
    return text_tokens + messages + 1 + IMAGE_TOKENS * images


def _bytes(text: str | int) -> int:
    return len(text.encode()) if isinstance(text, str) else 4 * text


def _quarter(text: str | int) -> int:
    return -(-_bytes(text) // 4)


def read_call(kind: str, raw: bytes, model: str | None) -> Call:
    """Read a request body.

    Args:
        kind: "chat", "responses" or "embeddings".
        raw: the body as it came.
        model: the deployment's name, where the path has it; else the body must name a model.

    Raises:
        BadBodyError: it is no JSON object, or lacks what the endpoint needs.
    """
    try:
        body = json.loads(raw)
    except ValueError as exc:
        raise BadBodyError("We could not parse the JSON body of your request.") from exc
    if not isinstance(body, dict):
        raise BadBodyError("The JSON body of your request must be an object.")
    name = model or body.get("model")
    if not isinstance(name, str) or not name:
        raise BadBodyError("you must provide a model parameter", "model")
    return _READERS[kind](body, name)


def _chat(body: dict[str, Any], model: str) -> Call:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadBodyError("Missing required parameter: 'messages'.", "messages")
    texts, images = _read_messages(messages, "messages")
    limits = [_count(body, name) for name in ("max_completion_tokens", "max_tokens")]
    options = body.get("stream_options")
    return Call(
        "chat",
        body,
        model,
        texts,
        images,
        n=_count(body, "n") or 1,
        max_tokens=next((limit for limit in limits if limit is not None), None),
        is_streamed=bool(body.get("stream")),
        includes_usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _responses(body: dict[str, Any], model: str) -> Call:
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise BadBodyError("Missing required parameter: 'input'.", "input")
    texts, images = _read_messages(items, "input")
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        texts = (instructions, *texts)
    tools = body.get("tools")
    return Call(
        "responses",
        body,
        model,
        texts,
        images,
        max_tokens=_count(body, "max_output_tokens"),
        has_functions=isinstance(tools, list) and any(_is_function(tool) for tool in tools),
        is_streamed=bool(body.get("stream")),
    )


def _embeddings(body: dict[str, Any], model: str) -> Call:
    given = body.get("input")
    inputs = [given] if isinstance(given, str) else given
    if isinstance(inputs, list) and inputs and all(isinstance(item, int) for item in inputs):
        inputs = [inputs]
    if not isinstance(inputs, list) or not inputs:
        raise BadBodyError("Missing required parameter: 'input'.", "input")
    if not all(isinstance(item, str | list) for item in inputs):
        raise BadBodyError("'input' must hold strings, or lists of tokens.", "input")
    _count(body, "dimensions")
    texts = tuple(item if isinstance(item, str) else len(item) for item in inputs)
    return Call("embeddings", body, model, texts)


_READERS = {"chat": _chat, "responses": _responses, "embeddings": _embeddings}


def _is_function(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function"


def _count(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadBodyError(f"Invalid '{name}': integer not below 1 expected.", name)
    return value


def _read_messages(messages: list[Any], param: str) -> tuple[tuple[str, ...], int]:
    """Give the text of every message, and the number of images in all of them."""
    if not all(isinstance(message, dict) for message in messages):
        raise BadBodyError(f"Invalid type for '{param}': an array of objects expected.", param)
    read = [_read_content(message.get("content", message.get("output"))) for message in messages]
    return tuple(text for text, _ in read), sum(images for _, images in read)


def _read_content(content: Any) -> tuple[str, int]:
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list):
        return "", 0
    parts = [part for part in content if isinstance(part, dict)]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    images = sum(part.get("type") in {"image_url", "input_image"} for part in parts)
    return "".join(texts), images
