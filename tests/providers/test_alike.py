"""Which calls are learned together: few keys, that tell apart what answers in different lengths."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limiter.providers import output_key

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
names = st.sampled_from(
    ["model", "max_tokens", "reasoning", "reasoning_effort", "thinking", "effort"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("\ud800") | st.just(10**4000),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names | st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)


def key(path: str = CHAT, **body: object) -> str:
    return output_key(path, {"model": "gpt-4o", **body})


def test_a_key_says_endpoint_model_and_cap() -> None:
    """The cap by its power of two, in every provider's spelling."""
    assert key() == "chat any gpt-4o"
    assert key(max_tokens=1024) == key(max_completion_tokens=513) == "chat 10 gpt-4o"
    assert output_key(
        "/v1beta/models/gemini-2.5-pro:generateContent",
        {"generationConfig": {"maxOutputTokens": 2}},
    ) == "generate 1 gemini-2.5-pro"  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (key(), key(RESPONSES)),
        (key(), key(model="gpt-4o-mini")),
        (key(), key(max_tokens=1)),
        (key(max_tokens=1024), key(max_tokens=1025)),
        (key(), key(reasoning_effort="high")),
        (key(RESPONSES, reasoning={"effort": "low"}), key(RESPONSES, reasoning={"effort": "high"})),
        (key("/v1/messages"), key("/v1/messages", thinking={"type": "enabled"})),
        (key(model="ft:gpt-4o-2024-08-06:org::a"), key(model="ft:gpt-4o-2024-08-06:org::b")),
    ],
)
def test_what_makes_answers_longer_is_a_key_of_its_own(one: str, other: str) -> None:
    """Another endpoint, model, fine-tune, cap, or amount of thinking."""
    assert one != other


def test_what_does_not_is_not() -> None:
    """Snapshots, deployments' hosts, prompts, users and streaming: all of them are one key."""
    others = [
        key(model="gpt-4o-2024-11-20"),
        key(messages=[{"role": "user", "content": "hello"}]),
        key(stream=True, user="ann", temperature=0.2),
        output_key("/openai/deployments/gpt-4o/chat/completions?api-version=1", {}),
    ]
    assert set(others) == {key()}


@given(
    path=st.sampled_from([CHAT, RESPONSES, "", "/"]) | st.text(),
    body=st.dictionaries(names, values) | values,
)
@example(path=CHAT, body={"model": "gpt-\ud800é" * 1000})
def test_any_body_has_a_short_key_of_ascii(path: str, body: object) -> None:
    """Names that are no text, or far too long, neither fail nor fill the store."""
    found = output_key(path, body)  # type: ignore[arg-type]  # that is the test
    assert found.isascii()
    assert len(found) <= 120
