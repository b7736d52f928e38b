"""An answer and its stream are one answer, told in two ways: nothing is lost, or nothing is given."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.replay import as_asked, assemble, has_usage, render
from tests.replay.answers import ANSWERS, anything, asked

CHOICES = ("chat", "completions")


def streamed(endpoint, answer, include_usage=None):
    """Render with the usage that there is, unless told otherwise."""
    wanted = has_usage(endpoint, answer) if include_usage is None else include_usage
    return render(endpoint, answer, include_usage=wanted)


def payloads(events):
    """Read events as any reader does: the lines that begin with `data: `."""
    lines = [line for event in events for line in event.decode().splitlines()]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


@pytest.mark.parametrize("endpoint", ANSWERS)
@given(st.data())
def test_a_rendered_answer_reads_as_the_answer(endpoint, data):
    """Every answer of the four endpoints becomes a stream, and the stream that answer again."""
    answer = data.draw(ANSWERS[endpoint])
    events = streamed(endpoint, answer)
    assert events is not None
    assert assemble(endpoint, b"".join(events)) == answer


@given(asked)
def test_each_event_stands_alone(pair):
    """One event per bytes object, ended by a blank line; no reader of lines finds another in it."""
    endpoint, answer = pair
    events = streamed(endpoint, answer)
    for event in events:
        lines = event.decode().splitlines()
        assert event.endswith(b"\n\n")
        assert lines.pop() == ""
        assert [line.partition(": ")[0] for line in lines] in (["data"], ["event", "data"])
    assert len(payloads(events)) == len(events) - (endpoint in CHOICES)
    assert (events[-1] == b"data: [DONE]\n\n") == (endpoint in CHOICES)


@given(asked)
def test_a_stream_is_the_same_each_time(pair):
    """Where a text is cut depends on the text alone."""
    endpoint, answer = pair
    assert streamed(endpoint, answer) == streamed(endpoint, json.loads(json.dumps(answer)))


@given(asked, st.data())
def test_a_cut_stream_is_no_answer(pair, data):
    """At every cut before the end there is None, and no exception."""
    endpoint, answer = pair
    body = b"".join(streamed(endpoint, answer))
    cuts = {0, 1, len(body) - 1, len(body) - 2, data.draw(st.integers(0, len(body) - 1))}
    for cut in cuts:
        assert assemble(endpoint, body[:cut]) is None
        assert as_asked(endpoint, body[:cut], include_usage=False) is None


@pytest.mark.parametrize("endpoint", ANSWERS)
def test_every_single_cut_of_a_stream_is_no_answer(endpoint):
    """Byte by byte, over one stream of each kind."""
    events = streamed(endpoint, SMALL[endpoint])
    body = b"".join(events)
    assert [cut for cut in range(len(body)) if assemble(endpoint, body[:cut]) is not None] == []
    assert assemble(endpoint, body) == SMALL[endpoint]
    assert assemble(endpoint, body + b"\n") == SMALL[endpoint]
    assert assemble(endpoint, body + b"\n:") is None


@given(asked, st.data())
def test_a_lost_end_or_a_second_one_is_no_answer(pair, data):
    """The end is the last event, once; what comes behind it belongs to something else."""
    endpoint, answer = pair
    events = streamed(endpoint, answer)
    extra = data.draw(st.sampled_from([events[0], events[-1], b"data: {}\n\n", b"data: {}"]))
    assert assemble(endpoint, b"".join([*events, extra])) is None
    assert assemble(endpoint, b"".join(events[:-1])) is None


@given(asked, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_line_ends_comments_and_a_mark_change_nothing(pair, eol, is_marked):
    """What the format of server-sent events allows reads as the same answer, and is replayed as it is."""
    endpoint, answer = pair
    line_end = eol.encode()
    events = [event.replace(b"\n", line_end) for event in streamed(endpoint, answer)]
    comment = b": ping" + line_end * 2
    body = b"\xef\xbb\xbf" * is_marked + comment.join(events)
    assert assemble(endpoint, body) == answer
    assert as_asked(endpoint, body, include_usage=has_usage(endpoint, answer)) == events


@given(asked, st.data())
def test_an_error_in_a_stream_is_no_answer(pair, data):
    """Wherever it comes, and in each of the ways in which providers tell it."""
    endpoint, answer = pair
    events = streamed(endpoint, answer)
    error = data.draw(st.sampled_from([
        b'data: {"error": {"message": "no"}}\n\n', b'event: error\ndata: {"choices": []}\n\n',
        b'event: error\ndata: {"type": "error", "code": "x"}\n\n',
        b'data: {"type": "error", "error": {"type": "overloaded_error"}}\n\n',
    ]))  # fmt: skip
    at = data.draw(st.integers(0, len(events) - 1))
    body = b"".join([*events[:at], error, *events[at:]])
    assert assemble(endpoint, body) is None
    assert as_asked(endpoint, body, include_usage=False) is None


@given(asked, st.data())
def test_events_in_any_order_raise_nothing(pair, data):
    """Events left out, doubled or out of turn, down to the end alone: never an exception."""
    endpoint, answer = pair
    events = streamed(endpoint, answer)
    shuffled = data.draw(st.lists(st.sampled_from(events), max_size=8))
    for told in (
        shuffled,
        shuffled + events[-1:],
        events[-1:],
        events[-2:],
        events[:1] + events[-1:],
    ):
        assemble(endpoint, b"".join(told))
        as_asked(endpoint, b"".join(told), include_usage=True)
    # The end alone is an answer only where it holds the whole of it.
    assert assemble(endpoint, events[-1]) == (answer if endpoint == "responses" else None)


ENDPOINTS = st.sampled_from([*ANSWERS, "embeddings", "generate", None])


@given(asked, st.data())
def test_wrong_types_anywhere_raise_nothing(pair, data):
    """A value of any type in any place, in an answer or in an event: None, or what it amounts to."""
    endpoint, answer = pair
    broken = _broken(data, answer)
    events = render(endpoint, broken, include_usage=data.draw(st.booleans()))
    if events is not None:
        broken = {k: v for k, v in broken.items() if k != "usage"}
        found = assemble(endpoint, b"".join(events))
        assert {k: v for k, v in found.items() if k != "usage"} == broken
    told = [_broken(data, one) for one in payloads(streamed(endpoint, answer))]
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in told)
    for end in (b"", b"data: [DONE]\n\n"):
        assemble(endpoint, body + end)
        as_asked(endpoint, body + end, include_usage=True)


def _broken(data, value):
    """Replace one value, anywhere in it."""
    if isinstance(value, (dict, list)) and value and data.draw(st.integers(0, 3)):
        keys = [*value] if isinstance(value, dict) else [*range(len(value))]
        key = data.draw(st.sampled_from(keys))
        copy = value.copy()
        copy[key] = _broken(data, value[key])
        return copy
    other = data.draw(anything | st.just("\ud83d") | st.just(float("nan")) | st.just(-1))
    return {"x": other} if isinstance(value, dict) and not isinstance(other, dict) else other


@given(ENDPOINTS, st.binary() | st.lists(st.sampled_from(
    [b"data: ", b"\n", b"\r\n\r\n", b"{", b"}", b"[DONE]", b'{"choices": []}', b"event: ", b"[" * 9999,
     b'{"type": "message_start"}', b'{"type": "message_stop"}', b"\xff", b'{"index": 1e999}', b"9" * 5000,
     b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
     b'{"type": "response.completed"}']), max_size=12).map(b"".join))  # fmt: skip
def test_garbage_raises_nothing(endpoint, body):
    """Whatever the bytes are."""
    assemble(endpoint, body)
    as_asked(endpoint, body, include_usage=False)


def test_what_is_nested_without_end_raises_nothing():
    """Deep values neither end the process nor escape as an exception."""
    deep = json.loads("[" * 900 + "]" * 900)
    for _ in range(300):
        deep = [deep]
    for endpoint, answer in SMALL.items():
        render(endpoint, {**answer, "extra": deep}, include_usage=True)
        body = b"".join(streamed(endpoint, answer))
        assemble(
            endpoint, b'data: {"choices": [], "x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}\n\n" + body
        )


@pytest.mark.parametrize(
    "endpoint", ["embeddings", "images", "generate", "converse", "request", None]
)
def test_other_endpoints_have_no_other_form(endpoint):
    """What has no stream, or one that is not known, is never converted."""
    body = b"".join(streamed("chat", SMALL["chat"]))
    assert render(endpoint, SMALL["chat"], include_usage=False) is None
    assert assemble(endpoint, body) is None
    assert as_asked(endpoint, body, include_usage=False) is None
    assert not has_usage(endpoint, SMALL["chat"])


def chunks_with_usage(events):
    return [one for one in payloads(events) if isinstance(one.get("usage"), dict)]


@given(st.sampled_from(CHOICES), st.booleans(), st.booleans(), st.data())
def test_usage_is_there_exactly_when_it_is_asked_for(endpoint, is_recorded, is_asked, data):
    """In rendered and in replayed streams: one chunk without choices, or none; None if not known."""
    answer = data.draw(ANSWERS[endpoint])
    rendered = render(endpoint, answer, include_usage=is_asked)
    assert (rendered is None) == (is_asked and "usage" not in answer)
    told = {**answer, "usage": {"total_tokens": 7}}
    body = b"".join(render(endpoint, told, include_usage=is_recorded))
    replayed = as_asked(endpoint, body, include_usage=is_asked)
    assert (replayed is None) == (is_asked and not is_recorded)
    for events in (rendered, replayed):
        if events is not None:
            found = chunks_with_usage(events)
            assert [one["choices"] for one in found] == [[]] * is_asked
    if rendered is not None and not is_asked:
        answer.pop("usage", None)
        assert assemble(endpoint, b"".join(rendered)) == answer


@given(asked)
def test_a_replay_keeps_the_bytes(pair):
    """A recorded stream goes out as it came in, event by event."""
    endpoint, answer = pair
    events = streamed(endpoint, answer)
    assert as_asked(endpoint, b"".join(events), include_usage="usage" in answer) == events


@pytest.mark.parametrize("endpoint", ANSWERS)
def test_a_long_text_comes_in_pieces(endpoint):
    """No event holds more than some tens of characters of it beside its own fields."""
    long = json.loads(
        json.dumps(SMALL[endpoint], ensure_ascii=False).replace("héllo", "héllo 🧑 " * 200)
    )
    events = streamed(endpoint, long)
    deltas = [e for e in events if len(e) < 500 and b"llo" in e]
    assert len(deltas) > 30
    assert assemble(endpoint, b"".join(events)) == long


def test_chunks_carry_the_logprobs_of_their_tokens():
    """Logprobs come with the text that they are of, where tokens join to it."""
    words = ["some", " words", " of", " an", " answer"] * 9
    entries = [
        {"token": word, "logprob": -0.1, "bytes": None, "top_logprobs": []} for word in words
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(words), "refusal": None},
        "logprobs": {"content": entries, "refusal": None},
        "finish_reason": "stop",
    }
    chunks = payloads(streamed("chat", {**SMALL["chat"], "choices": [choice]}))
    told = [one["choices"][0] for one in chunks if one["choices"]]
    for one in told[1:-1]:
        text = "".join(entry["token"] for entry in one["logprobs"]["content"])
        assert text == one["delta"]["content"]
    assert len(told) > 5


def message(**fields):
    return {"role": "assistant", "content": "héllo", "refusal": None, **fields}


def chat(*choices, **head):
    numbered = [{"index": at, **one} for at, one in enumerate(choices)]
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": numbered,
        **head,
    }


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
SMALL = {
    "chat": chat(
        {"message": message(), "logprobs": None, "finish_reason": "stop"},
        {"message": message(content=None, tool_calls=[CALL, CALL]), "finish_reason": "tool_calls"},
        usage=USAGE,
    ),
    "completions": {
        "id": "c", "object": "text_completion", "created": 7, "model": "m", "usage": USAGE,
        "choices": [{"index": 0, "text": "héllo", "logprobs": None, "finish_reason": "stop"}],
    },
    "responses": {
        "id": "r", "object": "response", "created_at": 7, "model": "m", "status": "completed", "error": None,
        "output": [{"id": "m", "type": "message", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "héllo", "annotations": []}]}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    },
    "messages": {
        "id": "m", "type": "message", "role": "assistant", "model": "m",
        "content": [{"type": "text", "text": "héllo"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1.5, None]}}],
        "stop_reason": "tool_use", "stop_sequence": None,
        "usage": {"input_tokens": 1, "cache_read_input_tokens": 0, "output_tokens": 2},
    },
}  # fmt: skip
