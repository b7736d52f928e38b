"""What counts as text, as an image, and as nothing."""

from __future__ import annotations

import pytest
from openai.types.chat import ChatCompletionMessage

from limiter.providers.content import READ, Content, amount, json_bytes, measure, texts, utf8_bytes

CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"in":"SF"}'}}


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("höher", Content(6)),
        ("\ud800", Content(3)),
        (None, Content()),
        (True, Content()),
        (b"bytes", Content()),
        (1.5, Content()),
        (["ab", ["cd"]], Content(4)),
        (("ab", "cd"), Content(4)),
        ({"text": "abc", "type": "text"}, Content(3)),
        ({"type": "refusal", "refusal": "no"}, Content(2)),
        ({"type": "of the future", "text": "abc", "blob": "xxxx"}, Content(3)),
        ({"type": ["odd"], "text": "abc"}, Content(3)),
        ({"type": "input_audio", "input_audio": {"data": "AAAA"}, "text": "x"}, Content()),
        ({"type": "image", "source": {"data": "AAAA"}}, Content(images=1)),
        ({"image_url": "https://x"}, Content(images=1)),
        ([1, 2, "a"], Content(1, token_ids=2)),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, Content()),
        ({"role": "tool", "tool_call_id": "1", "content": "sunny"}, Content(5)),
        (iter(["left alone"]), Content()),
        (str, Content()),
        (ChatCompletionMessage, Content()),
        (ChatCompletionMessage(role="assistant", content="abc"), Content(3)),
    ],
)
def test_text_is_counted_and_the_rest_is_not(value, content):
    """Text counts its UTF-8 bytes at any depth; base64 and tool calls count nothing."""
    assert measure(value) == content


def test_what_a_model_reads_includes_tool_calls():
    """A tool call's name and arguments are billed as input."""
    assert measure({"content": None, "tool_calls": [CALL]}, READ) == Content(7 + 11)


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ({"parts": [{"text": "abcd"}, {"inlineData": {"mimeType": "image/png", "data": "AA"}}]},
         Content(4, images=1)),
        ({"parts": [{"inline_data": {"mime_type": "image/png", "data": "AA"}}]}, Content(images=1)),
        ({"parts": [{"fileData": {"mimeType": "application/pdf", "fileUri": "u"}}]}, Content()),
        ({"parts": [{"inlineData": "odd"}, {"inlineData": {}}]}, Content()),
        ({"content": [{"image": {"format": "png", "source": {"bytes": "AA"}}}]}, Content(images=1)),
        ({"content": [{"image": "odd"}, {"text": "ab"}]}, Content(2)),
        ({"parts": [{"functionCall": {"name": "f", "args": {"city": "Paris"}}}]}, Content(1 + 16)),
        ({"parts": [{"functionResponse": {"name": "f", "response": {"t": 20}}}]}, Content(1 + 8)),
        ({"content": [{"toolUse": {"name": "f", "input": {"city": "Paris"}}}]}, Content(1 + 16)),
        ({"content": [{"toolResult": {"content": [{"json": {"t": 20}}]}}]}, Content(8)),
        ({"content": [{"type": "tool_use", "name": "f", "input": {"t": 20}}]}, Content(1 + 8)),
        ({"content": [{"type": "tool_result", "content": "abc"}]}, Content(3)),
    ],
)  # fmt: skip
def test_gemini_s_and_bedrock_s_parts_are_read(part, content):
    """Text, images, and a tool's arguments and results as the JSON that they are; no base64."""
    assert measure(part, READ) == content


def test_an_iterator_is_not_consumed():
    """Measuring takes nothing from a generator of messages."""
    messages = iter(["a"])
    measure(messages)
    assert list(messages) == ["a"]


def test_depth_is_no_danger():
    """A body nested far beyond the recursion limit is counted."""
    deep: object = "abcd"
    for _ in range(50_000):
        deep = [deep]
    assert measure(deep) == Content(4)
    assert texts(deep) == ["abcd"]


def test_json_is_counted_compactly_or_not_at_all():
    """Tools count their compact JSON in UTF-8; what is no JSON counts 0."""
    assert json_bytes([{"é": 1}]) == len('[{"é":1}]'.encode())
    assert json_bytes(None) == 0
    assert json_bytes([object()]) == 4
    loop: list[object] = []
    loop.append(loop)
    assert json_bytes(loop) == 0


def test_a_count_is_a_whole_number():
    """Only whole numbers from 0 are counts; JSON may write them as 5.0."""
    assert [amount(v) for v in (5, 5.0, 0)] == [5, 5, 0]
    assert [amount(v) for v in (-1, 5.5, float("inf"), float("nan"), True, "5", None)] == [None] * 7


def test_ascii_is_its_own_length():
    """UTF-8 bytes are counted, not characters."""
    assert (utf8_bytes("abc"), utf8_bytes("€"), utf8_bytes("🦊")) == (3, 3, 4)
