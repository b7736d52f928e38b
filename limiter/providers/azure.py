"""How Azure OpenAI charges a call: standard deployments in full and for good, provisioned ones by use.

Azure's quota guide (2026-05-06): "estimated max processed-token count" of prompt text,
`max_tokens` and `best_of`, added when the request is received. Recordings are few and disagree
by deployment: 34 bytes in one message took 14, 23 bytes 6, 41 bytes with max_tokens=300 took 11; a
load test of 2026-08 measured prompt + max_tokens. So the documented rule is the default, with the
frames of messages as they are billed: no recorded call but one took more, and that one token.
"""

from __future__ import annotations

from collections.abc import Mapping

from limiter.core.exact import positive
from limiter.providers.accounting import Accounting, Call
from limiter.providers.bodies import input_tokens, spoken
from limiter.providers.openai import OpenAI, documented_tokens
from limiter.providers.profile import Usage


class Azure(OpenAI):
    """Count as Azure's standard deployments: `"admission"` and `"documented"` are one, and stand.

    The maximum is charged whatever the answer is, so its expected length decides nothing there.
    """

    name = "azure"

    def _before(self, call: Call, output_tokens: int | None) -> dict[str, int]:
        if call.rule == "usage":
            return super()._before(call, output_tokens)
        # Its tools are not in what a recorded call took (3 of 3 with one).
        content, messages = spoken(call.kind, call.body)
        frames = input_tokens(0, messages) if messages else 0
        return {"tokens": documented_tokens(call.kind, call.body, content) + frames}

    def _after(self, call: Call, estimate: Mapping[str, int], usage: Usage) -> dict[str, int]:
        return super()._after(call, estimate, usage) if call.rule == "usage" else {}


class AzurePTU(Accounting):
    """Count as Azure's provisioned deployments (PTU): `tokens` are input tokens of utilisation.

    Azure's page on provisioned throughput (2026-05-13): a call adds prompt - cached + `max_tokens`
    (an estimate where that is unset), and is corrected up or down when it is complete. A limit of
    `tokens` is what the model's input throughput per PTU gives: 20 PTU of gpt-5.2 are 68,000 tpm.
    A refused call (429) adds nothing. An expected answer is reserved only where `max_tokens` is
    unset: else Azure holds the maximum itself, and to reserve less would be refused.

    Args:
        output_weight: input tokens that one token of an answer weighs, from Azure's table of
            models: 4 to 8 and more, 8 for gpt-5.2. That the maximum is weighed alike while it is
            held is taken to be so.
    """

    name = "azure-ptu"
    cached_is_free = True
    longest_under = ("admission", "documented")

    def __init__(self, output_weight: float = 8.0) -> None:
        self.output_weight = positive(output_weight, "output_weight", high=1000)

    def counted(self, given: int, cached: int, written: int, model: str) -> Mapping[str, float]:
        """See `Accounting.counted`."""
        plain = super().counted(given, cached, written, model)
        return {**plain, "tokens": given - cached + self.output_weight * written}
