"""Which calls have answers that are alike in length: what they have in common, as the text of a key.

Pure. Each key is learned by itself, so there are few: by endpoint, model, how much it is told to think,
and the power of two that holds the body's own cap. Caps are set by programs, so they tell these apart;
what a prompt asks for, and on whose behalf, is not in it.
"""

from __future__ import annotations

from limiter.providers.bodies import longest_answer, mapping
from limiter.providers.endpoints import endpoint
from limiter.providers.profile import Body, field
from limiter.providers.routing import model_of, undated

_TEXT_MAX = 120


def output_key(path: str, body: Body) -> str:
    """Name the calls whose answers become about as long as that of a POST of `body` to `path`.

    `chat 10 gpt-4o` is a chat with a cap of 513 to 1024 tokens. Short and ASCII, whatever a body holds.
    """
    body = mapping(body)
    model = undated(model_of(path, body) or "")
    parts = (endpoint(path) or "", _class(longest_answer(body)), _effort(body), model)
    text = " ".join(part for part in parts if part)
    return text.encode("ascii", "backslashreplace")[:_TEXT_MAX].decode()


def _class(longest: int | None) -> str:
    return "any" if longest is None else str(max(0, longest - 1).bit_length())


def _effort(body: Body) -> str:
    """Return how much the model is told to think, as OpenAI's two APIs and Anthropic's have it."""
    said = (
        body.get("reasoning_effort"),
        field(body.get("reasoning"), "effort"),
        field(body.get("thinking"), "type"),
    )
    return next((each[:20] for each in said if isinstance(each, str)), "")
