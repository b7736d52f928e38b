"""What a run was asked to do, as one value that travels to its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from limiter.core import definition
from limiter.core.quota import Quota
from limiter.providers.profile import Rule


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold what workers need to know. Keys are not in it: those come from the environment.

    Attributes:
        quotas: the unit and its JSON definition, by the quota's name.
        url: the limiter's store; None: the embedded server.
        base_url: where the API is.
        provider, rule: how calls are counted.
        model: for lines that name none.
        concurrency: calls under way at a time in each worker.
        max_retries: attempts after the first one.
        timeout_s: for one attempt.
        priority, tenant: the flow of all calls; None: the default one.
        cached, cache_url, cache_ttl_s: whether answers come from a cache, which, and how long they stay.
        compact, fit: how prompts are made shorter, see `limiter.prompts.optimize_body`.
    """

    quotas: dict[str, tuple[str, str]]
    url: str | None
    base_url: str
    provider: str
    rule: Rule
    model: str | None
    concurrency: int
    max_retries: int
    timeout_s: float
    priority: str | None = None
    tenant: str | None = None
    compact: int = 0
    fit: int | None = None
    cached: bool = False
    cache_url: str | None = None
    cache_ttl_s: float = 3600.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Undo `as_dict`."""
        return cls(**{each.name: values[each.name] for each in fields(cls)})

    def declared(self) -> dict[str, Quota]:
        """Return the quotas as values."""
        return {
            name: definition.read(unit, "", text).quota(name)
            for name, (unit, text) in self.quotas.items()
        }


def written(quotas: Mapping[str, Quota]) -> dict[str, tuple[str, str]]:
    """Return quotas as JSON definitions, for `Settings.quotas`."""
    return {name: (quota.unit, definition.write(quota)) for name, quota in quotas.items()}
