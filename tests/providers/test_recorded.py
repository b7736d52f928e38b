"""The formulas against real traffic: counts and headers of recorded exchanges, without text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from limiter.providers import profile
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


def asked(provider: str, path: str, text: int, **more: Any) -> Exchange:
    """Make a recorded exchange of another provider by hand; its usage and headers are in `more`."""
    base = {"model": "m", "n_images": 0, "n_messages": 1, "n_tools": 0, "stream": False}
    base |= {"max_tokens": None, "text_utf8_bytes": text}
    return base | {"provider": provider, "path": path} | more


def chatted(given: int, written: int, total: int) -> dict[str, int]:
    return {"prompt_tokens": given, "completion_tokens": written, "total_tokens": total}


# The same, of the others: one of each kind.
BY_HAND += [
    asked("mistral", "/v1/chat/completions", 96, n_messages=3, usage=chatted(113, 58, 171),
          headers={"x-ratelimit-tokens-query-cost": "171"}),
    asked("mistral", "/v1/embeddings", 64, usage=chatted(21, 0, 21),
          headers={"x-ratelimit-tokens-query-cost": "21"}),
    asked("xai", "/v1/responses", 93, n_tools=1, headers={},
          usage={**spent(350, 212), "total_tokens": 562,
                 "input_tokens_details": {"cached_tokens": 192}}),
    asked("groq", "/openai/v1/chat/completions", 34, usage=chatted(18, 74, 92),
          headers={"x-ratelimit-limit-tokens": "30000", "x-ratelimit-remaining-tokens": "29987"}),
    asked("together", "/v1/completions", 35, max_tokens=512, usage=chatted(10, 512, 522),
          headers={}),
    asked("azure", "/openai/deployments/X/chat/completions", 34,
          headers={"x-ratelimit-limit-requests": "120", "x-ratelimit-remaining-requests": "119",
                   "x-ratelimit-limit-tokens": "120000",
                   "x-ratelimit-remaining-tokens": "119986"}),
]  # fmt: skip


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


def of(provider: str) -> Iterator[tuple[Exchange, dict[str, int], dict[str, int]]]:
    """Yield a provider's exchanges, with what its profile reserves and settles them to."""
    counts = profile(provider)
    for row in recordings():
        if row["provider"] == provider:
            before = counts.estimate(row["path"], body_of(row)) or {}
            used = counts.usage(row.get("usage"))
            yield row, before, counts.settled(row["path"], before, used)


def body_of(row: Exchange) -> dict[str, Any]:
    """Make a body with as much text, in as many messages, as the recorded one."""
    texts = ["x" * row["text_utf8_bytes"], *[""] * ((row["n_messages"] or 1) - 1)]
    messages = [{"role": "user", "content": text} for text in texts]
    body = {"messages": messages, "prompt": texts[0], "max_tokens": row["max_tokens"]}
    return body | {"input": texts[0] if "embeddings" in row["path"] else messages}


def left(row: Exchange, dimension: str) -> tuple[int, int] | None:
    """Return a limit and what of it remains, where the headers say both."""
    names = (f"x-ratelimit-{what}-{dimension}" for what in ("limit", "remaining"))
    limit, remaining = (row["headers"].get(name) for name in names)
    return None if limit is None or remaining is None else (int(limit), int(remaining))


def test_mistral_charges_what_the_profile_settles_to():
    """Every query cost that Mistral tells is total - cached."""
    rows = [(row, after) for row, before, after in of("mistral") if "tokens" in before]
    costs = [int(row["headers"]["x-ratelimit-tokens-query-cost"]) for row, _ in rows]
    assert costs
    assert costs == [after["tokens"] for _, after in rows]


def test_mistral_s_calls_take_about_what_was_reserved():
    """No call takes more than its reservation, beyond the tools that these bodies lack, by 10."""
    for row, before, after in of("mistral"):
        if "tokens" in before and not row["n_tools"]:
            assert after["tokens"] <= before["tokens"] + 10


def test_xai_s_calls_are_their_totals():
    """Input and output, whatever of them was cached or reasoned, are the total that xAI tells."""
    totals = [(row["usage"]["total_tokens"], after) for row, _, after in of("xai")]
    assert totals
    for total, after in totals:
        assert after["tokens"] == after["input_tokens"] + after["output_tokens"] == total


def test_groq_takes_less_at_admission_than_is_settled():
    """Its headers show the text alone (bytes/4 + 4); the answer is charged when it is known."""
    seen = []
    for row, before, after in of("groq"):
        limit, remaining = left(row, "tokens")
        seen.append(limit - remaining)
        assert after["tokens"] == row["usage"]["total_tokens"]
        assert before["input_tokens"] >= -(-row["text_utf8_bytes"] // 4) + 4
    # One call shows what an earlier one left to be refilled.
    assert share(seen, lambda taken: taken == 13) >= 0.8


def test_together_s_calls_are_their_totals():
    """Its answers tell prompt, completion and total as OpenAI's do."""
    rows = list(of("together"))
    assert rows
    assert all(after["tokens"] == row["usage"]["total_tokens"] for row, _, after in rows)


def test_azure_takes_no_more_than_was_reserved():
    """No first call of a minute takes more than its estimate and one token, by Azure's headers."""
    over = []
    for row, before, _ in of("azure"):
        requests, tokens = left(row, "requests"), left(row, "tokens")
        if requests and tokens and requests[0] - requests[1] == 1:
            over.append(tokens[0] - tokens[1] - before["tokens"])
    assert over
    assert max(over) <= 1
    assert share(over, lambda tokens: tokens <= 0) >= 0.9
