"""`optimize_body`: what people wrote becomes shorter, everything else stays as it is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter import ConfigError
from limiter.prompts import Savings, compact, optimize_body
from tests.prompts.counting import by_bytes
from tests.prompts.test_fit import TOOLS, chat

WIDE = "a   b\n\n\n\nc  "
SLIM = "a b\n\nc"
JSON = '{\n  "a":   "x   y"\n}'


def optimized(body: dict[str, Any], **more: Any) -> tuple[dict[str, Any], Savings]:
    before = copy.deepcopy(body)
    found = optimize_body(body, count=by_bytes, **more)
    assert body == before
    return found


def part(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


@pytest.mark.parametrize(
    ("body", "shorter"),
    [
        ({"prompt": WIDE, "suffix": WIDE}, {"prompt": SLIM, "suffix": WIDE}),
        ({"prompt": f"{{{WIDE}"}, {"prompt": f"{{{SLIM}"}),
        ({"system": [part("  "), part(None)]}, {"system": [part("  "), part(None)]}),
        ({"prompt": [WIDE, "x"]}, {"prompt": [SLIM, "x"]}),
        ({"input": WIDE, "instructions": WIDE}, {"input": SLIM, "instructions": SLIM}),
        ({"input": [WIDE, WIDE]}, {"input": [SLIM, SLIM]}),
        ({"input": [1, 2, 3]}, {"input": [1, 2, 3]}),
        (
            {"system": [part(WIDE, cache_control={})]},
            {"system": [part(SLIM + "  ", cache_control={})]},
        ),
        (
            {"messages": [{"role": "user", "content": [part(WIDE), part("  d", x=1)]}]},
            {"messages": [{"role": "user", "content": [part(SLIM + "  "), part("  d", x=1)]}]},
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a  b"}]}]},
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a b"}]}]},
        ),
    ],
)
def test_what_people_wrote_is_compacted(body: dict[str, Any], shorter: dict[str, Any]) -> None:
    """In each API's place for it; white space that may part two neighbours stays."""
    assert optimized(body, compact=1)[0] == shorter


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "tool", "tool_call_id": "1", "content": WIDE}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": WIDE}}]}]},
        {"messages": [{"role": "user", "content": JSON}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": WIDE}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": WIDE}]}]},
        {"messages": [{"role": "assistant", "content": [part(WIDE, citations=[{"start": 3}])]}]},
        {"input": [{"type": "function_call_output", "call_id": "1", "output": WIDE}]},
        {"input": [{"role": "assistant", "content": [
            {"type": "output_text", "text": WIDE, "annotations": [{"start_index": 3}]}]}]},
        {"messages": "odd", "input": None, "system": 7, "model": WIDE},
        {"messages": [None, "x", 7, {"role": ["user"]}, {"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": ["text"], "text": WIDE}]}]},
    ],
)  # fmt: skip
def test_what_machines_wrote_stays(body: dict[str, Any]) -> None:
    """Tools' arguments and results, JSON, signed thoughts, texts that are cited by position."""
    assert optimized(body, compact=3)[0] == body


@pytest.mark.parametrize("tool", TOOLS)
@given(st.integers(40, 400))
def test_a_body_is_made_to_fit(tool: Any, fit: int) -> None:
    """The whole prompt has so many tokens at most, what stands beside the messages included."""
    messages, together = chat(tool, [("user", 30), ("tool", 40), ("assistant", 90), ("user", 50)])
    name = "input" if any("type" in each for each in messages) else "messages"
    body = {name: messages, "system": "s" * 40, "tools": [{"x": 1}], "model": "m"}
    try:
        shorter, saved = optimized(body, fit=fit)
    except ConfigError as caught:
        failed = caught
    else:
        failed = None
    if failed is not None:
        assert failed.needed > failed.budget
        return
    assert saved.after <= fit
    assert saved.before == optimized(body)[1].after
    assert saved.dropped == len(messages) - len(shorter[name])
    assert {**shorter, name: messages} == body
    for group in together:
        assert len({each in shorter[name] for each in group}) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"prompt": "x" * 400}, "no old messages"),
        ({"input": ["x" * 400, "y"]}, "no old messages"),
        ({"input": [7] * 400}, "no old messages"),
        ({"messages": [{"role": "user", "content": "x" * 400}]}, "must stay"),
        ({"messages": [], "system": "x" * 400}, "no old messages"),
        (
            {"messages": [{"role": "user", "content": "x"}], "system": "x" * 400},
            "beside the messages",
        ),
    ],
)
def test_a_text_alone_is_not_cut(body: dict[str, Any], says: str) -> None:
    """Nor is a text to embed left out: that is for the caller to decide."""
    with pytest.raises(ConfigError, match=says) as caught:
        optimized(body, fit=50)
    assert caught.value.needed > 50


def test_compacting_comes_first() -> None:
    """What fits once it is compact loses no message."""
    messages = [{"role": "user", "content": f"a{' ' * 200}b"}, {"role": "user", "content": "c"}]
    shorter, saved = optimized({"messages": messages}, compact=1, fit=20)
    assert [each["content"] for each in shorter["messages"]] == ["a b", "c"]
    assert (saved.dropped, saved.after <= 20) == (0, True)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["messages", "input", "role", "content", "type", "text", "tool_calls", "call_id", "id"]
    ) | st.text(max_size=3), inner, max_size=4), max_leaves=12))  # fmt: skip
def test_no_body_breaks_it(value: Any) -> None:
    """Bodies come in every shape: each is compacted where it can be, and counted."""
    for name in ("messages", "input", "prompt", "system"):
        shorter, saved = optimized({name: value}, compact=3, fit=10**9)
        assert saved.saved >= 0
        json.dumps(shorter)


def test_savings_add_up() -> None:
    """Of two bodies they are those of both; printed they say numbers and share."""
    total = Savings(1_200, 900) + Savings(800, 500, 3)
    assert total == Savings(2_000, 1_400, 3)
    assert str(total) == "2,000 -> 1,400 tokens, 600 saved (30.0%), 3 messages left out"
    assert str(Savings(4, 2, 1)) == "4 -> 2 tokens, 2 saved (50.0%), 1 message left out"
    assert str(Savings()) == "0 -> 0 tokens, 0 saved (0.0%)"
    assert str(compact("a  b", count=len).report) == "4 -> 3 tokens, 1 saved (25.0%)"


@pytest.mark.parametrize("options", [{"compact": 4}, {"compact": "1"}, {"fit": 0}, {"fit": 1.5}])
def test_wrong_options_are_said(options: dict[str, Any]) -> None:
    """A level that is not there, a budget that is no number of tokens."""
    with pytest.raises(ConfigError, match="got"):
        optimize_body({}, **options)
