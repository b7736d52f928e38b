"""Which quota a call belongs to, by its model's name.

A wrong quota is worse than none: a name is only shortened where providers promise that the
longer one is the same model (a date, `-latest`, a fine-tune's base), never by a mere prefix.
`gpt-4o-mini` is not `gpt-4o`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Protocol

from limiter.providers.endpoints import model_in, segments

# -2024-11-20, -20241022, -0613, -latest: snapshots and aliases of one model.
_SNAPSHOT = re.compile(
    r"-(?:20\d\d-(?:0[1-9]|1[0-2])-[0-3]\d|20\d\d(?:0[1-9]|1[0-2])[0-3]\d"
    r"|(?:0[1-9]|1[0-2])[0-3]\d|latest)$"
)

# Previews of o1 and of GPT-4 Turbo were other models, with other limits, than the name before
# the suffix says: gpt-4-1106-preview is not gpt-4.
_OWN_PREVIEWS = re.compile(r"o1-preview|gpt-4-\d{4}-preview")

_WILD = re.compile(r"\[[^\]]*\]|[*?]")


class Routed(Protocol):
    """Be a quota as far as routing needs it."""

    @property
    def models(self) -> Collection[str]:
        """Return the patterns of the models that share the quota."""


def route(model: str, quotas: Mapping[str, Routed]) -> str | None:
    """Return the name of the quota that `model` belongs to; None when there is none.

    For the name itself, then for each shorter name of the same model: a quota of exactly that
    name, then the most specific pattern (most literal characters, then fewest wildcards).
    """
    if not isinstance(model, str) or not model:
        return None
    for name in _names(model):
        if name in quotas:
            return name
        matching = [
            (_specificity(pattern), quota)
            for quota, value in quotas.items()
            for pattern in value.models
            if fnmatchcase(name, pattern)
        ]
        if matching:
            return max(matching, key=lambda match: match[0])[1]
    return None


def _names(model: str) -> Iterator[str]:
    """Yield the model's name, then its shorter ones: `ft:gpt-4o-2024-08-06:org::id` → `gpt-4o`."""
    yield model
    if model.startswith("ft:"):
        model = model.split(":")[1]
        yield model
    plain = undated(model)
    if plain != model:
        yield plain
    if plain.endswith("-preview") and not _OWN_PREVIEWS.fullmatch(plain):
        yield plain.removesuffix("-preview")


def undated(model: str) -> str:
    """Return a model's name without the date of its snapshot, which promises the same model."""
    return _SNAPSHOT.sub("", model)


def _specificity(pattern: str) -> tuple[int, int]:
    wildcards = _WILD.findall(pattern)
    return len(_WILD.sub("", pattern)), -len(wildcards)


def model_of(path: str, body: object) -> str | None:
    """Return what a call is limited by: what its path names, else the body's model.

    Azure's limits are per deployment, and its body may name no model; Gemini's and Bedrock's models
    stand in the path alone.
    """
    parts = segments(path)
    if "deployments" in parts[:-1]:
        return parts[parts.index("deployments") + 1]
    if (named := model_in(parts)) is not None:
        return named
    model: Any = body.get("model") if isinstance(body, Mapping) else None
    return model if isinstance(model, str) and model else None
