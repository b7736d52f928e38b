"""`fit_messages`: the budget holds, calls keep their results, and the rest goes oldest first."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter import ConfigError, tokens
from limiter.prompts import Fitted, fit_messages
from limiter.prompts.counting import prompt_tokens
from tests.prompts.counting import by_bytes

Message = dict[str, Any]


def says(role: str, text: str) -> Message:
    return {"role": role, "content": text}


# One round of a tool in each API's words; the same id stands in the call and in its result.
def chat_tool(name: str, text: str) -> list[Message]:
    call = {"id": name, "type": "function", "function": {"name": "f", "arguments": text}}
    other = {**call, "id": f"{name}b"}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call, other]},
        {"role": "tool", "tool_call_id": name, "content": text},
        {"role": "tool", "tool_call_id": f"{name}b", "content": text},
    ]


def responses_tool(name: str, text: str) -> list[Message]:
    return [
        {"type": "reasoning", "id": f"r{name}", "summary": []},
        {"type": "function_call", "call_id": name, "name": "f", "arguments": text},
        {"type": "function_call", "call_id": f"{name}b", "name": "f", "arguments": text},
        {"type": "function_call_output", "call_id": name, "output": text},
        {"type": "function_call_output", "call_id": f"{name}b", "output": text},
    ]


def anthropic_tool(name: str, text: str) -> list[Message]:
    use = {"type": "tool_use", "id": name, "name": "f", "input": {"x": text}}
    result = {"type": "tool_result", "tool_use_id": name, "content": text}
    return [
        {"role": "assistant", "content": [{"type": "text", "text": text}, use]},
        {"role": "user", "content": [result]},
    ]


def bedrock_tool(name: str, text: str) -> list[Message]:
    use = {"toolUse": {"toolUseId": name, "name": "f", "input": {"x": text}}}
    result = {"toolResult": {"toolUseId": name, "content": [{"text": text}]}}
    return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]


def legacy_tool(name: str, text: str) -> list[Message]:
    return [
        {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": text}},
        {"role": "function", "name": name, "content": text},
    ]


TOOLS = [chat_tool, responses_tool, anthropic_tool, bedrock_tool, legacy_tool]


def chat(tool: Any, shape: list[tuple[str, int]]) -> tuple[list[Message], list[list[Message]]]:
    """Make a chat from kinds of rounds and sizes; also what of it belongs together."""
    together: list[list[Message]] = []
    for i, (kind, size) in enumerate(shape):
        text = f"{i} " + "x" * size
        together.append(tool(f"c{i}", text) if kind == "tool" else [says(kind, text)])
    return [each for group in together for each in group], together


SHAPES = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "tool", "system"]), st.integers(0, 120)),
    max_size=14,
)


def fitted(messages: list[Message], budget: int, **more: Any) -> Fitted | None:
    try:
        return fit_messages(messages, budget, count=by_bytes, **more)
    except ConfigError as caught:
        failed = caught
    assert failed.needed > failed.budget == budget
    return None


@pytest.mark.parametrize("tool", TOOLS)
@given(SHAPES, st.integers(1, 500))
def test_no_result_is_without_its_call(
    tool: Any, shape: list[tuple[str, int]], budget: int
) -> None:
    """A round of a tool stays whole or goes whole; the rest keeps its order, and fits."""
    messages, together = chat(tool, shape)
    found = fitted(messages, budget)
    if found is None:
        return
    kept = [id(each) for each in found.messages]
    for group in together:
        assert len({id(each) in kept for each in group}) == 1
    order = [id(each) for each in messages]
    assert kept == [each for each in order if each in kept]
    assert sorted(order) == sorted([*kept, *map(id, found.dropped)])
    assert found.report.after == prompt_tokens(found.messages, by_bytes) <= budget
    assert found.report.before == prompt_tokens(messages, by_bytes)
    assert found.report.dropped == len(found.dropped)


@pytest.mark.parametrize("tool", TOOLS)
@given(SHAPES, st.integers(1, 500))
def test_what_must_stay_stays(tool: Any, shape: list[tuple[str, int]], budget: int) -> None:
    """System messages, the user's newest one, and the newest round are never dropped."""
    messages, together = chat(tool, shape)
    found = fitted(messages, budget)
    if found is None or not messages:
        return
    newest = [each for (kind, _), (each, *_) in zip(shape, together, strict=True) if kind == "user"]
    must = [each for each in messages if each.get("role") == "system"] + together[-1] + newest[-1:]
    assert all(any(each is kept for kept in found.messages) for each in must)


@given(SHAPES, st.integers(1, 500))
def test_the_oldest_goes_first_and_no_more_than_must(
    shape: list[tuple[str, int]], budget: int
) -> None:
    """Nothing that may go is older than what went; with the last that went it would not fit."""
    messages, together = chat(chat_tool, shape)
    found = fitted(messages, budget)
    if found is None or not found.dropped:
        return
    gone = [group for group in together if any(group[0] is each for each in found.dropped)]
    users = [group[0] for group in together if group[0]["role"] == "user"]
    may_go = [g for g in together[:-1] if g[0]["role"] != "system" and g[0] not in users[-1:]]
    assert gone == may_go[: len(gone)]
    # It goes on only to where what is kept begins with a question.
    needed = len(gone)
    while (
        needed > 1
        and prompt_tokens(
            [e for e in messages if not any(e is m for g in gone[: needed - 1] for m in g)],
            by_bytes,
        )
        <= budget
    ):
        needed -= 1
    assert all(group[0]["role"] != "user" for group in gone[needed:])


def test_what_is_kept_begins_with_a_question() -> None:
    """An answer whose question went goes, too."""
    messages = [
        says("system", "s"), says("user", "a" * 40), says("assistant", "b" * 40),
        says("user", "c" * 40), says("assistant", "d" * 40), says("user", "e"),
    ]  # fmt: skip
    budget = prompt_tokens(messages, by_bytes) - 1
    found = fit_messages(messages, budget, count=by_bytes)
    assert found.messages == [messages[0], *messages[3:]]
    assert found.dropped == messages[1:3]


def test_a_tool_loop_keeps_the_question() -> None:
    """In one long round of calls the user's message stays, and the oldest calls go."""
    rounds = [chat_tool(f"c{i}", "x" * 40) for i in range(5)]
    messages = [says("user", "Find it."), *(each for group in rounds for each in group)]
    found = fit_messages(messages, prompt_tokens(messages[:7], by_bytes), count=by_bytes)
    assert found.messages == [messages[0], *rounds[3], *rounds[4]]


def test_an_approval_keeps_its_request() -> None:
    """Those of a remote tool, in the Responses API, stay or go together."""
    asked = {"type": "mcp_approval_request", "id": "m1", "name": "f", "arguments": "x" * 80}
    given = {"type": "mcp_approval_response", "approval_request_id": "m1", "approve": True}
    messages = [says("user", "a"), asked, says("assistant", "b"), given, says("user", "c")]
    found = fit_messages(messages, prompt_tokens(messages, by_bytes) - 1, count=by_bytes)
    assert found.messages == messages[-1:]
    assert str(found) == str(found.report)


def test_a_chat_that_fits_is_left_alone() -> None:
    """Its messages are the same objects, also those of an SDK; nothing is summarised."""

    class Said:
        def model_dump(self) -> Message:
            return says("assistant", "yes")

    messages = [says("user", "a"), Said()]
    budget = prompt_tokens(messages, by_bytes)
    found = fit_messages(messages, budget, summarise=pytest.fail, count=by_bytes)
    assert all(one is other for one, other in zip(found.messages, messages, strict=True))
    assert (found.dropped, found.report.saved) == ([], 0)


@given(SHAPES, st.integers(20, 500), st.text("s ", max_size=400))
def test_a_summary_stands_where_the_rest_was(
    shape: list[tuple[str, int]], budget: int, summary: str
) -> None:
    """With it the chat still fits; it is asked for once, with all that went."""
    messages, _ = chat(chat_tool, shape)
    asked: list[list[Message]] = []

    def summarise(dropped: list[Message]) -> str:
        asked.append(dropped)
        return summary

    found = fitted(messages, budget, summarise=summarise)
    assert (found is None) == (fitted(messages, budget) is None)
    if found is None:
        return
    assert prompt_tokens(found.messages, by_bytes) == found.report.after <= budget
    new = [i for i, each in enumerate(found.messages) if not any(each is m for m in messages)]
    assert asked in ([], [found.dropped])
    assert len(new) == (len(asked) if summary.strip() else 0)
    for i in new:
        assert found.messages[i]["role"] == "user"
        before = messages[: messages.index(found.dropped[0])]
        assert found.messages[:i] == [m for m in before if any(m is k for k in found.messages)]


def test_room_is_kept_for_a_summary() -> None:
    """One of that size stands there uncut; a smaller room keeps more of the chat."""
    messages = [says("user", f"{i} {'a' * 80}") for i in range(20)]
    for reserve, kept in ((None, 5), (20, 6), (90, 3)):
        found = fit_messages(
            messages, 200, summarise=lambda _: "b" * 20, summary_tokens=reserve, count=by_bytes
        )
        assert len(found.messages) == kept + 1
        assert found.messages[0]["content"].endswith("b" * 20)


def test_a_summary_that_is_too_long_is_cut() -> None:
    """To what the rest leaves free, with a mark."""
    messages = [says("user", "a" * 400), says("user", "b")]
    found = fit_messages(messages, 60, summarise=lambda _: "word " * 500, count=by_bytes)
    assert found.report.after <= 60
    assert found.messages[0]["content"].endswith("word […]")
    assert found.messages[1:] == messages[1:]


def test_a_summary_that_is_no_text_is_said() -> None:
    """A coroutine function's, say."""
    messages = [says("user", "a" * 400), says("user", "b")]
    for wrong in (7, None):
        with pytest.raises(ConfigError, match="summarise= returns a text"):
            fit_messages(messages, 60, summarise=lambda _, said=wrong: said, count=by_bytes)


def test_a_budget_that_nothing_fits_is_said() -> None:
    """With what is needed; a budget must be a number of tokens."""
    with pytest.raises(ConfigError, match=r"has 107 tokens, 50 may be") as caught:
        fit_messages([says("user", "a" * 400)], 50, count=by_bytes)
    assert (caught.value.needed, caught.value.budget) == (107, 50)
    with pytest.raises(ConfigError, match="from 1 on"):
        fit_messages([], 0, count=by_bytes)
    messages = [says("user", "a" * 400), says("user", "b")]
    with pytest.raises(ConfigError, match="from 16 on"):
        fit_messages(messages, 50, summarise=str, summary_tokens=3, count=by_bytes)


@given(SHAPES)
def test_never_less_than_the_counter_of_chats_says(shape: list[tuple[str, int]]) -> None:
    """Whoever checks with `tokens.count` finds the budget kept."""
    messages, _ = chat(legacy_tool, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        known = tokens.count(messages)
        assert fit_messages(messages, 10_000).report.before >= known
