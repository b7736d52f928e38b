"""How Azure OpenAI (standard deployments) charges a call: reserved in full, never refunded.

Azure's quota guide (2026-05-06): "estimated max processed-token count" of prompt text,
`max_tokens` and `best_of`, added when the request is received. Recordings are few and disagree
by deployment: 34 bytes took 14, 41 bytes with max_tokens=300 took 11, a load test of 2026-08
measured prompt + max_tokens. So the documented rule is the default: it is the safe one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limiter.providers.openai import OpenAI, documented_tokens, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.providers.endpoints import Endpoint
    from limiter.providers.profile import Body, Rule, Usage


class Azure(OpenAI):
    """Count as Azure OpenAI does: `"admission"` and `"documented"` are the same and stand."""

    name = "azure"

    def _tokens(self, kind: Endpoint, body: Body, rule: Rule, expected: int) -> dict[str, int]:
        if rule == "usage":
            return super()._tokens(kind, body, rule, expected)
        content, messages = read(kind, body)
        return {"tokens": documented_tokens(kind, body, content) + messages + bool(messages)}

    def _charged(
        self, kind: Endpoint, estimate: Mapping[str, int], usage: Usage, rule: Rule, body: Body
    ) -> dict[str, int]:
        return super()._charged(kind, estimate, usage, rule, body) if rule == "usage" else {}
