"""How to charge a provider of which only the API's shape is known: reserve, then correct.

Most providers count input and output together (xAI, Groq, Together) or apart (Anthropic, some
Groq organisations), and correct a reservation when the answer is known (Bedrock, Cerebras), or
count afterwards only (Mistral). Reserving the expected total and settling to the usage is right
at completion for all of them, and never charges less than they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limiter.providers.openai import OpenAI, guessed_input
from limiter.providers.profile import answers, longest_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.providers.endpoints import Endpoint
    from limiter.providers.profile import Body, Rule, Usage


class Generic(OpenAI):
    """Count by usage: `tokens`, and `input_tokens` and `output_tokens` for those who split them.

    `"documented"` reserves the body's maximum in full; every rule settles to the usage.
    """

    name = "generic"

    def _tokens(self, kind: Endpoint, body: Body, rule: Rule, expected: int) -> dict[str, int]:
        given = guessed_input(kind, body)
        longest = longest_answer(body)
        if rule == "documented" and longest is not None and kind != "embeddings":
            expected = answers(body) * longest
        return {"tokens": given + expected, "input_tokens": given, "output_tokens": expected}

    def _charged(
        self,
        kind: Endpoint,  # noqa: ARG002 - every provider is asked with the same arguments
        estimate: Mapping[str, int],  # noqa: ARG002
        usage: Usage,
        rule: Rule,  # noqa: ARG002
        body: Body,  # noqa: ARG002
    ) -> dict[str, int]:
        charged = {
            "tokens": usage.total,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
        }
        return {name: tokens for name, tokens in charged.items() if tokens is not None}
