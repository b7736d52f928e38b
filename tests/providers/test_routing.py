"""Which quota a model belongs to."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.core.quota import Quota
from limiter.providers import model_of, route

CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"


def quotas(*names, **patterns):
    named = [Quota(name, rpm=1) for name in names]
    named += [Quota(name.replace("_", "-"), rpm=1, models=m) for name, m in patterns.items()]
    return {quota.name: quota for quota in named}


PLAIN = quotas(
    "gpt-4", "gpt-4o", "o1", "gpt-4-turbo", "claude-3-5-sonnet", "text-embedding-3-small"
)


@pytest.mark.parametrize(
    ("model", "quota"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-4o-latest", "gpt-4o"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
        ("gpt-4-turbo-2024-04-09", "gpt-4-turbo"),
        ("gpt-4-turbo-preview", "gpt-4-turbo"),
        ("gpt-4-turbo-preview-2024-04-09", "gpt-4-turbo"),
        ("ft:gpt-4o:org::id", "gpt-4o"),
        ("ft:gpt-4o-2024-08-06:org:name:id", "gpt-4o"),
        ("gpt-4o-mini", None),
        ("gpt-4o-mini-2024-07-18", None),
        ("ft:gpt-4o-mini-2024-07-18:org::id", None),
        ("gpt-4o-audio-preview", None),
        ("gpt-4o-realtime-preview-2024-12-17", None),
        ("gpt-4-1106-preview", None),
        ("gpt-4-0125-preview", None),
        ("gpt-4-32k-0613", None),
        ("gpt-4-1399", None),
        ("o1-preview", None),
        ("o1-preview-2024-09-12", None),
        ("o1-2024-12-17", "o1"),
        ("o1-mini", None),
        ("GPT-4o", None),
        ("text-embedding-3-large", None),
        ("", None),
        (None, None),
    ],
)
def test_a_model_goes_to_the_quota_of_its_own_family(model, quota):
    """A date, `-latest`, a preview or a fine-tune is its base model; a longer name is another."""
    assert route(model, PLAIN) == quota


def test_an_exact_name_beats_patterns_and_dates():
    """The quota of exactly that name wins, even where a pattern or a shorter name fits."""
    both = quotas("gpt-4o", "gpt-4o-2024-11-20", all=["*"])
    assert route("gpt-4o-2024-11-20", both) == "gpt-4o-2024-11-20"
    assert route("gpt-4o-2024-05-13", both) == "all"


def test_the_most_specific_pattern_wins():
    """Of several patterns the one with the most literal characters wins, in any order."""
    wide = {"big": ["gpt-4o*"], "small": ["gpt-4o-mini*"], "any": ["*"], "one": ["gpt-4o-[m]ini"]}
    for order in (wide, dict(reversed(wide.items()))):
        assert route("gpt-4o-mini", quotas(**order)) == "small"
        assert route("gpt-4o-audio", quotas(**order)) == "big"
        assert route("gemini", quotas(**order)) == "any"
    assert route("gpt-4o", quotas(a=["gpt-4o"], b=["gpt-4o*"])) == "a"


def test_a_pattern_is_tried_on_the_shorter_names_too():
    """A dated or fine-tuned model finds its base in a quota's `models`."""
    shared = quotas(family=["gpt-4o", "gpt-4.1"])
    assert route("gpt-4o-2024-11-20", shared) == "family"
    assert route("ft:gpt-4.1:org::id", shared) == "family"
    assert route("gpt-4o-mini", shared) is None


@given(st.text(), st.sampled_from(["", "-mini", "-nano", "-mini-2024-07-18", ":x", "ft:"]))
def test_a_model_never_goes_to_a_quota_that_its_name_does_not_start_with(text, suffix):
    """Without patterns a quota's name is the model's own beginning, or its fine-tune's base."""
    model = text + suffix
    found = route(model, PLAIN)
    assert found is None or model.removeprefix("ft:").startswith(found)


def test_the_deployment_is_the_model_on_azure():
    """Azure's path names what is limited; elsewhere the body does."""
    path = "/openai/deployments/my-4o/chat/completions?api-version=1"
    assert model_of(path, {"model": "gpt-4o"}) == "my-4o"
    assert model_of("/v1/chat/completions", {"model": "gpt-4o"}) == "gpt-4o"
    assert model_of("/openai/deployments", {"model": "gpt-4o"}) == "gpt-4o"
    assert model_of("/v1/chat/completions", {"model": 7}) is None
    assert model_of("/v1/chat/completions", None) is None


ARN = "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-20250514-v1:0"


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1beta/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro"),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", "gemini-2.5-pro"),
        ("/v1beta/models/gemini-embedding-001:embedContent", "gemini-embedding-001"),
        ("/v1/projects/p/locations/l/publishers/google/models/g:generateContent", "g"),
        ("/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", CLAUDE),
        ("/model/anthropic.claude-3-haiku-20240307-v1:0/invoke-with-response-stream", CLAUDE),
        ("https://bedrock-runtime.us-east-1.amazonaws.com/model/x.y/converse-stream", "x.y"),
        (f"/model/{quote(ARN, safe='')}/invoke", ARN),
        (f"/model/{ARN}/invoke", ARN),
        ("/v1beta/models/gemini-2.5-pro:countTokens", "body"),
        ("/v1/models/x/invoke", "body"),
        ("/model/invoke", "body"),
        ("/:generateContent", "body"),
        ("generateContent", "body"),
        ("/", "body"),
        ("", "body"),
    ],
)
def test_gemini_and_bedrock_name_the_model_in_the_path(path, model):
    """Whatever the body says, and however the path is quoted; other paths name none."""
    assert model_of(path, {"model": "body"}) == model
