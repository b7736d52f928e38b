"""Which provider a URL leads to."""

from __future__ import annotations

import pytest

from limiter.providers import profile, provider_of


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("me.openai.azure.com", "azure"),
        ("me.openai.azure.us", "azure"),
        ("api.anthropic.com", "anthropic"),
        ("generativelanguage.googleapis.com", "gemini"),
        ("aiplatform.googleapis.com", "gemini"),
        ("europe-west4-aiplatform.googleapis.com", "gemini"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock"),
        ("api.mistral.ai", "mistral"),
        ("API.Groq.com", "groq"),
        ("api.x.ai", "xai"),
        ("eu-west-1.api.x.ai", "xai"),
        ("api.together.xyz", "together"),
        ("api.together.ai", "together"),
        ("api.deepseek.com", "deepseek"),
        ("api.cerebras.ai", "cerebras"),
        ("openrouter.ai", "openrouter"),
        ("127.0.0.1", "openai"),
        ("api.mistral.ai.example.org", "openai"),
        ("notopenrouter.ai", "openai"),
        ("notaiplatform.googleapis.com", "openai"),
        ("bedrock.eu-central-1.amazonaws.com", "openai"),
        ("", "openai"),
    ],
)
def test_a_host_is_a_provider_s_own_or_openai_s(host, provider):
    """Known by its whole name, whatever its case; a lookalike is not, and all are profiles."""
    assert provider_of(host) == provider
    assert profile(provider).name == provider


def test_azure_behind_another_host_is_known_by_what_only_it_has():
    """Deployments in the path or an API version in the query; a known host says more than both."""
    assert provider_of("gateway.example.org", "/openai/deployments/d/chat/completions") == "azure"
    assert provider_of("gateway.example.org", "/x", "a=1&api-version=2024-10-21") == "azure"
    assert provider_of("api.mistral.ai", "/x", "api-version=1") == "mistral"
