"""What a call has used, by dimension: from what it returned, what it raised, or what its caller says.

Pure. What providers charge for a call that failed is their accounting's rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from limiter.core.quota import check_cost
from limiter.errors import CallFailed, ConfigError, LimiterError
from limiter.observing import payload_of
from limiter.providers.profile import Usage, charged_by_failure, usage_of

_WORDS_OF_USAGE = frozenset({"input_tokens", "output_tokens"})


def used_amounts(
    used: object, amounts: Mapping[str, object], dimensions: Collection[str] = ()
) -> dict[str, int]:
    """Return what was used, by dimension, from a response, a number of tokens, or amounts.

    A mapping may be a usage, or name `dimensions`, or both: `input_tokens` are a word of either.
    What only a dimension is called counts as it stands, the usage tells the others.

    Raises:
        ConfigError: `used` says nothing of usage, or an amount is no whole number.
    """
    found: dict[str, int] = {}
    if isinstance(used, Mapping) and "usage" not in used:
        usage = usage_of(used)
        found = check_cost(used) if usage is None else by_dimension(usage)
        if usage is not None:
            own = {*dimensions} - _WORDS_OF_USAGE
            found |= check_cost({name: used[name] for name in used if name in own})
    elif used is not None:
        usage = usage_of(payload_of(used))
        if usage is None:
            raise ConfigError(
                f"There is no usage in {type(used).__name__}: pass a response that has one, "
                "a number of tokens, or amounts as settle(tokens=812)."
            )
        found = by_dimension(usage)
    return found | check_cost(amounts)


def by_dimension(usage: Usage) -> dict[str, int]:
    """Return the amounts that a usage tells, for the dimensions a quota may limit."""
    told = {
        "tokens": usage.total,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
    }
    return {name: amount for name, amount in told.items() if amount is not None}


# Raised before anything was sent, by httpx, httpx2 and the openai client that wraps them.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol",
                         "ConnectionRefusedError", "gaierror"})  # fmt: skip


def used_by_failure(error: BaseException, estimate: Mapping[str, int]) -> dict[str, int]:
    """Return what a call that raised has used, by what the exception says.

    Never sent: nothing. An HTTP status: what the provider counts for it. Anything else: the
    estimate, because the call may have been made.
    """
    if isinstance(error, CallFailed):
        return charged_by_failure(error.status, estimate) if error.status else dict(estimate)
    if isinstance(error, LimiterError):
        return charged_by_failure(None, estimate)
    causes: BaseException | None = error
    while causes is not None:
        if type(causes).__name__ in _NEVER_SENT:
            return charged_by_failure(None, estimate)
        # Not the context: there stands what the caller was handling, maybe of another call.
        causes = causes.__cause__
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        status = getattr(getattr(error, "response", None), "status_code", None)
    return charged_by_failure(status, estimate) if isinstance(status, int) else dict(estimate)
