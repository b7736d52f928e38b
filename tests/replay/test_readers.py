"""Who reads streams in earnest reads the rendered ones: the openai client, and this project's tap.

Over real HTTP. The server of the project streams as OpenAI does: its streams amount to its answers.
"""

from __future__ import annotations

import json
import urllib.request

import openai
import pytest
from hypothesis import Phase, given, settings
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from limiter.mock import MockConfig, background
from limiter.providers import Tap
from limiter.providers.profile import usage_of
from limiter.replay import as_asked, assemble, render
from tests.replay import answers
from tests.replay.test_forms import SMALL, payloads, streamed
from tests.transport.scripted import Scripted, whole
from tests.transport.scripted import streamed as sent

# Without shrinking: over HTTP it takes minutes, and the drawn answers are small.
real = settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@pytest.fixture(scope="module")
def server():
    made = Scripted([])
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as made:
        yield made


ASKED = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


# Some drawn fields are of types that the client has not foreseen; it keeps them all the same.
untyped = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


@untyped
@real
@given(answers.ANSWERS["chat"])
def test_openai_s_accumulator_makes_the_chat_completion(server, client, answer):
    """What the client puts together from chunks is what it reads unstreamed."""
    for choice in answer["choices"]:
        # The client raises for the others, streamed or not.
        if choice["finish_reason"] in {"length", "content_filter"}:
            choice["finish_reason"] = "stop"
    events = streamed("chat", answer)
    server.answers = [whole(answer)]
    unstreamed = client.chat.completions.parse(**ASKED)
    server.answers = [sent(events)]
    with client.chat.completions.stream(**ASKED) as stream:
        found = stream.get_final_completion().model_dump()
    for choice in found["choices"]:
        # The client leaves the place of a call in a stream on it; no answer has it.
        for one in choice["message"]["tool_calls"] or []:
            one.pop("index", None)
    assert found == unstreamed.model_dump()


@untyped
@real
@given(answers.ANSWERS["responses"])
def test_openai_s_accumulator_makes_the_response(server, client, answer):
    """Its checks of identities and order pass on every event; the last one is the answer."""
    events = streamed("responses", answer)
    server.answers = [whole(answer)]
    # What ended early the client leaves unparsed.
    ask = client.responses.parse if answer["status"] == "completed" else client.responses.create
    unstreamed = ask(model="m", input="hello")
    server.answers = [sent(events)]
    with client.responses.stream(model="m", input="hello") as stream:
        read = list(stream)
    assert [one.sequence_number for one in read] == list(range(len(events)))
    written = {}
    for one in read:
        # The client's own sum of the deltas, over what the item began with.
        if hasattr(one, "snapshot"):
            written[one.item_id] = one.snapshot
        elif one.type == "response.output_text.done" and one.text:
            assert written[one.item_id] == one.text
        elif one.type == "response.function_call_arguments.done" and one.arguments:
            assert written[one.item_id] == one.arguments
    assert read[-1].type == f"response.{answer['status']}"
    assert read[-1].response.model_dump() == unstreamed.model_dump()


@real
@given(answers.ANSWERS["completions"])
def test_the_client_reads_the_completion(server, client, answer):
    """The texts of the chunks join to the texts of the answer."""
    server.answers = [sent(streamed("completions", answer))]
    texts = dict.fromkeys(range(len(answer["choices"])), "")
    for chunk in client.completions.create(model="m", prompt="hello", stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert [*texts.values()] == [choice["text"] for choice in answer["choices"]]


# Of a completion they have no chunk: a finish_reason of null is not among them.
TYPES = {
    "chat": TypeAdapter(ChatCompletionChunk),
    "responses": TypeAdapter(ResponseStreamEvent),
}


@pytest.mark.parametrize("endpoint", TYPES)
def test_each_event_is_of_the_client_s_types(endpoint):
    """Of an answer with all that an answer may have, no event lacks a field or has a wrong one."""
    for one in payloads(streamed(endpoint, FULL[endpoint])):
        TYPES[endpoint].validate_python(one, strict=False)


def test_a_response_comes_about_as_openai_tells_it():
    """The order of events is that of OpenAI's streams."""
    told = [one["type"] for one in payloads(streamed("responses", FULL["responses"]))]
    assert [kind.removeprefix("response.") for kind in told] == ORDER


@given(answers.asked)
def test_a_tap_reads_the_same_usage(pair):
    """What watches streams to settle them sees the end and the usage of the answer."""
    endpoint, answer = pair
    tap = Tap()
    for event in streamed(endpoint, answer):
        tap.feed(event)
    assert tap.done
    assert tap.error is None
    assert tap.usage == usage_of(answer)


@pytest.fixture(scope="module")
def mock():
    with background(MockConfig(rpm=10_000, tpm=10_000_000)) as running:
        yield running


def asked_of(mock, path, body):
    request = urllib.request.Request(f"{mock.base_url}/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        return response.read()


BODIES = [
    ("chat", "chat/completions", {**ASKED, "n": 3}),
    ("chat", "chat/completions", {**ASKED, "max_tokens": 2}),
    ("responses", "responses", {"model": "m", "input": "hello"}),
    ("responses", "responses", {"model": "m", "input": "hello", "max_output_tokens": 1}),
]


@pytest.mark.parametrize(("endpoint", "path", "body"), BODIES)
def test_a_provider_s_stream_amounts_to_its_answer(mock, endpoint, path, body):
    """The same body, streamed and not: one answer; of a chat, streams leave empty notes out."""
    wanted = json.loads(asked_of(mock, path, body))
    streams = {"stream": True}
    if endpoint == "chat":
        streams["stream_options"] = {"include_usage": True}
        for choice in wanted["choices"]:
            assert choice["message"].pop("annotations") == []
    recorded = asked_of(mock, path, {**body, **streams})
    found = assemble(endpoint, recorded)
    since = "created" if endpoint == "chat" else "created_at"
    assert {**found, since: 0} == {**wanted, since: 0}
    assert assemble(endpoint, b"".join(render(endpoint, found, include_usage=True))) == found


def test_a_provider_s_stream_without_its_usage_is_the_one_that_is_not_asked_for(mock):
    """Chunk for chunk, but for the null that announces the usage, and for the time."""
    told = asked_of(
        mock,
        "chat/completions",
        {**ASKED, "stream": True, "stream_options": {"include_usage": True}},
    )
    plain = asked_of(mock, "chat/completions", {**ASKED, "stream": True})
    replayed = payloads(as_asked("chat", told, include_usage=False))
    assert [one.pop("usage") for one in replayed] == [None] * len(replayed)
    assert [{**one, "created": 0} for one in replayed] == [
        {**one, "created": 0} for one in payloads([plain])
    ]


ENTRY = {"token": "hi", "logprob": -0.5, "bytes": [104, 105], "top_logprobs": []}
NOTE = {"type": "url_citation", "start_index": 0, "end_index": 1, "title": "t", "url": "u"}
FULL = {
    "chat": {
        **SMALL["chat"],
        "choices": [
            *SMALL["chat"]["choices"],
            {"index": 2, "message": {"role": "assistant", "content": "hi", "refusal": None},
             "logprobs": {"content": [ENTRY], "refusal": None}, "finish_reason": "stop"},
            {"index": 3, "message": {"role": "assistant", "content": None, "refusal": "no",
                                     "function_call": {"name": "f", "arguments": "{}"}},
             "logprobs": None, "finish_reason": "function_call"},
        ],
    },
    "completions": {**SMALL["completions"], "choices": [
        {"index": 0, "text": "hi", "finish_reason": "length", "logprobs": {
            "tokens": ["hi"], "token_logprobs": [-0.5], "top_logprobs": [{"hi": -0.5}], "text_offset": [0]}},
    ]},
    "responses": {
        **SMALL["responses"], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3,
                  "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                  "output_tokens_details": {"reasoning_tokens": 0}},
        "output": [
            {"id": "rs", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
             "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"id": "ws", "type": "web_search_call", "status": "completed",
             "action": {"type": "search", "query": "q"}},
            {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "hi", "annotations": [NOTE], "logprobs": [ENTRY]},
                {"type": "refusal", "refusal": "no"}]},
            {"id": "fc", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}",
             "status": "completed"},
            {"id": "ct", "type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"},
        ],
    },
}  # fmt: skip
ORDER = [
    "created",
    "in_progress",
    "output_item.added",
    "reasoning_summary_part.added",
    "reasoning_summary_text.delta",
    "reasoning_summary_text.done",
    "reasoning_summary_part.done",
    "content_part.added",
    "reasoning_text.delta",
    "reasoning_text.done",
    "content_part.done",
    "output_item.done",
    "output_item.added",
    "output_item.done",
    "output_item.added",
    "content_part.added",
    "output_text.delta",
    "output_text.annotation.added",
    "output_text.done",
    "content_part.done",
    "content_part.added",
    "refusal.delta",
    "refusal.done",
    "content_part.done",
    "output_item.done",
    "output_item.added",
    "function_call_arguments.delta",
    "function_call_arguments.done",
    "output_item.done",
    "output_item.added",
    "custom_tool_call_input.delta",
    "custom_tool_call_input.done",
    "output_item.done",
    "completed",
]
