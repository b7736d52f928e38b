"""A whole request: its parts add up, what is exact is rare, and no content raises."""

from __future__ import annotations

import json
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter import tokens

pytestmark = pytest.mark.usefixtures("by_bytes")

HI = [{"role": "user", "content": "hello"}]
TOOL = {
    "name": "f",
    "description": "abc.",
    "parameters": {
        "type": "object",
        "properties": {
            "a": {"type": "string", "description": "de."},
            "b": {"type": "string", "description": "", "enum": ["x", "yz"]},
        },
    },
}
# `f:abc`, then `a:string:de` and `b:string:` with x and yz, by the cookbook's constants.
TOOL_TOKENS = 7 + 5 + 3 + (3 + 11) + (3 + 9 - 3 + (3 + 1) + (3 + 2)) + 12


def test_a_plain_chat_is_exact():
    """Text alone, of a model whose bills were compared, is exact, and is what `count` says."""
    for model in ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4.1-nano", "gpt-5-nano", "gpt-4-0613"):
        body = {"model": model, "messages": HI, "temperature": 0.5, "max_tokens": 9, "stream": True}
        found = tokens.count_request(body)
        assert (found.exact, found.assumptions) == (True, ())
        assert found.total == found.text + found.framing == tokens.count(HI, model)


@pytest.mark.parametrize(
    "more",
    [
        {"model": "gpt-4-1106-preview"},
        {"model": "gpt-3.5-turbo-0301"},
        {"model": "gpt-5.1"},
        {"model": "ft:gpt-4o:acme"},
        {"model": None},
        {"tools": [{"type": "function", "function": TOOL}]},
        {"tools": [{"type": "web_search"}]},
        {"functions": [TOOL]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}},
        {"text": {"verbosity": "low"}},
        {"reasoning_effort": "high"},
        {"prediction": {"type": "content", "content": "abc"}},
        {"input": "and this?"},
        {"an_unknown_field": 1},
    ],
    ids=str,
)
def test_what_was_not_compared_is_not_exact(more):
    """One field of unknown effect, or a model without compared bills, ends exactness."""
    found = tokens.count_request({"model": "gpt-4o", "messages": HI, **more})
    assert not found.exact
    assert found.total >= 5


def test_fields_that_are_empty_change_nothing():
    """A body with null fields, as a dumped pydantic object has, is the body without them."""
    body = {"model": "gpt-4o", "messages": HI}
    empty = {"tools": [], "response_format": None, "previous_response_id": None, "metadata": {}}
    assert tokens.count_request(body | empty) == tokens.count_request(body)


def test_responses_are_framed_like_chats():
    """A text input is a user's message, instructions are a system message before it."""
    body = {"model": "gpt-4.1", "instructions": "abc", "input": "hello"}
    same = [{"role": "system", "content": "abc"}, *HI]
    found = tokens.count_request(body)
    assert found.exact
    assert found.total == tokens.count(same, "gpt-4.1")
    assert found == tokens.count_request(body | {"input": HI}, "/v1/responses")
    # 22 of 24 recorded calls of gpt-5 models were billed so, and two were not.
    assert not tokens.count_request(body | {"model": "gpt-5-nano"}).exact
    for more in ({"previous_response_id": "r"}, {"conversation": "c"}, {"prompt": {"id": "p"}}):
        assert not tokens.count_request(body | more).exact


def test_texts_have_no_frames():
    """A text is its tokens; completions and embeddings are those of their inputs, ids included."""
    assert tokens.count_request("hello") == tokens.Count(5)
    found = tokens.count_request({"model": "davinci-002", "prompt": "hello"})
    assert (found.total, found.exact) == (5, False)
    body = {"model": "text-embedding-3-small", "input": ["ab", "c", [1, 2, 3]]}
    assert tokens.count_request(body).total == 6
    assert tokens.count_request(body | {"input": [1, 2]}, "/v1/embeddings").total == 2
    assert tokens.count_request({"input": "ab"}, None, "text-embedding-3-small").framing == 0


def test_tools_follow_the_cookbook():
    """Names, descriptions without their dot, types and enumerations, with its constants."""
    body = {"model": "gpt-4o", "messages": HI, "tools": [{"type": "function", "function": TOOL}]}
    assert tokens.count_request(body).tools == TOOL_TOKENS
    assert tokens.count_request(body | {"model": "gpt-4"}).tools == TOOL_TOKENS + 3
    assert tokens.count_request(body | {"model": "gpt-5"}).tools == TOOL_TOKENS + 200
    flat = {"model": "gpt-4o", "input": "hello", "tools": [{"type": "function", **TOOL}]}
    assert tokens.count_request(flat).tools == TOOL_TOKENS
    legacy = {"model": "gpt-4o", "messages": HI, "functions": [TOOL]}
    assert tokens.count_request(legacy).tools == TOOL_TOKENS


def test_a_schema_of_the_answer_counts_as_json():
    """Both endpoints' spellings of a structured answer add its JSON to the tools."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    size = len(json.dumps(schema, separators=(",", ":")))
    chat = {"response_format": {"type": "json_schema", "json_schema": schema}}
    assert tokens.count_request({"messages": HI, **chat}).tools == size
    text = {"text": {"format": {"type": "json_schema", "schema": schema}}}
    assert tokens.count_request({"input": "hi", **text}).tools == size
    assert tokens.count_request(
        {"model": "gpt-4o", "input": "a", "text": {"format": {"type": "text"}}}
    ).exact


def test_the_model_comes_from_the_body_then_the_path_s_argument():
    """`model=` stands in where the body names none; without either it is gpt-4o, and said so."""
    ours, theirs = {"messages": HI}, {"messages": HI, "model": "gpt-5"}
    assert tokens.count_request(theirs, None, "gpt-4o") == tokens.count_request(theirs)
    assert tokens.count_request(ours, None, "gpt-4o").exact
    assert not tokens.count_request(ours).exact
    path = "/openai/deployments/mine/chat/completions"
    with pytest.warns(RuntimeWarning, match="'mine' is unknown"):
        assert not tokens.count_request(theirs, path).exact


def test_without_a_vocabulary_nothing_is_exact(monkeypatch):
    """The byte estimate says that it is one."""
    monkeypatch.setattr(tokens.vocabulary._loaded, "encodings", {})
    with pytest.warns(RuntimeWarning, match="bytes/4"):
        found = tokens.count_request({"model": "gpt-4o", "messages": HI})
    assert (found.text, found.exact) == (2, False)
    assert "4 bytes" in found.assumptions[0]


class Dumps:
    """Be an object whose dump is what the test says."""

    def __init__(self, dump):
        self.model_dump = dump


def fail():
    raise ZeroDivisionError


cyclic: dict = {"messages": HI}
cyclic["me"] = cyclic
deep: list = []
for _ in range(5000):
    deep = [deep]


@pytest.mark.parametrize(
    "body",
    [
        None, 7, b"bytes", object(), [], {}, "", cyclic, deep, {"messages": deep}, {7: 8},
        Dumps(fail), Dumps(lambda: Dumps(fail)), Dumps, {"messages": Dumps(fail)},
        {"messages": (each for each in HI)}, {"messages": {"role": "user"}},
        {"messages": [[["a"]]]}, {"messages": [{"content": {"text": {"text": "a"}}}]},
        {"messages": [{"role": {}, "name": [], "tool_calls": {"a": 1}, "type": {}}]},
        {"messages": [{"tool_calls": [None, "a", {"function": "f"}, {"function": {"name": 1}}]}]},
        {"messages": HI, "tools": [None, 1, "a", {"type": []}, {"function": []}, {"name": {}}]},
        {"messages": HI, "tools": [{"name": "f", "parameters": {"properties": {"a": 1, "b": {"enum": 1}}}}]},
        {"messages": HI, "response_format": "json", "text": "a", "model": ["gpt-4o"]},
        {"messages": [{"content": [{"type": "image_url", "image_url": 7}, {"image": {}}, {"type": []}]}]},
        {"input": [{"type": "message", "content": "\ud800"}], "model": "\ud800"},
        {"prompt": [None, 1.5, ["a"], "b"]}, {"prompt": {"id": "p"}}, {"input": 7},
    ],
    ids=lambda body: type(body).__name__,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:The encoding of the model")
def test_no_content_raises(body):
    """Whatever a body is or holds, it is counted, and what is odd is never called exact."""
    found = tokens.count_request(body)
    assert found.total >= 0
    assert isinstance(tokens.count(body), int)
    if not isinstance(body, str):
        assert not found.exact


def test_iterators_are_left_to_the_caller():
    """What can be read only once is not read here."""
    messages = iter(HI)
    tokens.count_request({"model": "gpt-4o", "messages": messages})
    assert next(messages) == HI[0]


def test_a_frozen_mapping_is_a_body():
    """Mappings and sequences of any kind are read like dicts and lists."""
    body = types.MappingProxyType({"model": "gpt-4o", "messages": tuple(HI)})
    assert tokens.count_request(body) == tokens.count_request(dict(body))


KEYS = st.sampled_from([
    "role", "content", "type", "text", "name", "tool_calls", "function", "arguments", "image_url",
    "url", "messages", "input", "tools", "parameters", "properties", "enum", "model", "detail",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "a", "function", "low"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(body=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@pytest.mark.filterwarnings("ignore:The encoding of the model")
def test_any_json_is_counted(body):
    """No JSON raises, and the parts always add up to the total."""
    for path in (None, "/v1/responses", "/v1/messages"):
        found = tokens.count_request(body, path)
        assert found.total == found.text + found.framing + found.tools + found.images >= 0
