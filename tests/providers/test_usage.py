"""Usage is read from everything that a caller may hand over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from openai.types import CompletionUsage, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import ResponseUsage

from limiter.providers import Usage, profile

CHAT_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
RESPONSE_USAGE = {
    "input_tokens": 10,
    "output_tokens": 5,
    "total_tokens": 15,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 3},
}
ANTHROPIC_USAGE = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 100,
    "output_tokens": 9,
}
GEMINI_USAGE = {
    "promptTokenCount": 110,
    "toolUsePromptTokenCount": 7,
    "cachedContentTokenCount": 100,
    "candidatesTokenCount": 6,
    "thoughtsTokenCount": 3,
    "totalTokenCount": 126,
}
GEMINI_SDK = {
    "prompt_token_count": 110,
    "tool_use_prompt_token_count": 7,
    "cached_content_token_count": 100,
    "candidates_token_count": 6,
    "thoughts_token_count": 3,
    "total_token_count": 126,
}
GEMINI = Usage(117, 9, 126, 100, 3)
BEDROCK_USAGE = {
    "inputTokens": 7,
    "outputTokens": 9,
    "totalTokens": 16,
    "cacheWriteInputTokens": 5,
    "cacheReadInputTokens": 100,
}
FULL = Usage(10, 5, 15, 4, 3)
CHAT = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": []}
EMBEDDING = {
    "data": [],
    "model": "m",
    "object": "list",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}


class OnlyDumps:
    def model_dump(self):
        return {"usage": RESPONSE_USAGE}


class DumpsNonsense:
    def model_dump(self):
        return []


@pytest.mark.parametrize(
    ("payload", "usage"),
    [
        (FULL, FULL),
        (CHAT_USAGE, FULL),
        (RESPONSE_USAGE, FULL),
        ({"usage": CHAT_USAGE, "choices": []}, FULL),
        ({"type": "response.completed", "response": {"usage": RESPONSE_USAGE}}, FULL),
        (CompletionUsage(**CHAT_USAGE), FULL),
        (ResponseUsage(**RESPONSE_USAGE), FULL),
        (ChatCompletion(**CHAT, usage=CHAT_USAGE), FULL),
        (ChatCompletion(**CHAT), None),
        (CreateEmbeddingResponse(**EMBEDDING), Usage(8, None, 8)),
        (SimpleNamespace(usage=SimpleNamespace(**RESPONSE_USAGE)), FULL),
        (OnlyDumps(), FULL),
        (DumpsNonsense(), None),
        (ChatCompletion, None),
        (
            {"message": {"usage": {"input_tokens": 7, "cache_read_input_tokens": 2}}},
            Usage(7, cache_read_tokens=2),
        ),
        ({"usage": ANTHROPIC_USAGE}, Usage(12, 9, cache_read_tokens=100)),
        ({"usageMetadata": GEMINI_USAGE}, GEMINI),
        ([{"usageMetadata": {"promptTokenCount": 9}}, {"usageMetadata": GEMINI_USAGE}, {}], GEMINI),
        (SimpleNamespace(usage_metadata=SimpleNamespace(**GEMINI_SDK)), GEMINI),
        ({"usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}}, Usage(9, None, 9)),
        ({"usageMetadata": {"totalTokenCount": 9}}, Usage(total_tokens=9)),
        ({"usage": {"outputTokens": 9}}, Usage(None, 9)),
        ({"usage": BEDROCK_USAGE}, Usage(12, 9, cache_read_tokens=100)),
        ({"metadata": {"usage": BEDROCK_USAGE}}, Usage(12, 9, cache_read_tokens=100)),
        ({"x_groq": {"id": "r", "usage": CHAT_USAGE}}, FULL),
        ({"usage": {**CHAT_USAGE, "cache_read_input_tokens": 4}}, FULL),
        ({"usage": {"type": "duration", "seconds": 3}}, None),
        ({"usage": {"prompt_tokens": "10", "completion_tokens": -5}}, None),
        ({"usage": None}, None),
        (812, Usage(total_tokens=812)),
        (812.0, Usage(total_tokens=812)),
        (True, None),
        ("812", None),
        (None, None),
    ],
)
def test_usage_is_found_wherever_it_stands(payload, usage):
    """Dicts, SDK objects, stream events and numbers give the same usage; nothing else gives one."""
    assert profile("openai").usage(payload) == usage


def test_a_total_is_given_or_added_up():
    """The total is the provider's own, else the sum, else unknown."""
    assert Usage(1, 2, 9).total == 9
    assert Usage(1, 2).total == 3
    assert Usage(1).total is None
    assert Usage(output_tokens=2).total is None
    assert Usage(output_tokens=2).completed_by(5).total == 7


@pytest.mark.parametrize(
    ("usage", "sides"),
    [
        (Usage(10, 5, 15, 4), (10, 4, 5)),
        (Usage(10, 5, cache_read_tokens=100), (110, 100, 5)),
        (Usage(10, 5, 40), (10, 0, 30)),  # xAI: 25 of reasoning stand beside the 5
        (Usage(8, None, 8), (8, 0, 0)),
        (Usage(None, 5, 15), (10, 0, 5)),
        (Usage(None, 20, 15), (0, 0, 20)),
        (Usage(10, 5, 12), (10, 0, 5)),
        (Usage(10, 5, cached_tokens=99), (10, 10, 5)),
        (Usage(total_tokens=15), None),
        (Usage(10), None),
        (Usage(None, 5), None),
    ],
)
def test_both_sides_follow_from_what_is_told(usage, sides):
    """Input with all that came from a cache, that part of it, and output with hidden reasoning."""
    assert usage.sides == sides
