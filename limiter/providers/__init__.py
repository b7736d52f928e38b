"""What providers charge for a call, and what their answers say of the limits.

Charges go by the provider's name; `generic` fits whoever is not there, and new ones are added to
`_PROFILES`. Your own is a class that inherits from `Accounting`; an object of it goes wherever a
name does. Answers go by the headers that are there; new ones are added to `headers.METERS`. Pure:
nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from limiter.errors import ConfigError
from limiter.providers import by_usage
from limiter.providers.accounting import Accounting
from limiter.providers.alike import output_key
from limiter.providers.answers import judge, judge_stream_error, no_answer
from limiter.providers.azure import Azure, AzurePTU
from limiter.providers.by_usage import Bedrock
from limiter.providers.hosts import provider_of
from limiter.providers.oddities import oddities
from limiter.providers.openai import OpenAI
from limiter.providers.profile import Body, Profile, Rule, Usage
from limiter.providers.routing import model_of, route
from limiter.providers.sse import StreamError, Tap
from limiter.providers.verdict import Outcome, Seen, Verdict

__all__ = [
    "Accounting",
    "AzurePTU",
    "Bedrock",
    "Outcome",
    "Profile",
    "Provider",
    "Rule",
    "Seen",
    "StreamError",
    "Tap",
    "Usage",
    "Verdict",
    "estimate",
    "judge",
    "judge_stream_error",
    "model_of",
    "names",
    "no_answer",
    "oddities",
    "output_key",
    "profile",
    "provider_of",
    "route",
]

Provider = str | Profile

_PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        OpenAI(),
        Azure(),
        AzurePTU(),
        by_usage.Anthropic(),
        by_usage.Gemini(),
        Bedrock(),
        by_usage.Mistral(),
        by_usage.Groq(),
        by_usage.XAI(),
        by_usage.Together(),
        by_usage.DeepSeek(),
        by_usage.Cerebras(),
        by_usage.OpenRouter(),
        by_usage.SelfHosted(),
        by_usage.Generic(),
    )
}
_METHODS = ("name", "estimate", "settled", "failure", "usage", "output_counts")


def names() -> str:
    """List the providers there are, for messages and help."""
    return ", ".join(_PROFILES)


def profile(provider: Provider) -> Profile:
    """Return the accounting of a provider: by its name, or the very object that has one.

    Raises:
        ConfigError: there is none of that name, or the object lacks a method; the message says
            what there is, or what to write.
    """
    if isinstance(provider, str):
        if provider not in _PROFILES:
            raise ConfigError(
                f"There is no provider {provider!r:.60}: use one of {names()} "
                "('generic' counts by usage and fits any API of OpenAI's shape)."
            )
        return _PROFILES[provider]
    if problem := _problem(provider):
        raise ConfigError(problem)
    return provider


def _problem(given: object) -> str:
    """Say why something cannot serve as a profile; "" if it can."""
    if lacking := ", ".join(name for name in _METHODS if not hasattr(given, name)):
        return (
            f"provider= is one of {names()}, or an object with a profile's methods; {given!r:.60} "
            f"lacks {lacking}. Inherit from limiter.providers.Accounting."
        )
    if isinstance(given, type):
        return f"{given.__name__} is a class: write provider={given.__name__}()."
    return ""


def estimate(
    path: str, body: Body, provider: Provider = "openai", rule: Rule = "admission"
) -> dict[str, int]:
    """Say what a POST of `body` to `path` will be charged, as `{'requests': 1, 'tokens': 27}`.

    Empty when the endpoint takes nothing from a quota. Cost: O(size of the body), no tokenizer.

    Args:
        path: path or URL of the call.
        body: its JSON body.
        provider: a name, or a profile of your own (`limiter.providers.Accounting`).
        rule: how the provider counts, see `limiter.providers.Profile.estimate`.

    Raises:
        ConfigError: the provider or the rule is unknown.
    """
    return profile(provider).estimate(path, body, rule=rule) or {}
