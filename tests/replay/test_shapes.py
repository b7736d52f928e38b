"""Streams as servers of each shape send them, and what is told by no stream or by no answer."""

from __future__ import annotations

import json

import pytest

from limiter.replay import assemble, render
from tests.replay.test_forms import SMALL, streamed


def chunk(delta=None, finish=None, **fields):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "m",
        "choices": choices,
        **fields,
    }


def body_of(*chunks):
    return (
        b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks)
        + b"data: [DONE]\n\n"
    )


def call(index, **fields):
    return {"tool_calls": [{"index": index, **fields}]}


def test_chunks_as_servers_send_them_amount_to_one_answer():
    """Empty heads (Azure), a new stamp each (Ollama), roles and names again, calls in turns."""
    found = assemble(
        "chat",
        body_of(
            chunk(id="", model="", created=0, prompt_filter_results=[{"prompt_index": 0}]),
            chunk({"role": "assistant", "content": None, "reasoning_content": "h"}, created=6),
            chunk({"role": "assistant", "reasoning_content": "m"}, created=7),
            chunk(call(1, id="b", type="function", function={"name": "g", "arguments": ""})),
            chunk(call(0, id="a", type="function", function={"name": "f", "arguments": "{"})),
            chunk(call(1, id="b", function={"name": "g", "arguments": "[1"})),
            chunk(call(0, id="", function={"name": None, "arguments": "}"}), obfuscation="xyz"),
            chunk(call(1, function={"arguments": "]"}), usage={"total_tokens": 1}),
            chunk({}, "tool_calls", usage={"total_tokens": 2}),
        ),
    )
    assert found == {
        "id": "c", "object": "chat.completion", "created": 6, "model": "m", "usage": {"total_tokens": 2},
        "prompt_filter_results": [{"prompt_index": 0}],
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[1]"}},
            ]}}],
    }  # fmt: skip


@pytest.mark.parametrize("chunks", [
    [chunk({"content": "x"})],
    [chunk({"content": "x"}, "stop"), chunk(id="another")],
    [{"choices": [{"index": 0, "delta": {}, "message": {}, "finish_reason": "stop"}]}],
    [chunk({"note": "x"}), chunk({"note": "x"}, "stop")],
    [chunk({"audio": {"id": "a"}}, "stop")],
    [chunk({"content": [{"type": "text", "text": "x"}]}, "stop")],
    [chunk(call(0, id="a")), chunk(call(0, id="b"), "tool_calls")],
    [chunk(call(1, id="a"), "tool_calls")],
    [chunk({"tool_calls": [{"id": "a"}]}, "tool_calls")],
    [chunk({"content": "\ud83d"}, "stop")],
    [chunk()],
    [],
])  # fmt: skip
def test_a_stream_that_could_mean_more_than_one_answer_is_none(chunks):
    """No end of a choice, contradictions, pieces without a rule, halves of a character."""
    assert assemble("chat", body_of(*chunks)) is None


def named(*events):
    return b"".join(b"event: x\ndata: " + json.dumps(one).encode() + b"\n\n" for one in events)


def test_a_documented_stream_of_anthropic_s_amounts_to_its_message():
    """The counts of the end replace those of the start, pings pass, JSON comes in pieces."""
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude",
             "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 25, "output_tokens": 1}}  # fmt: skip
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    head = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": tool},
    ]
    deltas = [
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": piece},
        }
        for piece in ("", '{"a": ', "1}")
    ]
    tail = [
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
         "usage": {"output_tokens": 15, "input_tokens": None}},
        {"type": "message_stop"},
    ]  # fmt: skip
    assert assemble("messages", named(*head, *deltas, *tail)) == {
        **start,
        "content": [{"type": "text", "text": "Hello"}, {**tool, "input": {"a": 1}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 25, "output_tokens": 15},
    }
    unfit = [
        [*head, *deltas[:2], *tail],
        [*head, *deltas, *tail[1:]],
        [*head[:1], *deltas, *tail],
        [*head, {"type": "new_event"}, *tail],
        [*head, {**deltas[0], "delta": {"type": "new_delta"}}, *tail],
        [*head, *tail[:1], *tail[2:]],
        [*head, head[6], *tail],
        [*head[1:], *tail],
    ]
    for events in unfit:
        assert assemble("messages", named(*events)) is None


def test_text_that_a_block_begins_with_is_a_part_of_it():
    """Deltas add to what the start of a block told, or to nothing where it told nothing."""
    message = {"content": [], "stop_reason": "end_turn"}
    for begun in ({"text": "a", "citations": [{"n": 1}]}, {"text": ""}, {}):
        found = assemble("messages", named(
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", **begun}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_stop"},
        ))  # fmt: skip
        text = begun.get("text", "") + "b"
        assert found["content"] == [{"type": "text", **begun, "text": text}]


def test_a_custom_call_is_told_whole():
    """A call that is no function's has no pieces that the client knows; it comes in one chunk."""
    call = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x" * 100}}
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]},
              "finish_reason": "tool_calls"}  # fmt: skip
    answer = {**SMALL["chat"], "choices": [choice]}
    assert assemble("chat", b"".join(streamed("chat", answer))) == answer


def test_a_response_without_output_is_what_its_items_were():
    """Where the last event leaves the output out, the finished items are it; they never disagree."""
    one, two = {"type": "message", "id": "a"}, {"type": "reasoning", "id": "b"}
    response = {"id": "r", "status": "completed"}
    done = [
        {"type": "response.output_item.done", "output_index": 1, "item": two},
        {"type": "response.output_item.done", "output_index": 0, "item": one},
    ]

    def found(*items, **fields):
        end = {"type": "response.completed", "response": {**response, **fields}}
        return assemble("responses", named(*items, end))

    assert found(*done) == {**response, "output": [one, two]}
    assert found(*done, output=[one, two]) == {**response, "output": [one, two]}
    assert found(output=[one]) == {**response, "output": [one]}
    assert found(*done, output=[one]) is None
    assert found(*done[:1]) is None
    assert found(*done, status="failed") is None
    assert found(*done, error={"code": "x"}) is None


@pytest.mark.parametrize(("endpoint", "fields"), [
    ("chat", {"choices": []}), ("chat", {"choices": [{"index": 0, "message": {}, "finish_reason": None}]}),
    ("chat", {"choices": [{"index": 0, "message": {"audio": {"id": "a"}}, "finish_reason": "stop"}]}),
    ("chat", {"choices": [{"index": 1, "message": {}, "finish_reason": "stop"}]}),
    ("chat", {"object": "another"}), ("chat", {"x": "\ud83d"}), ("chat", {"x": float("nan")}),
    ("completions", {"choices": [{"index": 0, "text": None, "finish_reason": "stop"}]}),
    ("responses", {"status": "failed"}), ("responses", {"status": "in_progress"}),
    ("responses", {"error": {"code": "x"}}), ("responses", {"output": None}),
    ("messages", {"stop_reason": None}), ("messages", {"content": "x"}),
    ("messages", {"content": [{"type": "tool_use", "input": "x"}]}),
])  # fmt: skip
def test_an_answer_that_no_stream_tells_is_none(endpoint, fields):
    """Speech, what is unfinished or failed, and what is not of the API's shape."""
    assert render(endpoint, {**SMALL[endpoint], **fields}, include_usage=False) is None
