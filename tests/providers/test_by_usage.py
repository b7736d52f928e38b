"""What each provider that counts by usage does otherwise than the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.errors import ConfigError
from limiter.providers import AzurePTU, Bedrock, Usage, estimate, names, profile
from limiter.providers.by_usage import Cerebras
from limiter.providers.profile import EXPECTED_OUTPUT_TOKENS as EXPECTED
from limiter.providers.profile import RULES

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
GEMINI = "/v1beta/models/gemini-2.5-pro:generateContent"
CLAUDE = "us.anthropic.claude-sonnet-4-20250514-v1:0"
ASK = {"model": "m", "messages": [{"role": "user", "content": "x" * 100}]}
GIVEN = 25 + 4 + 3  # ceil(100 / 4), the message's frame, the answer's start
READ_CACHED = Usage(100, 30, 130, cached_tokens=60)
ALL = names().split(", ")
ADMITTING = {"openai", "azure"}
BY_USAGE = [name for name in ALL if name not in ADMITTING]


def converse(model):
    return f"/model/{model}/converse"


def settled(provider, usage, path=CHAT, ask=ASK, **options):
    p = profile(provider)
    return p.settled(path, p.estimate(path, ask, **options), usage, body=ask, **options)


# --- laws of all ----------------------------------------------------------------------------------


PATHS = [CHAT, "/v1/responses", "/v1/completions", MESSAGES, GEMINI, converse(CLAUDE)]


def asking(path, max_tokens=None):
    """Write the body of a call of any API, with a maximum of its answer or without."""
    text = "x" * 100
    capped = max_tokens is not None
    if path == GEMINI:
        config = {"generationConfig": {"maxOutputTokens": max_tokens}} if capped else {}
        return {"contents": [{"role": "user", "parts": [{"text": text}]}], **config}
    if path.endswith("converse"):
        config = {"inferenceConfig": {"maxTokens": max_tokens}} if capped else {}
        return {"messages": [{"role": "user", "content": [{"text": text}]}], **config}
    config = {"max_tokens": max_tokens} if capped else {}
    return {**ASK, "input": text, "prompt": text, **config}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ALL)
def test_output_counts_where_the_expected_answer_is_reserved_and_settled(name, rule):
    """It says True exactly where a longer guess reserves more, and then a longer answer costs more."""
    p = profile(name)
    for path in (*PATHS, "/v1/embeddings", "/v1/images/edits", "/v1/audio/speech"):
        for ask in (asking(path), asking(path, max_tokens=500)):
            few, many = (p.estimate(path, ask, rule=rule, output_tokens=n) for n in (1, 100))
            assert p.output_counts(path, ask, rule) == (few != many), (path, ask)
            if few != many:
                used = Usage(9, 1), Usage(9, 100)
                short, long = (p.settled(path, few, u, rule=rule, body=ask) for u in used)
                assert short != long, (path, ask)


@pytest.mark.parametrize(
    ("name", "unset", "capped"),
    [
        ("openai", False, False),
        ("azure", False, False),
        ("azure-ptu", True, False),
        ("anthropic", True, True),
        ("gemini", False, False),
        ("bedrock", False, False),
        ("mistral", True, True),
        ("groq", True, True),
        ("xai", True, True),
        ("together", True, True),
        ("deepseek", True, True),
        ("cerebras", True, False),
        ("openrouter", True, True),
        ("self-hosted", True, True),
        ("generic", True, True),
    ],
)
def test_the_expected_answer_decides_where_the_provider_does_not(name, unset, capped):
    """Not at admission by text, nor where the provider holds the maximum; under "usage" it does."""
    p = profile(name)
    assert p.output_counts(CHAT, ASK, "admission") is unset
    assert p.output_counts(CHAT, {**ASK, "max_tokens": 9}, "admission") is capped
    assert p.output_counts(CHAT, ASK, "usage") is (name != "gemini")
    assert not p.output_counts("/v1/embeddings", {}, "usage")
    assert not p.output_counts("/v1/models", {}, "usage")


@pytest.mark.parametrize("name", ALL)
def test_the_body_caps_what_is_expected(name):
    """Nobody reserves more for an answer than the body lets it have."""
    p = profile(name)
    for path in PATHS:
        capped = p.estimate(path, asking(path, max_tokens=40), rule="usage", output_tokens=900)
        assert capped == p.estimate(path, asking(path), rule="usage", output_tokens=40), path


@given(
    st.sampled_from(ALL),
    st.sampled_from(PATHS),
    st.sampled_from(RULES),
    st.builds(Usage, *[st.none() | st.integers(0, 2**60)] * 3, *[st.integers(0, 2**60)] * 3),
)
def test_no_usage_settles_below_zero(name, path, rule, usage):
    """Whatever an answer claims of caches and totals, a call never costs less than nothing."""
    after = settled(name, usage, path, asking(path), rule=rule)
    assert all(n >= 0 for n in after.values())


@pytest.mark.parametrize("name", ALL)
def test_absurd_numbers_are_cut(name):
    """Beyond any float: what a body asks for, and what an answer claims to have used."""
    p, huge = profile(name), 10**400
    for path in PATHS:
        for rule in RULES:
            before = p.estimate(path, asking(path, huge), rule=rule, output_tokens=huge)
            after = p.settled(path, before, Usage(huge, huge, 3 * huge, huge), rule=rule)
            assert all(0 <= n <= 2**50 for n in (*before.values(), *after.values()))


@pytest.mark.parametrize("name", BY_USAGE)
def test_what_is_not_there_was_not_used(name):
    """An answer of no tokens settles to none: nothing but the call itself is kept."""
    after = settled(name, Usage(0, 0, 0))
    assert (
        not set(after.items())
        - {("requests", 1), ("concurrency", 1)}
        - {(dimension, 0) for dimension in after}
    )


# --- cached input ---------------------------------------------------------------------------------


FREE = {"anthropic", "azure-ptu", "bedrock", "cerebras", "groq", "mistral"}


@pytest.mark.parametrize("name", BY_USAGE)
def test_input_from_a_cache_counts_as_the_provider_says(name):
    """It is free at those whose documents or recordings say so, and counts in full elsewhere."""
    counted = {"gemini": 0, "azure-ptu": 8 * 30}.get(name, 30)
    assert settled(name, READ_CACHED)["tokens"] == (40 if name in FREE else 100) + counted


@pytest.mark.parametrize("name", BY_USAGE)
def test_a_cache_told_apart_counts_alike(name):
    """Anthropic's and Bedrock's way to tell of a cache changes nothing in what it counts."""
    apart = Usage(40, 30, cache_read_tokens=60)
    assert settled(name, apart) == settled(name, READ_CACHED)


def test_openai_counts_a_cache_in_full():
    """At admission nobody knows of it, and /responses were recorded to charge all input."""
    body = {"model": "gpt-4o", "input": "x"}
    assert settled("openai", READ_CACHED, "/v1/responses", body)["tokens"] == 100 + 30
    assert settled("openai", READ_CACHED, rule="usage")["tokens"] == 130


def test_an_unsplit_total_counts_as_read():
    """A number of tokens is taken as it is, less what is known to be cached."""
    assert settled("mistral", Usage(total_tokens=90))["tokens"] == 90
    assert settled("mistral", Usage(total_tokens=90, cached_tokens=50))["tokens"] == 40
    assert settled("xai", Usage(total_tokens=90, cached_tokens=50))["tokens"] == 90


# --- one by one -----------------------------------------------------------------------------------


def test_anthropic_has_three_dimensions():
    """Requests, ITPM and OTPM, and the sum; the expected answer is reserved, not `max_tokens`."""
    ask = {**ASK, "system": "y" * 20, "max_tokens": 32_000}
    given_2 = GIVEN + 5 + 4
    assert estimate(MESSAGES, ask, "anthropic") == {
        "requests": 1,
        "tokens": given_2 + EXPECTED,
        "input_tokens": given_2,
        "output_tokens": EXPECTED,
    }
    used = profile("anthropic").usage(
        {
            "usage": {
                "input_tokens": 7,
                "cache_creation_input_tokens": 5,
                "cache_read_input_tokens": 9000,
                "output_tokens": 400,
            }
        }
    )
    after = settled("anthropic", used, MESSAGES, ask)
    assert after == {"requests": 1, "tokens": 412, "input_tokens": 12, "output_tokens": 400}


def test_anthropic_s_refusals_have_no_output():
    """A 4xx keeps its input and its request; a 429 the request alone; a 5xx may have been served."""
    failure = profile("anthropic").failure
    cost = {"requests": 1, "tokens": 300, "input_tokens": 50, "output_tokens": 250}
    assert failure(400, cost) == {**cost, "tokens": 50, "output_tokens": 0}
    assert failure(413, {"requests": 1, "tokens": 300}) == {"requests": 1, "tokens": 300}
    assert failure(429, cost) == {**dict.fromkeys(cost, 0), "requests": 1}
    assert failure(529, cost) == cost
    assert failure(None, cost) == dict.fromkeys(cost, 0)


def test_gemini_counts_input_alone():
    """`tokens` are what its TPM are: the prompt and tool results, never the answer."""
    ask = {
        "systemInstruction": {"parts": [{"text": "y" * 20}]},
        "contents": [{"role": "user", "parts": [{"text": "x" * 100}]}],
        "generationConfig": {"maxOutputTokens": 9000, "candidateCount": 3},
    }
    given_2 = GIVEN + 5 + 4
    expected = {"requests": 1, "tokens": given_2, "input_tokens": given_2}
    assert all(estimate(GEMINI, ask, "gemini", rule) == expected for rule in RULES)
    used = profile("gemini").usage(
        {
            "usageMetadata": {
                "promptTokenCount": 110,
                "toolUsePromptTokenCount": 7,
                "candidatesTokenCount": 600,
                "thoughtsTokenCount": 300,
                "cachedContentTokenCount": 100,
                "totalTokenCount": 1017,
            }
        }
    )
    assert settled("gemini", used, GEMINI, ask)["tokens"] == 117
    assert estimate(GEMINI, ask, "generic")["output_tokens"] == 3 * EXPECTED
    embed = {"content": {"parts": [{"text": "x" * 40}]}}
    assert estimate("/v1beta/models/e:embedContent", embed, "gemini")["tokens"] == 13
    many = {"requests": [embed, embed]}
    assert estimate("/v1beta/models/e:batchEmbedContents", many, "gemini")["tokens"] == 23


@pytest.mark.parametrize(
    ("model", "burndown"),
    [
        (CLAUDE, 5),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", 5),
        ("global.anthropic.claude-opus-4-5-20251101-v1:0", 5),
        ("anthropic.claude-haiku-4-5-20251001-v1%3A0", 5),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", 1),
        ("anthropic.claude-3-haiku-20240307-v1:0", 1),
        ("anthropic.claude-v2:1", 1),
        ("anthropic.claude-instant-v1", 1),
        ("amazon.nova-pro-v1:0", 1),
        ("meta.llama3-70b-instruct-v1:0", 1),
    ],
)
def test_bedrock_holds_the_maximum_and_burns_down_the_answer(model, burndown):
    """At first input + maximum, unweighed; in the end input + cache writes + output x burndown."""
    path, ask = converse(model), asking(converse(model), max_tokens=2000)
    assert estimate(path, ask, "bedrock")["tokens"] == GIVEN + 2000
    told = {"inputTokens": 40, "cacheWriteInputTokens": 5, "cacheReadInputTokens": 900}
    used = profile("bedrock").usage({"usage": {**told, "outputTokens": 30, "totalTokens": 975}})
    after = settled("bedrock", used, path, ask)
    assert after["tokens"] == 45 + burndown * 30
    assert (after["input_tokens"], after["output_tokens"]) == (45, 30)
    expected = estimate(path, asking(path), "bedrock", "usage")["tokens"]
    assert expected == GIVEN + burndown * EXPECTED


def test_bedrock_holds_what_the_model_may_write_where_nothing_is_set():
    """64,000 unless it is told; an embedding writes nothing."""
    path = converse("amazon.nova-pro-v1:0")
    assert estimate(path, asking(path), "bedrock")["tokens"] == GIVEN + 64_000
    assert estimate(path, asking(path), Bedrock(128_000))["tokens"] == GIVEN + 128_000
    titan = "/model/amazon.titan-embed-text-v2:0/invoke"
    assert estimate(titan, {"inputText": "x" * 40}, "bedrock")["tokens"] == 10 + 3


def test_bedrock_s_burndown_can_be_told():
    """An application's inference profile names no model in its path."""
    path = converse("arn:aws:bedrock:us-east-1:1:application-inference-profile%2Fabc")
    assert settled("bedrock", Usage(40, 30), path, asking(path))["tokens"] == 70
    assert settled(Bedrock(burndown=15), Usage(40, 30), path, asking(path))["tokens"] == 490


@pytest.mark.parametrize(
    "body",
    [
        {"anthropic_version": "bedrock-2023-05-31", **ASK, "max_tokens": 700},
        {"messages": ASK["messages"], "inferenceConfig": {"maxTokens": 700}},
        {"messages": ASK["messages"], "max_tokens": 700},
    ],
)
def test_bedrock_s_bodies_are_read_in_every_model_s_spelling(body):
    """What is read and the maximum stand where each family of models has them."""
    path = "/model/m/invoke-with-response-stream"
    assert estimate(path, body, "bedrock")["tokens"] == GIVEN + 700


def test_bedrock_s_prompts_are_read_too():
    """Titan's and Llama's bodies are one text."""
    titan = {"inputText": "x" * 100, "textGenerationConfig": {"maxTokenCount": 700}}
    llama = {"prompt": "x" * 100, "max_gen_len": 700}
    for body in (titan, llama):
        assert estimate("/model/m/invoke", body, "bedrock")["tokens"] == GIVEN + 700


def test_bedrock_s_refusals_give_the_maximum_back():
    """A rejected call wrote nothing, so of what was held its input stays."""
    path, ask = converse(CLAUDE), asking(converse(CLAUDE))
    cost = profile("bedrock").estimate(path, ask)
    assert cost["tokens"] > 64_000
    refused = profile("bedrock").failure(400, cost)
    assert refused == {"requests": 1, "tokens": GIVEN, "input_tokens": GIVEN, "output_tokens": 0}
    assert profile("bedrock").failure(500, cost) == cost


def test_azure_s_provisioned_deployments_weigh_the_answer():
    """Utilisation is uncached input + weight x output, held with the maximum, corrected at the end."""
    path, ask = "/openai/deployments/d/chat/completions", {**ASK, "max_tokens": 100}
    four = AzurePTU(output_weight=4)
    assert estimate(path, ask, "azure-ptu")["tokens"] == GIVEN + 8 * 100
    assert estimate(path, ask, four)["tokens"] == GIVEN + 4 * 100
    assert estimate(path, ASK, four)["tokens"] == GIVEN + 4 * EXPECTED
    after = settled(four, READ_CACHED, path, ask)
    assert after == {"requests": 1, "tokens": 40 + 120, "input_tokens": 40, "output_tokens": 30}
    assert settled(AzurePTU(2.5), Usage(1, 1), path, ask)["tokens"] == 4  # 3.5, rounded up


@pytest.mark.parametrize("weight", [0, -1, 1001, "8", None, True, float("nan")])
def test_a_weight_is_a_number_above_zero(weight):
    """Whatever cannot weigh is refused, with what to write."""
    with pytest.raises(ConfigError, match=r"output_weight must be a number above 0"):
        AzurePTU(weight)
    if weight is not None:
        with pytest.raises(ConfigError, match=r"burndown must be a number above 0"):
            Bedrock(burndown=weight)
    with pytest.raises(ConfigError, match="longest_tokens must be a whole number"):
        Bedrock(longest_tokens=0.5)


def test_mistral_charges_what_was_used_and_a_refusal_nothing():
    """The expected answer is reserved though Mistral holds nothing; a 4xx costs its request."""
    assert estimate(CHAT, {**ASK, "max_tokens": 9000}, "mistral")["tokens"] == GIVEN + EXPECTED
    assert settled("mistral", READ_CACHED)["tokens"] == 130 - 60
    cost = {"requests": 1, "tokens": 300, "input_tokens": 50, "output_tokens": 250}
    failure = profile("mistral").failure
    for status in (400, 422, 429):
        assert failure(status, cost) == {**dict.fromkeys(cost, 0), "requests": 1}
    assert failure(None, cost) == dict.fromkeys(cost, 0)
    assert failure(503, cost) == cost


def test_cerebras_has_a_limit_for_uncached_tokens_and_one_for_all():
    """`max_completion_tokens` is held in both; in the end the cache is free in one of them."""
    ask = {**ASK, "max_completion_tokens": 500}
    before = estimate(CHAT, ask, "cerebras")
    assert (before["tokens"], before["total_tokens"]) == (GIVEN + 500, GIVEN + 500)
    assert estimate(CHAT, ASK, Cerebras())["tokens"] == GIVEN + EXPECTED
    after = settled("cerebras", READ_CACHED, CHAT, ask)
    assert (after["tokens"], after["total_tokens"]) == (70, 130)


@pytest.mark.parametrize("name", ["deepseek", "self-hosted"])
@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/audio/speech", "/v1/images/edits"])
def test_where_calls_under_way_are_limited_each_takes_a_slot(name, path):
    """One call is one slot, whatever it asks for; tokens are counted for whoever limits them."""
    before = estimate(path, ASK, name)
    assert (before["concurrency"], before["requests"]) == (1, 1)
    after = settled(name, READ_CACHED, path)
    assert after["concurrency"] == 1
    assert after.get("tokens") == (130 if "tokens" in before else None)


def test_hidden_reasoning_is_output():
    """xAI's totals hold reasoning that its completion tokens do not."""
    after = settled("xai", Usage(32, 9, 135, reasoning_tokens=94))
    assert after == {"requests": 1, "tokens": 135, "input_tokens": 32, "output_tokens": 103}


@pytest.mark.parametrize("name", ["generic", "groq", "openrouter", "together", "xai"])
def test_the_others_reserve_what_is_expected(name):
    """Input as guessed from bytes, the answer as expected, and each of both for those who split."""
    both = {"input_tokens": GIVEN, "output_tokens": EXPECTED}
    ask = {**ASK, "max_tokens": 9000}
    assert estimate(CHAT, ask, name) == {"requests": 1, "tokens": GIVEN + EXPECTED, **both}
    longest = 9000 if name == "generic" else EXPECTED
    assert estimate(CHAT, ask, name, "documented")["output_tokens"] == longest


def test_the_readme_has_every_profile():
    """Its table names each one that there is, and no other."""
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    rows = text.split("\n## Which estimate?\n")[1].split("\n## ")[0]
    rows = [line for line in rows.splitlines() if line.startswith("| `")]
    named = [name.strip("`") for row in rows for name in row.split("|")[1].strip().split(", ")]
    assert sorted(named) == sorted(ALL)
