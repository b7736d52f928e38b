"""Which endpoint a path leads to, whatever stands before it: `/v1`, an Azure deployment, a host.

Pure text matching on the path's end, so that every OpenAI-compatible `base_url` works.
"""

from __future__ import annotations

from typing import Literal

Endpoint = Literal[
    "chat", "responses", "completions", "embeddings", "messages", "images", "request"
]

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


def segments(path: str) -> list[str]:
    """Split a path or URL into its parts, without the query and without empty parts."""
    return [part for part in path.partition("?")[0].split("/") if part]


def endpoint(path: str) -> Endpoint | None:
    """Name the endpoint of a POST; None when a call there takes nothing from a quota.

    A path below an endpoint (`/responses/{id}/cancel`, `/threads/{id}/messages`) is another one.
    """
    parts = segments(path)
    return _TAILS.get(tuple(parts[-2:])) or _TAILS.get(tuple(parts[-1:]))
