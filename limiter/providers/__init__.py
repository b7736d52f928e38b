"""What providers charge for a call, and what their answers say of the limits.

Charges go by the provider's name: `openai`, `azure`, and `generic` for all others; new ones are
added to `_PROFILES`. Answers go by the headers that are there; new ones are added to
`headers.METERS`. Pure: nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from limiter.errors import ConfigError
from limiter.providers.answers import judge, judge_stream_error, no_answer
from limiter.providers.azure import Azure
from limiter.providers.generic import Generic
from limiter.providers.oddities import oddities
from limiter.providers.openai import OpenAI
from limiter.providers.profile import Body, Profile, Rule, Usage
from limiter.providers.routing import model_of, route
from limiter.providers.sse import StreamError, Tap
from limiter.providers.verdict import Outcome, Seen, Verdict

__all__ = [
    "Outcome",
    "Profile",
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
    "no_answer",
    "oddities",
    "profile",
    "route",
]

_PROFILES: dict[str, Profile] = {p.name: p for p in (OpenAI(), Azure(), Generic())}


def profile(name: str) -> Profile:
    """Return the accounting of a provider.

    Raises:
        ConfigError: there is none of that name; the message lists those there are.
    """
    try:
        return _PROFILES[name]
    except (KeyError, TypeError):
        known = ", ".join(_PROFILES)
        raise ConfigError(
            f"There is no provider {name!r:.60}: use one of {known} "
            "('generic' counts by usage and fits any API of OpenAI's shape)."
        ) from None


def estimate(
    path: str, body: Body, provider: str = "openai", rule: Rule = "admission"
) -> dict[str, int]:
    """Say what a POST of `body` to `path` will be charged, as `{'requests': 1, 'tokens': 27}`.

    Empty when the endpoint takes nothing from a quota. Cost: O(size of the body), no tokenizer.

    Raises:
        ConfigError: the provider or the rule is unknown.
    """
    return profile(provider).estimate(path, body, rule=rule) or {}
