"""The providers that count what a call used, one small class each: what they do otherwise, and whence.

All reserve the input as guessed from bytes and the answer as expected, unless it says otherwise, and
settle to the usage. What is not known of a provider is counted in full.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from limiter.core.exact import SCALED_MAX, positive, whole
from limiter.providers.accounting import Accounting
from limiter.providers.profile import charged_by_failure

_ONE_SLOT: Mapping[str, int] = MappingProxyType({"requests": 1, "concurrency": 1})


class Generic(Accounting):
    """Count for a provider of which only the API's shape is known.

    `"documented"` reserves the body's maximum in full. No provider is known to charge more.
    """

    name = "generic"
    longest_under = ("documented",)


class Anthropic(Accounting):
    """Count as Anthropic does: `input_tokens` (ITPM), `output_tokens` (OTPM), `tokens` their sum.

    Its rate-limit page (as quoted 2026-10): ITPM count input and cache writes, not cache reads;
    OTPM what is written, as it is written, and "max_tokens does not factor into OTPM". So a 4xx has
    no output; its input stays (an oversize request held 1,491,000 ITPM). For the models that the
    page marks as counting cache reads: `class Marked(Anthropic): cached_is_free = False`.
    """

    name = "anthropic"
    cached_is_free = True
    errors_cost_no_output = True


class Gemini(Accounting):
    """Count as the Gemini API does: TPM are input tokens, of the prompt and of tool results.

    Its rate-limit page: "Tokens per minute (input)". Answers count nowhere, so their expected
    length decides nothing. Whether cached content counts is not known: it does here. Vertex AI
    shares its capacity without a fixed limit; there the limit is the caller's own.
    """

    name = "gemini"

    def counted(self, given: int, cached: int, written: int, model: str) -> Mapping[str, float]:
        """See `Accounting.counted`."""
        del cached, written, model
        return {"tokens": given, "input_tokens": given}


class Mistral(Accounting):
    """Count as Mistral does: afterwards, what was used less what was cached, and nothing before.

    Recorded exchanges: the query cost that it tells is total - cached in 49 of 49 with text.
    As it holds nothing for calls under way, all of them together could overdraw it: reserving what
    each is expected to take prevents that. A refused call has no usage, hence costs no tokens.
    """

    name = "mistral"
    cached_is_free = True

    def failure(self, status: int | None, estimate: Mapping[str, int]) -> dict[str, int]:
        """See `Profile.failure`."""
        refused = status is not None and 400 <= status < 500
        return charged_by_failure(429 if refused else status, estimate)


class Groq(Accounting):
    """Count as Groq does: input and output together, for some organisations apart (ITPM, OTPM).

    Its rate-limit page: "Cached tokens do not count towards your rate limits".
    """

    name = "groq"
    cached_is_free = True


class XAI(Accounting):
    """Count as xAI does: prompt, completion and reasoning tokens (its page on rate limits).

    Reasoning may stand beside the completion tokens; the total has both. That cached input counts
    is taken to be so.
    """

    name = "xai"


class Together(Accounting):
    """Count for Together: its limits follow one's own recent traffic, and are not told beforehand.

    What is limited is therefore the caller's choice; calls and tokens are counted by usage.
    """

    name = "together"


class OpenRouter(Accounting):
    """Count for OpenRouter: requests for free models, else whatever the model's provider limits.

    Its page on limits: 20 requests per minute and 50 or 1,000 a day for `:free`; no tokens.
    """

    name = "openrouter"


class DeepSeek(Accounting):
    """Count as DeepSeek does: calls under way, until the answer is complete (`concurrency`).

    Its page on rate limits: per account and model, nothing else. Tokens are counted by usage, for
    whoever limits them.
    """

    name = "deepseek"
    per_call = _ONE_SLOT


class SelfHosted(DeepSeek):
    """Count for a server of one's own (vLLM and its like): a slot for each call, as it has."""

    name = "self-hosted"


class Cerebras(Accounting):
    """Count as Cerebras does: `tokens` without what was cached, `total_tokens` with it.

    Its rate-limit page: input + `max_completion_tokens`, where unset an estimate of the most that
    the answer may have, is held at admission and "revised once the request is fully processed";
    to reserve less than it holds would be refused.
    Two limits are enforced, on uncached tokens and, three times as large, on all of them:
    `Limit("total_tokens", 3_000_000)`.
    """

    name = "cerebras"
    cached_is_free = True
    longest_under = ("admission", "documented")

    def counted(self, given: int, cached: int, written: int, model: str) -> Mapping[str, float]:
        """See `Accounting.counted`."""
        plain = super().counted(given, cached, written, model)
        return {**plain, "total_tokens": given + written}


# Claude before 3.7: claude-instant, claude-v2, claude-3-haiku, claude-3-5-sonnet.
_OLD_CLAUDE = re.compile(r"claude-(instant|v?2|3-(5-)?(haiku|sonnet|opus))")


class Bedrock(Accounting):
    """Count as Bedrock's runtime does: `tokens` are input + answers x the model's burndown rate.

    Its page on quotas: at the start input, cache writes and the maximum of the answer are deducted
    (unweighed), the model's own maximum where the body sets none; at the end input + cache writes +
    output x burndown, and the rest is given back. Cache reads do not count in the end. Reserving
    less than it holds would be refused; so set `maxTokens`. Binary event streams are not read:
    their estimate stands.

    Args:
        longest_tokens: the maximum of an answer whose body sets none; models have 64,000 to 128,000.
        burndown: of the answer; None: 5 for Claude 3.7 and later, 1 for all others, by the model in
            the path. Needed where that is an application's inference profile, which names no model.
    """

    name = "bedrock"
    cached_is_free = True
    longest_under = ("admission", "documented")
    errors_cost_no_output = True

    def __init__(self, longest_tokens: int = 64_000, burndown: float | None = None) -> None:
        self.longest_tokens = whole(longest_tokens, "longest_tokens", low=0, high=SCALED_MAX)
        self.burndown = None if burndown is None else positive(burndown, "burndown", high=1000)

    def counted(self, given: int, cached: int, written: int, model: str) -> Mapping[str, float]:
        """See `Accounting.counted`."""
        plain = super().counted(given, cached, written, model)
        return {**plain, "tokens": given - cached + self._burndown(model) * written}

    def held(self, given: int, longest: int, model: str) -> Mapping[str, float]:
        """See `Accounting.held`."""
        return super().counted(given, 0, longest, model)

    def _burndown(self, model: str) -> float:
        if self.burndown is not None:
            return self.burndown
        return 5 if "claude" in model and not _OLD_CLAUDE.search(model) else 1
