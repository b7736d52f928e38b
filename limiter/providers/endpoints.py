"""Which endpoint a path leads to, whatever stands before it: `/v1`, an Azure deployment, a host.

Pure text matching on the path's end, so that every compatible `base_url` works. Gemini and Bedrock
name the model in the path too.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import unquote

Endpoint = Literal[
    "chat", "responses", "completions", "embeddings", "messages", "generate", "converse", "invoke",
    "images", "request",
]  # fmt: skip

# Those that write an answer, of a length that is not known before.
WRITING: frozenset[Endpoint | None] = frozenset({
    "chat", "responses", "completions", "messages", "generate", "converse", "invoke",
})  # fmt: skip

# The paths that consume a quota when POSTed to (openai-python 3.54 and Anthropic's API). Of those
# marked "request" only the request itself is known in advance. Absent on purpose: /batches (has a
# queue limit of its own), /responses/input_tokens and /files (cost no tokens of the model).
_TAILS: dict[tuple[str, ...], Endpoint] = {
    ("chat", "completions"): "chat",
    ("responses",): "responses",
    ("responses", "compact"): "responses",
    ("completions",): "completions",
    ("embeddings",): "embeddings",
    ("v1", "messages"): "messages",
    ("images", "generations"): "images",
    ("images", "edits"): "images",
    ("images", "variations"): "images",
    ("audio", "speech"): "request",
    ("audio", "transcriptions"): "request",
    ("audio", "translations"): "request",
    ("moderations",): "request",
    ("videos",): "request",
    ("runs",): "request",
}

# Gemini's: `/v1beta/models/{model}:generateContent`, on Vertex AI behind `/publishers/google`.
_VERBS: dict[str, Endpoint] = {
    "generateContent": "generate",
    "streamGenerateContent": "generate",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
    "predict": "request",
}

# Bedrock's: `/model/{id}/converse`. An id may be an ARN, with a slash in it.
_ACTIONS: dict[str, Endpoint] = {
    "converse": "converse",
    "converse-stream": "converse",
    "invoke": "invoke",
    "invoke-with-response-stream": "invoke",
}


def segments(path: str) -> list[str]:
    """Split a path or URL into its parts, without the query and without empty parts."""
    return [part for part in path.partition("?")[0].split("/") if part]


def endpoint(path: str) -> Endpoint | None:
    """Name the endpoint of a POST; None when a call there takes nothing from a quota.

    A path below an endpoint (`/responses/{id}/cancel`, `/threads/{id}/messages`) is another one.
    """
    parts = segments(path)
    if (model := model_in(parts)) is None:
        return _TAILS.get(tuple(parts[-2:])) or _TAILS.get(tuple(parts[-1:]))
    if kind := _VERBS.get(_verb(parts)):
        return kind
    # Titan's and Cohere's embeddings are invoked like any other model of Bedrock's.
    return "embeddings" if "embed" in model else _ACTIONS[parts[-1]]


def model_in(parts: list[str]) -> str | None:
    """Return the model that a path of Gemini's or Bedrock's names; None for all other paths."""
    if not parts:
        return None
    if _verb(parts) in _VERBS:
        return unquote(parts[-1]).rpartition(":")[0] or None
    if parts[-1] in _ACTIONS and "model" in parts[:-2]:
        return unquote("/".join(parts[parts.index("model") + 1 : -1]))
    return None


def _verb(parts: list[str]) -> str:
    return unquote(parts[-1]).rpartition(":")[2]
