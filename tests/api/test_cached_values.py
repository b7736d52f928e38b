"""What cached functions return comes back as it was, or is not stored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response
from pydantic import BaseModel

from limiter.cache import cached
from limiter.cache.values import NotStorable, Value, packed, unpacked
from tests.api.cached import Counting, chat, made


class Mine(BaseModel):
    name: str
    inner: list[dict[str, int]] = []


OBJECTS = [
    chat(),
    ChatCompletionChunk.construct(id="c", object="chat.completion.chunk", created=1, model="m",
                                  choices=[{"index": 0, "delta": {"content": "x"}}]),
    CreateEmbeddingResponse.construct(object="list", model="m", usage={"prompt_tokens": 1, "total_tokens": 1},
                                      data=[{"object": "embedding", "index": 0, "embedding": [0.5]}]),
    Response.construct(id="r", object="response", status="completed", created_at=1.0, model="m",
                       output=[{"type": "message", "id": "m", "role": "assistant", "status": "completed",
                                "content": [{"type": "output_text", "text": "hi", "annotations": []}]}],
                       text={"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}}}),
]  # fmt: skip


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_the_sdk_s_objects_come_back_as_they_were(value, cache):
    """Class, fields, and what is newer than the SDK; their tokens count as saved."""
    ask = made("plain", Counting(lambda: value), cache=cache)
    ask()
    again = ask()
    assert type(again) is type(value)
    assert again == value
    assert again.model_dump() == value.model_dump()
    assert cache.stats().tokens_saved == (
        (getattr(value, "usage", None) and value.usage.total_tokens) or 0
    )


def test_a_class_of_the_caller_s_comes_back_where_it_is_annotated(cache, caplog):
    """Its name alone makes no object: the store could name any class there is."""
    work = Counting(lambda: None)

    @cached(cache)
    def annotated() -> Mine:
        work()
        return Mine(name="a", inner=[{"x": 1}])

    @cached(cache)
    def silent():
        work()
        return Mine(name="a")

    assert annotated() == annotated()
    assert isinstance(annotated(), Mine)
    assert work.calls == 1
    silent(), silent()
    assert work.calls == 3
    assert "annotated to return it" in caplog.text


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "openai.OpenAI", "openai.nowhere.X",
                                  "openai.types.chat.chat_completion.Choice.mro", "builtins.dict", ""])  # fmt: skip
def test_a_name_from_the_store_makes_nothing_but_the_sdk_s_values(name):
    """Foreign names, and those of no data class, are a miss."""
    assert unpacked([name, {"a": 1}]) in (None, Value({"a": 1}))
    assert name == "" or unpacked([name, {"a": 1}]) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.integers(-(2**63), 2**64 - 1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_what_is_stored_comes_back_as_it_was(value):
    """For everything that is accepted, through the bytes of an entry."""
    from limiter.cache.entry import Entry, read, write

    try:
        entry = Entry("value", packed(value), 2, 1)
        stored = write("k", entry, 10, 10**6)
    except (NotStorable, UnicodeError):
        return  # half a surrogate pair
    found = read("k", stored, 10**6)
    assert found is not None
    assert unpacked(found.data) == Value(value)


@pytest.mark.parametrize(
    "value", [(1,), {1: 2}, {"a": {1}}, 2**64, object(), [[(1,)]], Mine, lambda: 1]
)
def test_what_would_not_come_back_as_it_was_is_refused(value):
    """Tuples become lists, numbers become keys of text: such values are not stored."""
    with pytest.raises(NotStorable):
        packed(value)


def test_what_is_nested_too_deeply_is_refused():
    """… not followed to the end of the stack."""
    value: list[Any] = []
    for _ in range(5_000):
        value = [value]
    with pytest.raises(NotStorable):
        packed(value)
