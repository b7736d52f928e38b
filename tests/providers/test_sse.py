"""A stream tells its usage, its end and its errors in any split of its bytes."""

from __future__ import annotations

import json
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.providers import Tap, Usage
from limiter.providers.sse import Event, Events, StreamError


def sse(*payloads, eol="\n"):
    """Write events; a pair is (event name, data), text goes out as it is."""
    out = []
    for payload in payloads:
        name, data = payload if isinstance(payload, tuple) else (None, payload)
        out += [f"event: {name}"] if name else []
        out += [f"data: {data if isinstance(data, str) else json.dumps(data)}", ""]
    return (eol.join(out) + eol).encode()


def delta(**fields):
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields}]}


def event(kind, **fields):
    return kind, {"type": kind, **fields}


CHAT = sse(
    delta(role="assistant", content=""),
    delta(content="héllo"),
    delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}]),
    delta(reasoning_content="hm"),
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}},
    "[DONE]",
)
RESPONSES = sse(
    event("response.created", response={"usage": None, "error": None}),
    event("response.output_text.delta", delta="hello"),
    event("response.audio.delta", delta="AAAA"),
    event("response.completed", response={"usage": {"input_tokens": 3, "output_tokens": 4}}),
)
ANTHROPIC = sse(
    event("message_start", message={"usage": {"input_tokens": 9, "output_tokens": 1}}),
    event("content_block_delta", delta={"type": "text_delta", "text": "hello"}),
    event("message_delta", delta={"stop_reason": "end"}, usage={"output_tokens": 12}),
    event("message_stop"),
)
GEMINI = sse(
    {
        "candidates": [{"content": {"parts": [{"text": "hello"}], "role": "model"}}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11},
    },
    {
        "candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]}}],
        "usageMetadata": {
            "promptTokenCount": 9,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 7,
            "totalTokenCount": 21,
        },
    },
)
GROQ = sse(
    delta(content="hi"),
    {"choices": [], "x_groq": {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}},
    "[DONE]",
)


def told(tap):
    return tap.usage, tap.done, tap.error, tap.output_bytes


def tapped(*chunks, **options):
    tap = Tap(**options)
    for chunk in chunks:
        tap.feed(chunk)
    return tap


@pytest.mark.parametrize(
    ("stream", "usage", "output_bytes"),
    [
        (CHAT, Usage(9, 4, 13), 6 + 7 + 2),
        (RESPONSES, Usage(3, 4), 5),
        (ANTHROPIC, Usage(9, 12), 5),
        (GROQ, Usage(9, 4), 2),
        (sse({"choices": [{"text": "abc"}, "odd"]}, "[DONE]"), None, 3),
    ],
)
def test_a_finished_stream_tells_its_usage_and_its_end(stream, usage, output_bytes):
    """Usage, end and output are read from chat, text, responses and messages streams."""
    assert told(tapped(stream)) == (usage, True, None, output_bytes)


def test_gemini_tells_its_usage_as_it_goes_on():
    """Each chunk has the usage so far, thoughts too; no chunk says that it is the last."""
    assert told(tapped(GEMINI)) == (Usage(9, 12, 21, 0, 7), False, None, 5 + 7)
    first = GEMINI[: GEMINI.index(b"\n\n") + 2]
    assert tapped(first).seen == Usage(9, 2, 11)


def test_what_was_written_since_the_last_usage_counts():
    """Anthropic tells one token of output at the start: what was seen after it is added."""
    start = ANTHROPIC[: ANTHROPIC.index(b"event: message_delta")]
    assert tapped(start).usage == Usage(9, 1)
    assert tapped(start).seen == Usage(9, 1 + 2)
    assert tapped(ANTHROPIC).seen == Usage(9, 12)
    partial = sse({"usage": {"total_tokens": 5, "prompt_tokens": 3}}, delta(content="12345678"))
    assert tapped(partial).seen == Usage(3, 2, 7)


def test_what_came_from_a_cache_is_told_once():
    """Anthropic tells it at the start; it is still there when the output is told."""
    usage = {"input_tokens": 9, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 2}
    start = event("message_start", message={"usage": {**usage, "output_tokens": 1}})
    end = event("message_delta", usage={"output_tokens": 12})
    assert tapped(sse(start, end)).usage == Usage(11, 12, cache_read_tokens=70)


def test_a_usage_of_one_s_own_shape_can_be_read():
    """A tap reads events as the profile does that it is given."""

    def read(payload):
        return Usage(total_tokens=payload["cost"]) if "cost" in payload else None

    assert tapped(sse({"cost": 7}, {"usage": {"total_tokens": 9}}), read=read).usage == Usage(
        total_tokens=7
    )


@pytest.mark.parametrize("kind", ["response.incomplete", "response.failed"])
def test_an_unhappy_end_is_an_end_with_usage(kind):
    """A response that ends incomplete or failed is over, and its usage counts."""
    tap = tapped(sse(event(kind, response={"usage": {"input_tokens": 3, "output_tokens": 4}})))
    assert (tap.usage, tap.done) == (Usage(3, 4), True)


def test_a_broken_stream_is_known_by_what_was_seen():
    """Without usage, what was seen counts bytes/4 of output, and the stream is not done."""
    tap = tapped(CHAT[: CHAT.index(b"usage")])
    assert (tap.usage, tap.done, tap.seen) == (None, False, Usage(output_tokens=4))
    assert tapped(CHAT).seen == Usage(9, 4, 13)
    assert Tap().seen == Usage(output_tokens=0)


LIMITED = {"code": "rate_limit_exceeded", "message": "slow", "headers": {"Retry-After-Ms": 1500}}
SLOW = StreamError("rate_limit_exceeded", "slow", {"retry-after-ms": "1500"})


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (
            sse({"error": {"message": "m", "type": "server_error", "code": None}}),
            ("server_error", "m"),
        ),
        (
            sse({"error": {"code": 429, "message": "Provider returned error"}}),
            ("429", "Provider returned error"),
        ),
        (sse({"error": "plain"}), ("unknown", "plain")),
        (sse(("error", "no json")), ("unknown", "")),
        (sse(event("error", code="server_error", message="m")), ("server_error", "m")),
        (sse(event("error", message="m")), ("unknown", "m")),
        (
            sse(event("error", error={"type": "overloaded_error", "message": "O"})),
            ("overloaded_error", "O"),
        ),
        (sse(event("response.failed", response={"error": LIMITED})), SLOW),
        (sse(event("response.failed", response=None)), ("unknown", "")),
    ],
)
def test_an_error_inside_a_stream_is_seen(stream, error):
    """Errors after status 200 are told with code, text and retry headers, in every spelling."""
    assert tapped(stream).error == (error if error is SLOW else StreamError(*error))


def test_the_first_error_is_kept():
    """A later error does not hide the one that explains it."""
    assert tapped(sse({"error": {"code": "a"}}, {"error": {"code": "b"}})).error.code == "a"


def cut(data, places):
    edges = [0, *sorted(p % (len(data) + 1) for p in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(
    st.sampled_from([CHAT, RESPONSES, ANTHROPIC, GEMINI]),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.booleans(),
    st.lists(st.integers(0, 5000), max_size=30),
)
def test_any_split_tells_the_same(stream, eol, bom, places):
    """How the bytes are cut, how lines end, and a byte order mark change nothing."""
    data = b"\xef\xbb\xbf" * bom + stream.replace(b"\n", eol)
    assert told(tapped(*cut(data, places))) == told(tapped(stream))


def cut_to_bytes(data):
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("eol", [b"\n", b"\r", b"\r\n"])
def test_bytes_one_by_one_tell_the_same(eol):
    """A line end that is cut in two is one line end, and a mark at the start is no text."""
    data = b"\xef\xbb\xbfevent: a\ndata: 1\ndata: 2\n\ndata: 3\n\n".replace(b"\n", eol)
    events = Events()
    found = [e for byte in cut_to_bytes(data) for e in events.feed(byte)]
    assert found == [Event("a", b"1\n2"), Event("", b"3")]
    assert list(Events().feed(data)) == found


LINES = st.one_of(
    st.sampled_from(
        ["", "", "data", "data:", ":comment", "event: e", "event:", "id: 1", "retry: 5"]
    ),
    st.builds(lambda text: f"data: {text}", st.text(max_size=8)),
    st.text(max_size=8),
)
STREAMS = st.builds(
    lambda lines, eols: "".join(
        line.replace("\r", " ").replace("\n", " ") + eol
        for line, eol in zip(lines, eols, strict=False)
    ),
    st.lists(LINES, max_size=20),
    st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=20, max_size=20),
).filter(lambda text: not text.startswith("\ufeff"))


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12))
def test_events_are_those_of_httpx2(text, places):
    """Any stream of lines, cut anywhere, has the events that httpx2's own reader finds."""
    # httpx2 2.16 takes a lone CR at the very end for two line ends; HTML's rules do not.
    data = text.encode("utf-8", "replace") + b"\n"
    headers = {"content-type": "text/event-stream"}
    request = httpx2.Request("GET", "http://127.0.0.1/")
    response = httpx2.Response(200, headers=headers, content=data, request=request)
    theirs = [(e.event, e.data.encode()) for e in httpx2.EventSource(response) if e.data]
    events = Events()
    ours = [e for chunk in cut(data, places) for e in events.feed(chunk)]
    assert [(e.name or "message", e.data) for e in ours if e.data] == theirs


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 400), max_size=9))
def test_no_bytes_are_too_odd(pieces, places):
    """Any bytes are read without an exception, and alike in any split."""
    data = b"data: " + b"\ndata: ".join(pieces) + b"\n\n"
    assert told(tapped(*cut(data, places))) == told(tapped(data))


@pytest.mark.parametrize("data", ["[1]", "7", "null", "{", "\ud800", "[" * 100_000])
def test_data_that_is_no_object_says_nothing(data):
    """What is no JSON object is passed over."""
    stream = f"data: {data}\n\n".encode("utf-8", "surrogatepass")
    assert told(tapped(stream)) == (None, False, None, 0)


@given(st.lists(st.integers(0, 3000), max_size=20))
def test_memory_is_bounded(places):
    """A line or event above the bound is dropped, whatever the split; its name still counts."""
    huge = sse({"usage": {"total_tokens": 5}, "pad": "x" * 500})
    long_event = b"event: response.completed\n" + b"data: 12345678\n" * 40 + b"\n"
    small = sse({"usage": {"total_tokens": 7}})
    data = huge + small + long_event + b":" + b"c" * 900 + b"\n\n"
    tap = Tap(max_event_bytes=200)
    for chunk in cut(data, places):
        tap.feed(chunk)
        assert len(tap._events._line) <= 200
        assert sum(map(len, tap._events._data)) <= 200
    assert (tap.usage, tap.done) == (Usage(total_tokens=7), True)


def test_a_dropped_event_has_no_data():
    """An event above the bound is dispatched with its name alone, and the next is whole."""
    events = Events(max_event_bytes=12)
    data = b"event: big\ndata: 123456789\n\ndata: 1234\n\n"
    assert list(events.feed(data)) == [Event("big", b""), Event("", b"1234")]
