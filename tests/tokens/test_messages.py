"""What a chat prompt counts, by hand: each byte is a token here, so that frames can be told apart."""

from __future__ import annotations

import pytest
from openai.types.chat import ChatCompletionMessage

from limiter import tokens

pytestmark = pytest.mark.usefixtures("by_bytes")

ASK = [{"role": "system", "content": "abc"}, {"role": "user", "name": "bo", "content": "defg"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(("model", "priming"), [("gpt-4o", 3), ("gpt-4", 3), ("gpt-5-nano", 2)])
def test_a_chat_prompt_is_its_texts_and_its_frames(model, priming):
    """3 (2 from gpt-5 on) + for each message 3 + role + content, + 1 + name."""
    assert tokens.count(ASK, model) == priming + (3 + 6 + 3) + (3 + 4 + 4 + 1 + 2)


def test_odd_messages_count_their_text():
    """Parts, missing fields and messages that are none count the text in them."""
    parts = [{"type": "text", "text": "abc"}, {"type": "image_url", "image_url": {"url": "u"}}]
    assert tokens.count([{"role": "user", "content": parts}]) == 3 + 3 + 4 + 3
    assert tokens.count([{}, "abc", None]) == 3 + 3 + 6 + 3
    assert tokens.count([]) == tokens.count(None) == tokens.count(7) == 3
    assert tokens.count(ASK[0]) == tokens.count(ASK[:1])
    assert tokens.count(tuple(ASK)) == tokens.count(ASK)


def test_special_tokens_are_text():
    """A text in the form of a special token raises nothing, and is counted as it is written."""
    assert tokens.count("<|endoftext|>") == 13
    found = tokens.count_request([{"role": "user", "content": "<|endoftext|>"}])
    assert (found.text, found.exact) == (13, False)


def test_tool_calls_and_their_results_are_estimated():
    """A call is a frame, its name and its arguments; a result is a message. Neither is exact."""
    asked = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    assert tokens.count([asked]) == 3 + (3 + 9) + (3 + 1 + 7)
    assert tokens.count([result]) == 3 + (3 + 4 + 2)
    for each in (asked, result):
        assert not tokens.count_request([each]).exact
    legacy = {"role": "assistant", "function_call": CALL["function"]}
    assert tokens.count([legacy]) == tokens.count([asked])


def test_items_of_responses_count_as_chat_s_messages_do():
    """A call and its result are the same tokens on both endpoints, less the role of the result."""
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
    result = {"type": "function_call_output", "call_id": "c1", "output": "ok"}
    found = tokens.count_request({"model": "gpt-4o", "input": [call, result]})
    assert (found.text, found.framing) == (1 + 7 + 2, 3 + 3 + 3)


def test_an_answer_that_is_sent_back_counts_as_its_mapping():
    """A pydantic message of the SDK's is read as what it dumps to; None fields are nothing."""
    sent = ChatCompletionMessage(role="assistant", content="abc")
    plain = {"role": "assistant", "content": "abc"}
    assert tokens.count_request([sent]) == tokens.count_request([plain])
    assert tokens.count_request([sent]).exact


@pytest.mark.parametrize(
    "message",
    [
        {"role": "developer", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "a" * 99}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "a" * 99}}]},
        {"role": "user", "content": [{"type": "odd", "text": "a"}]},
        {"role": "assistant", "content": "a", "reasoning_content": "b"},
        {"role": "assistant", "content": None, "refusal": "a"},
        {"role": ["user"], "content": "a"},
        {"type": ["message"], "content": "a"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]},
        "a",
    ],
    ids=str,
)
def test_what_no_bill_was_compared_with_is_not_called_exact(message):
    """Parts, roles, fields and items beyond plain text each say what is assumed of them."""
    found = tokens.count_request([{"role": "user", "content": "a"}, message])
    assert not found.exact
    assert found.text <= 2 + 1
    unread = any(kind in str(message) for kind in ("file_data", "input_audio"))
    assert any("is not counted" in why for why in found.assumptions) == (
        unread or "reasoning_content" in message
    )
    assert found.total == tokens.count([{"role": "user", "content": "a"}, message])
