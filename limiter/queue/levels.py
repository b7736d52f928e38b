"""At which level calls of a priority wait. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from limiter.core.quota import Quota
from limiter.errors import ConfigError


def level_of(priority: str | None, quotas: Iterable[Quota]) -> int:
    """Return the level of a priority, the highest where several quotas declare it; 0 for the default one.

    Raises:
        ConfigError: there are quotas, and none of them declares it.
    """
    known = list(quotas)
    levels = [policy.level for each in known if (policy := each.policy(priority)) is not None]
    if known and not levels and priority not in (None, "default"):
        declared = sorted({policy.name for each in known for policy in each.priorities})
        raise ConfigError(
            f"No quota declares the priority {priority!r:.60}; declared: "
            f"{', '.join(declared) or 'none'}. Add it to the quota in limiter.toml."
        )
    return max(levels, default=0)
