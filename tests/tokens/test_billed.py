"""Counts against bills: OpenAI's cookbook, recorded exchanges, and what cutting must not change."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter import tokens
from limiter.tokens import text as cutting
from limiter.tokens.messages import FRAME, priming

# "How to count tokens with tiktoken", OpenAI's cookbook: what its messages were billed.
SYSTEM = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
COOKBOOK = [
    {"role": "system", "content": SYSTEM},
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
    {"role": "system", "name": "example_user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
    {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
    {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
]  # fmt: skip
WEATHER = [
    {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
    {"role": "user", "content": "What's the weather like in San Francisco?"},
]  # fmt: skip
UNIT = {
    "type": "string",
    "description": "The unit of temperature to return",
    "enum": ["celsius", "fahrenheit"],
}
PLACE = {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}
TOOLS = [{"type": "function", "function": {
    "name": "get_current_weather", "description": "Get the current weather in a given location",
    "parameters": {"type": "object", "properties": {"location": PLACE, "unit": UNIT}, "required": ["location"]},
}}]  # fmt: skip


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(
    ("model", "billed"),
    [("gpt-3.5-turbo", 129), ("gpt-4-0613", 129), ("gpt-4", 129), ("gpt-4o", 124), ("gpt-4o-mini", 124)],
)  # fmt: skip
def test_the_cookbook_s_messages_are_billed_as_counted(model, billed):
    """OpenAI billed the example of its cookbook so; the count says the same, and that it is exact."""
    found = tokens.count_request({"model": model, "messages": COOKBOOK, "max_tokens": 1})
    assert (found.total, found.exact) == (billed, True)
    assert tokens.count(COOKBOOK, model) == billed


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(
    ("model", "billed"), [("gpt-3.5-turbo", 105), ("gpt-4", 105), ("gpt-4o", 101), ("gpt-4o-mini", 101)]
)  # fmt: skip
def test_the_cookbook_s_tools_are_billed_as_counted(model, billed):
    """Its formula meets its own example; that is no reason to call others exact."""
    found = tokens.count_request({"model": model, "messages": WEATHER, "tools": TOOLS})
    assert (found.total, found.exact) == (billed, False)


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(
    ("model", "billed"), [("gpt-3.5-turbo", 15), ("gpt-4", 15), ("gpt-5-nano", 15)]
)
def test_a_recorded_message_is_billed_as_counted(model, billed):
    """Recorded 2026-02-15 to 2026-03-31: this message was billed 15 tokens by three models."""
    message = [{"role": "user", "content": "Tell me a joke about opentelemetry"}]
    assert tokens.count(message, model) == billed


def exchange(model: str, text_bytes: int, messages: int, billed: int) -> dict[str, Any]:
    base = {"provider": "openai", "path": "/v1/chat/completions", "n_images": 0, "n_tools": 0}
    usage = {"prompt_tokens": billed}
    counts = {"model": model, "text_utf8_bytes": text_bytes, "n_messages": messages}
    return base | counts | {"usage": usage, "has_response_format": False}


# Copied from recordings: the shortest text of three models.
BY_HAND = [
    exchange("o1-mini", 30, 1, 14),
    exchange("gpt-3.5-turbo", 34, 1, 15),
    exchange("gpt-5-nano", 34, 1, 15),
]


def text_only_chats() -> list[tuple[dict[str, Any], int]]:
    """Return recorded text-only chats of OpenAI, with what is left of the bill without frames."""
    home = os.environ.get("LIMITER_SHARED_DATA")
    data = Path(home) if home else Path(__file__).parents[2].parent / "shared" / "data"
    file = data / "recorded_exchanges.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    found = []
    for row in BY_HAND + [json.loads(line) for line in lines]:
        is_chat = row["provider"] == "openai" and row["path"] == "/v1/chat/completions"
        more = row["n_tools"] or row["n_images"] or row["has_response_format"] or not row["usage"]
        if is_chat and not more and "audio" not in row["model"]:
            # The role of a message is one token, whichever it is.
            frames = priming(row["model"]) + row["n_messages"] * (FRAME + 1)
            found.append((row, row["usage"]["prompt_tokens"] - frames))
    return found


def test_frames_leave_a_plausible_text_of_every_recorded_chat():
    """What a bill leaves for the text is at least a token, and a token is 1 to 9 bytes of it.

    The recordings hold no text, so that only bounds can be checked. They are tight for the frames:
    the shortest texts leave one token, with a token more of framing they would leave none.
    """
    chats = text_only_chats()
    for row, left in chats:
        assert left >= 1, row
        assert left <= row["text_utf8_bytes"] <= 9 * left, row


TEXT = st.lists(
    st.sampled_from(["word", "Word", "it's", " ", "  ", "\n", "\r\n", "\n\n", "\t", ".", ",\n", "7", "é", "中", "'ll", "/"])
    | st.text(max_size=3),
    max_size=60,
).map("".join)  # fmt: skip


@pytest.mark.usefixtures("real")
@given(text=TEXT)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None
)
def test_seams_change_no_count(text):
    """A text that is cut at each seam counts what it counts in one piece, in both encodings."""
    ends = [0, *(found.end() for found in cutting._SEAM.finditer(text)), len(text)]
    for model in ("gpt-4o", "gpt-4"):
        encoding = tokens.encoding_for(model)
        pieces = [text[a:b] for a, b in itertools.pairwise(ends)]
        whole = len(encoding.encode_ordinary(text))
        assert sum(len(encoding.encode_ordinary(piece)) for piece in pieces) == whole


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("run", [" ", "\n", "a", "中", "\u0301", "1", "\ud800", "<|endoftext|>"])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
def test_endless_runs_are_counted(model, run):
    """A million characters without a word neither raise nor stop, and are not called exact."""
    text = run * (1_200_000 // len(run))
    assert 1 <= tokens.count(text, model) <= len(text.encode(errors="surrogatepass"))
    assert not tokens.count_request(text, None, model).exact


@pytest.mark.usefixtures("real")
def test_long_prose_is_exact():
    """A long text with words in it is cut at seams alone, and counts as in one piece."""
    text = "The quick brown fox, it's said, jumps over 12 lazy dogs.\n" * 12_000
    found = tokens.count_request(text, None, "gpt-4o")
    assert len(text) > 2 * cutting.PIECE_CHARS
    assert found == tokens.Count(len(tokens.encoding_for("gpt-4o").encode_ordinary(text)))
