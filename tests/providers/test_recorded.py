"""The formulas against real traffic: counts and headers of recorded exchanges, without text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from limiter.providers.openai import (
    chat_tokens,
    response_tokens,
    scaffold_tokens,
    text_tokens,
)

Exchange = dict[str, Any]

CHAT_RULE_SINCE = datetime(2025, 3, 18, tzinfo=UTC)


def exchange(path: str, model: str, text: int, used: int, **more: Any) -> Exchange:
    """Make a recorded exchange by hand, with only the fields that the laws read."""
    headers = {
        "date": "Tue, 31 Mar 2026 13:13:01 GMT",
        "x-ratelimit-limit-tokens": "1000000",
        "x-ratelimit-remaining-tokens": str(1_000_000 - used),
    }
    base = {"provider": "openai", "n_images": 0, "n_messages": 1, "n_tools": 0, "stream": False}
    return base | {"path": path, "model": model, "text_utf8_bytes": text, "headers": headers} | more


def spent(given: int, written: int) -> dict[str, int]:
    return {"input_tokens": given, "output_tokens": written}


# One of each kind, copied from recordings, so that the laws hold something without the file.
BY_HAND = [
    exchange("/v1/chat/completions", "o1-mini", 30, 10),
    exchange("/v1/chat/completions", "gpt-3.5-turbo", 53, 17, n_messages=2),
    exchange("/v1/chat/completions", "gpt-4o-mini", 22, 773, n_images=1),
    exchange("/v1/completions", "davinci-002", 34, 9),
    exchange("/v1/embeddings", "text-embedding-3-small", 34, 8),
    exchange("/v1/responses", "gpt-4.1-nano", 34, 32, usage=spent(13, 78)),
    exchange("/v1/responses", "gpt-4o", 93, 289, n_tools=1, usage=spent(72, 17)),
    exchange("/v1/responses", "gpt-5-nano", 17, 230, stream=True, usage=spent(13, 284)),
    exchange("/v1/responses", "gpt-5-nano", 48, 535, usage=spent(45, 752)),
    exchange("/v1/responses", "gpt-5.4", 206, 1066, usage=spent(50, 1229)),
]


def recordings() -> list[Exchange]:
    home = os.environ.get("LIMITER_SHARED_DATA")
    data = Path(home) if home else Path(__file__).parents[2].parent / "shared" / "data"
    file = data / "recorded_exchanges.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return BY_HAND + [json.loads(line) for line in lines]


def openai_calls(path: str) -> Iterator[tuple[Exchange, int]]:
    """Yield OpenAI's exchanges with the tokens that each took from its bucket."""
    for row in recordings():
        headers = row["headers"]
        limit = headers.get("x-ratelimit-limit-tokens")
        if row["provider"] != "openai" or row["path"] != path or limit is None:
            continue
        if parsedate_to_datetime(headers["date"]) >= CHAT_RULE_SINCE:
            yield row, int(limit) - int(headers["x-ratelimit-remaining-tokens"])


def share(errors: list[int], is_right: Callable[[int], bool]) -> float:
    assert errors
    return sum(map(is_right, errors)) / len(errors)


def test_chat_completions_are_estimated_within_two_tokens():
    """Every chat completion since 2025-03-18 took its estimate, give or take 2 tokens."""
    errors = [
        used - chat_tokens(row["text_utf8_bytes"], row["n_messages"], row["n_images"])
        for row, used in openai_calls("/v1/chat/completions")
    ]
    within_2, exact = share(errors, lambda e: abs(e) <= 2), share(errors, lambda e: e == 0)
    assert (within_2, exact) >= (1.0, 0.6), f"of {len(errors)} exchanges"


def test_completions_are_estimated_by_bytes():
    """A legacy completion takes ceil(bytes/4), within 2 tokens in at least 95 %."""
    errors = [
        used - text_tokens(row["text_utf8_bytes"]) for row, used in openai_calls("/v1/completions")
    ]
    assert share(errors, lambda e: abs(e) <= 2) >= 0.95


def test_embeddings_are_estimated_by_bytes():
    """An embedding call takes the bytes of its texts / 4, within 2 tokens in at least 95 %."""
    errors = [
        used - text_tokens(row["text_utf8_bytes"])
        for row, used in openai_calls("/v1/embeddings")
        if row["text_utf8_bytes"]  # inputs given as token ids have none
    ]
    assert share(errors, lambda e: abs(e) <= 2) >= 0.95


def test_responses_take_billed_input_and_a_scaffold_at_admission():
    """/responses takes the billed input + C at first, within 2 tokens in at least 80 %.

    The rest are calls with hosted tools, whose kind the recordings do not tell, and images.
    """
    errors = [
        used
        - row["usage"]["input_tokens"]
        - scaffold_tokens(row["model"], function_tools=bool(row["n_tools"]))
        for row, used in openai_calls("/v1/responses")
        if row["model"] and (row["stream"] or not row["model"].startswith("gpt-5"))
    ]
    assert share(errors, lambda e: abs(e) <= 2) >= 0.8


def test_responses_take_the_output_beyond_the_scaffold_at_completion():
    """What /responses takes after the answer is known is max(0, output - C), in at least 80 %."""
    errors = []
    for row, used in openai_calls("/v1/responses"):
        year = parsedate_to_datetime(row["headers"]["date"]).year
        if row["stream"] or not (row["model"] or "").startswith("gpt-5") or year < 2026:
            continue  # their headers were written at admission
        given, written = row["usage"]["input_tokens"], row["usage"]["output_tokens"]
        scaffold = scaffold_tokens(row["model"], function_tools=bool(row["n_tools"]))
        errors.append(used - (response_tokens(given, written, scaffold) - given - scaffold))
    assert share(errors, lambda e: abs(e) <= 2) >= 0.8
