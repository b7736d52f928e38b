"""What a call costs before it, after it, and when it fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.core.exact import SCALED_MAX
from limiter.core.quota import check_cost
from limiter.errors import ConfigError
from limiter.providers import Usage, estimate, names, profile
from limiter.providers.endpoints import endpoint
from limiter.providers.profile import EXPECTED_OUTPUT_TOKENS, RULES

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 100}]}
PROVIDERS = tuple(names().split(", "))
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def test_a_chat_is_charged_bytes_and_messages():
    """100 bytes in one message are 25 + 1 + 1 tokens, and one request."""
    assert estimate(CHAT, ASK) == {"requests": 1, "tokens": 27}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", "chat"),
        ("chat/completions", "chat"),
        ("//openai/deployments/my-4o/chat/completions?api-version=2024-10-21", "chat"),
        ("https://api.groq.com/openai/v1/chat/completions/", "chat"),
        ("/openai/v1/responses", "responses"),
        ("/v1/responses/compact", "responses"),
        ("/v1/completions", "completions"),
        ("/openai/deployments/e/embeddings", "embeddings"),
        ("/v1/messages", "messages"),
        ("/v1/images/edits", "images"),
        ("/v1/audio/speech", "request"),
        ("/v1/threads/t/runs", "request"),
        ("/v1/models", None),
        ("/v1/files", None),
        ("/v1/files/f/content", None),
        ("/v1/batches", None),
        ("/v1/chat/completions/c/messages", None),
        ("/v1/responses/r/cancel", None),
        ("/v1/responses/input_tokens", None),
        ("/v1/threads/t/messages", None),
        ("", None),
    ],
)
def test_an_endpoint_is_known_by_its_end(path, kind):
    """Whatever stands before an endpoint does not matter; what stands behind it does."""
    assert endpoint(path) == kind
    assert all((estimate(path, {}, p) == {}) == (kind is None) for p in PROVIDERS)


def test_images_and_audio_cost_requests():
    """Image endpoints cost a request and `n` images; audio costs a request."""
    assert estimate("/v1/images/generations", {"n": 3}) == {"requests": 1, "images": 3}
    assert estimate("/v1/images/edits", None) == {"requests": 1, "images": 1}
    assert estimate("/v1/audio/transcriptions", {}) == {"requests": 1}


def test_an_image_in_a_chat_is_flat():
    """An image adds 765 tokens and one input image, whatever its bytes."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9999}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "abcd"}, image]}]}
    assert estimate(CHAT, body) == {"requests": 1, "tokens": 1 + 1 + 1 + 765, "input_images": 1}
    documented = estimate(CHAT, body, rule="documented")
    assert documented == {"requests": 1, "tokens": 1 + 765, "input_images": 1}


@pytest.mark.parametrize("more", [{"max_tokens": 500}, {"n": 4}, {"tools": [FUNCTION]}])
def test_admission_of_a_chat_counts_text_only(more):
    """`max_tokens`, `n` and tools do not change what a chat takes at admission."""
    assert estimate(CHAT, ASK | more) == estimate(CHAT, ASK)


def test_documented_counts_the_longest_answers():
    """`"documented"` is bytes/4 + n · max_tokens; unset counts 16 for /completions, else 0."""
    assert estimate(CHAT, ASK | {"max_tokens": 50, "n": 2}, rule="documented")["tokens"] == 125
    assert estimate(CHAT, ASK, rule="documented")["tokens"] == 25
    ask = {"prompt": "x" * 40, "best_of": 3}
    assert estimate("/v1/completions", ask, rule="documented")["tokens"] == 10 + 3 * 16
    assert estimate("/v1/completions", ask)["tokens"] == 10
    tight = estimate("/v1/completions", ask | {"max_tokens": 0}, rule="documented")
    assert tight["tokens"] == 10


def test_usage_adds_the_expected_answer():
    """`"usage"` adds the guess, capped by the body's maximum, for each answer."""
    assert estimate(CHAT, ASK, rule="usage")["tokens"] == 27 + EXPECTED_OUTPUT_TOKENS
    short = ASK | {"max_completion_tokens": 10, "n": 2}
    assert estimate(CHAT, short, rule="usage")["tokens"] == 27 + 20
    learned = profile("openai").estimate(CHAT, ASK, rule="usage", output_tokens=5)
    assert learned == {"requests": 1, "tokens": 32}
    embed = {"input": ["x" * 40, "y" * 2]}
    assert estimate("/v1/embeddings", embed, rule="usage") == {"requests": 1, "tokens": 11}


def test_token_ids_count_one_each():
    """An input given as token ids costs one token per id."""
    assert estimate("/v1/embeddings", {"input": [[1, 2, 3], [4]]})["tokens"] == 4
    assert estimate("/v1/completions", {"prompt": [5, 6]})["tokens"] == 2


@pytest.mark.parametrize(
    ("model", "tools", "scaffold"),
    [
        ("gpt-4o", [], 19),
        ("gpt-4.1-mini", [{"type": "web_search"}], 19),
        ("gpt-4o", [FUNCTION], 217),
        ("gpt-5-nano", [], 217),
        ("gpt-5.2", [FUNCTION], 496),
        ("gpt-5.4", [], 163),
        ("gpt-5.10", [FUNCTION], 449),
        ("gpt-6-sol", [FUNCTION], 449),
        (None, "odd", 19),
    ],
)
def test_responses_charge_a_scaffold_and_the_output_beyond_it(model, tools, scaffold):
    """/responses ends at billed input + max(C, output), with C by model and function tools."""
    openai, body = profile("openai"), {"model": model, "input": "x" * 40, "tools": tools}
    before = openai.estimate(RESPONSES, body)
    assert openai.estimate(RESPONSES, body, rule="usage", output_tokens=scaffold) == before
    for written in (0, scaffold, scaffold + 100):
        after = openai.settled(RESPONSES, before, Usage(30, written), body=body)
        assert after == {"requests": 1, "tokens": 30 + max(scaffold, written)}


def test_responses_input_is_everything_the_model_reads():
    """Instructions, tool results and tools count in /responses; each message adds its frame."""
    plain = estimate(RESPONSES, {"input": "x" * 40})["tokens"]
    assert estimate(RESPONSES, {"input": "x" * 40, "instructions": "y" * 8})["tokens"] == plain + 6
    call = {"type": "function_call_output", "call_id": "c", "output": "z" * 20}
    as_list = [{"role": "user", "content": "x" * 40}, call]
    assert estimate(RESPONSES, {"input": as_list})["tokens"] == plain + 5 + 4
    hosted = {"input": "x" * 40, "tools": [{"type": "web_search"}]}
    assert estimate(RESPONSES, hosted)["tokens"] == plain + 6


def test_responses_with_an_image_never_settle_below_the_estimate():
    """A billed image says less than the 765 that it was charged."""
    image = {"type": "input_image", "image_url": "data:..."}
    body = {"model": "gpt-4.1-nano", "input": [{"role": "user", "content": [image]}]}
    before = profile("openai").estimate(RESPONSES, body)
    assert profile("openai").settled(RESPONSES, before, Usage(53, 9), body=body) == before
    much = profile("openai").settled(RESPONSES, before, Usage(53, 9000), body=body)
    assert much["tokens"] == 9053


def test_a_chat_settles_to_its_estimate():
    """Under "admission" the answer's length changes nothing for a chat."""
    before = estimate(CHAT, ASK)
    assert profile("openai").settled(CHAT, before, Usage(20, 9000)) == before


@pytest.mark.parametrize("rule", ["documented", "usage"])
def test_other_rules_settle_to_the_total(rule):
    """Under "documented" and "usage" a call ends at its total usage."""
    before = estimate(CHAT, ASK | {"max_tokens": 999}, rule=rule)
    after = profile("openai").settled(CHAT, before, Usage(20, 30), rule=rule)
    assert after == {"requests": 1, "tokens": 50}


def test_usage_reads_tools_and_calls_that_admission_leaves_out():
    """They are billed: under "usage" they are reserved as they are read, at admission they are not."""
    call = {"type": "function", "id": "c", "function": {"name": "f", "arguments": "x" * 40}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    asked = {"messages": [*ASK["messages"], turn], "tools": [FUNCTION]}
    schema = len('[{"type":"function","name":"f","parameters":{"type":"object"}}]')
    assert estimate(CHAT, asked)["tokens"] == 25 + 2 + 1
    read = -(-(100 + 1 + 40 + schema) // 4) + 2 + 1
    assert estimate(CHAT, asked, rule="usage")["tokens"] == read + EXPECTED_OUTPUT_TOKENS


def test_a_broken_stream_settles_to_what_was_seen():
    """Output seen and no usage: the input is taken from the body; without it nothing changes."""
    openai, before = profile("openai"), estimate(CHAT, ASK, rule="usage")
    seen = Usage(output_tokens=7)
    after = openai.settled(CHAT, before, seen, rule="usage", body=ASK)
    assert after == {"requests": 1, "tokens": 25 + 4 + 3 + 7}
    assert openai.settled(CHAT, before, seen, rule="usage") == before
    told = openai.settled(CHAT, before, Usage(1, 2), rule="usage", body=ASK)
    assert told["tokens"] == 3


def test_the_estimate_stands_when_nothing_is_known():
    """No usage, an unknown endpoint or dimensions of the caller's own leave a cost as it was."""
    for name in PROVIDERS:
        p = profile(name)
        assert p.settled(CHAT, {"requests": 1, "tokens": 9}, None) == {"requests": 1, "tokens": 9}
        assert p.settled("/v1/models", {"tokens": 9}, Usage(1, 1)) == {"tokens": 9}
        assert p.settled(CHAT, {"gpu": 2}, Usage(1, 1), rule="usage") == {"gpu": 2}


def test_azure_reserves_the_maximum_and_gives_nothing_back():
    """Azure's standard rule is prompt + max_tokens · answers, and it stands."""
    azure, ask = profile("azure"), ASK | {"max_tokens": 100, "n": 2}
    path = "/openai/deployments/d/chat/completions"
    before = azure.estimate(path, ask)
    assert before == {"requests": 1, "tokens": 25 + 4 + 3 + 200}
    assert azure.estimate(path, ask, rule="documented") == before
    assert azure.settled(path, before, Usage(20, 30), rule="documented") == before
    assert azure.settled("/openai/v1/responses", before, Usage(20, 30)) == before
    assert azure.estimate(path, ask, rule="usage") == {"requests": 1, "tokens": 27 + 200}
    assert azure.settled(path, before, Usage(20, 30), rule="usage")["tokens"] == 50


def test_generic_counts_both_sides_and_settles_to_the_usage():
    """An unknown provider's call reserves input + expected output, and ends at its usage."""
    generic, ask = profile("generic"), ASK | {"max_tokens": 1000}
    given, guess = 25 + 4 + 3, EXPECTED_OUTPUT_TOKENS
    before = generic.estimate("/v1/messages", ask | {"system": "abcd"})
    given_2 = given + 1 + 4
    assert before == {
        "requests": 1,
        "tokens": given_2 + guess,
        "input_tokens": given_2,
        "output_tokens": guess,
    }
    full = generic.estimate(CHAT, ask, rule="documented")
    assert (full["input_tokens"], full["output_tokens"]) == (given, 1000)
    embed = generic.estimate("/v1/embeddings", {"input": "x" * 8}, rule="documented")
    assert embed == {"requests": 1, "tokens": 5, "input_tokens": 5, "output_tokens": 0}
    after = generic.settled(CHAT, full, Usage(20, 30))
    assert after == {"requests": 1, "tokens": 50, "input_tokens": 20, "output_tokens": 30}
    assert generic.settled(CHAT, full, Usage(total_tokens=50))["input_tokens"] == given


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "mistral"])
def test_failures_give_back_what_the_provider_did_not_count(name):
    """Never sent: all comes back. 429: the request counts. 400 and 5xx: the estimate stands."""
    cost = {"requests": 1, "tokens": 27, "input_images": 1}
    failure = profile(name).failure
    assert failure(None, cost) == {"requests": 0, "tokens": 0, "input_images": 0}
    assert failure(429, cost) == {"requests": 1, "tokens": 0, "input_images": 0}
    assert all(failure(status, cost) == cost for status in (400, 404, 500, 503))


def test_unknown_names_are_refused_with_the_list():
    """An unknown provider or rule is a ConfigError that names those there are."""
    assert names().startswith("openai, azure, ")
    with pytest.raises(ConfigError, match=f"'opneai': use one of {names()} "):
        profile("opneai")
    for call in (profile("openai").estimate, profile("generic").estimate):
        with pytest.raises(ConfigError, match="admission, documented, usage"):
            call(CHAT, ASK, rule="guess")
    with pytest.raises(ConfigError, match="admission, documented, usage"):
        profile("azure").settled(CHAT, {}, None, rule="guess")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "content",
                    "role",
                    "name",
                    "image_url",
                    "n",
                    "output",
                    "tool_calls",
                    "parts",
                    "args",
                    "input",
                    "image",
                    "inlineData",
                    "mimeType",
                    "usage",
                    "usageMetadata",
                    "promptTokenCount",
                    "totalTokenCount",
                    "inputTokens",
                    "prompt_tokens",
                    "input_tokens",
                    "total_tokens",
                    "completion_tokens",
                    "cache_read_input_tokens",
                ]
            )
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
BODY = st.dictionaries(
    st.sampled_from(
        [
            "model",
            "messages",
            "input",
            "system",
            "prompt",
            "tools",
            "n",
            "best_of",
            "max_tokens",
            "contents",
            "generationConfig",
            "inferenceConfig",
            "requests",
        ]
    ),
    JSON,
)
PATHS = st.sampled_from(
    [
        CHAT,
        RESPONSES,
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/images/edits",
        "/v1beta/models/gemini-2.5-pro:generateContent",
        "/v1beta/models/e:batchEmbedContents",
        "/model/us.anthropic.claude-sonnet-4-20250514-v1%3A0/converse",
        "/model/amazon.titan-embed-text-v2:0/invoke",
    ]
)


@given(st.sampled_from(PROVIDERS), PATHS, BODY | JSON, st.sampled_from(RULES), JSON)
def test_no_body_and_no_usage_is_too_odd(name, path, body, rule, payload):
    """Any JSON as a body or a response gives a cost that a limit can hold, and no exception."""
    p = profile(name)
    before = p.estimate(path, body, rule=rule)
    assert before["requests"] == 1
    assert check_cost(before) == before
    after = p.settled(path, before, p.usage(payload), rule=rule, body=body)
    assert check_cost(after) == after
    assert after.keys() == before.keys()
    assert p.output_counts(path, body, rule) in (True, False)


def test_an_absurd_maximum_is_cut():
    """A `max_tokens` beyond what a limit can hold is cut there, not an overflow."""
    absurd = ASK | {"max_tokens": 10**30, "n": 10**9}
    assert estimate(CHAT, absurd, rule="documented")["tokens"] == SCALED_MAX


@given(st.text(), st.text())
def test_more_text_never_costs_less(one, two):
    """Adding a message never lowers the estimate."""
    short = [{"role": "user", "content": one}]
    longer = [*short, {"role": "assistant", "content": two}]
    assert (
        estimate(CHAT, {"messages": longer})["tokens"]
        > (estimate(CHAT, {"messages": short})["tokens"])
    )
