"""Which provider an HTTP call goes to, by its host, and Azure by what only it has.

Pure text matching. Whatever is not known here has an API of OpenAI's shape, a gateway or a mock
maybe, and is counted like it unless the caller says otherwise.
"""

from __future__ import annotations

import re

_HOSTS = tuple((re.compile(pattern), name) for pattern, name in (
    (r"^api\.openai\.com$", "openai"),
    (r"^api\.anthropic\.com$", "anthropic"),
    (r"^generativelanguage\.googleapis\.com$", "gemini"),
    (r"(^|[.-])aiplatform\.googleapis\.com$", "gemini"),  # europe-west4-aiplatform…
    (r"^bedrock-runtime(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?$", "bedrock"),
    (r"^api\.mistral\.ai$", "mistral"),
    (r"^api\.groq\.com$", "groq"),
    (r"(^|\.)api\.x\.ai$", "xai"),
    (r"^api\.together\.(xyz|ai)$", "together"),
    (r"^api\.deepseek\.com$", "deepseek"),
    (r"^api\.cerebras\.ai$", "cerebras"),
    (r"^openrouter\.ai$", "openrouter"),
    # Public, US government and China; whatever is deployed there has OpenAI's API.
    (r"(^|\.)(openai|cognitiveservices|services\.ai)\.azure\.(com|us|cn)$", "azure"),
))  # fmt: skip


def provider_of(host: str, path: str = "", query: str = "") -> str:
    """Name the provider of a call; `openai` where nothing tells another one.

    Azure behind a gateway is known by its deployments in the path, or an API version in the query.
    """
    known = next((name for pattern, name in _HOSTS if pattern.search(host.lower())), None)
    if known is not None:
        return known
    is_azure = "/openai/deployments/" in path or "api-version=" in query
    return "azure" if is_azure else "openai"
