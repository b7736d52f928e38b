"""Durations and error bodies as OpenAI writes them. Pure text and arithmetic.

The wording and the numbers follow messages that OpenAI's API really sent: waits are Go durations,
floored to the millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.mock.enforce import Refusal

ORGANIZATION = "org-mock"
UNITS = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}
VISIT = "Visit https://platform.openai.com/account/rate-limits to learn more."


def go_duration(span_us: int) -> str:
    """Write a span as Go does, floored to the millisecond: "0s", "120ms", "8.64s", "1m13.588s"."""
    total_ms = span_us // 1_000
    if total_ms < 1_000:
        return f"{total_ms}ms" if total_ms else "0s"
    minutes, ms = divmod(total_ms, 60_000)
    seconds = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> Any:
    """Give the body that every error of the API has."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal_body(refusal: Refusal, model: str) -> Any:
    """Give the body of a 429.

    For the bucket, "try again in" is (Used + Requested - Limit) x period / Limit, floored to the
    millisecond: it holds in 13 of 13 messages of 2023 to 2026.
    """
    where = f"for {model} in organization {ORGANIZATION} on {UNITS[refusal.dimension]}"
    if refusal.wait_us is None:
        text = (
            f"Request too large {where}: Limit {refusal.limit}, Requested {refusal.requested}. "
            f"The input or output tokens must be reduced in order to run successfully. {VISIT}"
        )
    else:
        text = (
            f"Rate limit reached {where}: Limit {refusal.limit}, Used {refusal.used}, "
            f"Requested {refusal.requested}.{try_again(refusal.wait_us)} {VISIT}"
        )
    return error_body(text, refusal.dimension, "rate_limit_exceeded")


def try_again(wait_us: int | None) -> str:
    """Give the sentence that tells a wait, with the space before it; nothing where there is none."""
    return "" if wait_us is None else f" Please try again in {go_duration(wait_us)}."


def plain_refusal_body(model: str) -> Any:
    """Give the body of a 429 that tells neither what was too much nor when to come again."""
    text = f"Rate limit reached for {model}."
    return error_body(text, "rate_limit_error", "rate_limit_exceeded")


FAULTS: Mapping[str, tuple[int, Any]] = {
    "error": (
        500,
        error_body(
            "The server had an error while processing your request. Sorry about that!",
            "server_error",
            None,
        ),
    ),
    "overload": (
        503,
        error_body(
            "The server is currently overloaded. Please try again later.",
            "service_unavailable_error",
            "server_is_overloaded",
        ),
    ),
    "slow_down": (
        429,
        error_body(
            "Your traffic grew too quickly. Reduce your request rate, then raise it gradually.",
            "rate_limit_error",
            "slow_down",
        ),
    ),
}


SPENT_TEXT = (
    "You exceeded your current quota, please check your plan and billing details. For more "
    "information on this error, read the docs: "
    "https://platform.openai.com/docs/guides/error-codes/api-errors."
)

# Codes that say that there is no money, by OpenAI's guide to error codes: waiting does not help.
SPENT = frozenset(
    {
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)


def ordered_body(status: int, code: str, text: str | None, model: str, wait: str) -> Any:
    """Give the body of a refusal on command; `text` replaces what the API would say."""
    kind = "insufficient_quota" if code in SPENT else _kind(status)
    said = {
        "rate_limit_exceeded": f"Rate limit reached for {model}.{wait}",
        "slow_down": FAULTS["slow_down"][1]["error"]["message"],
        **dict.fromkeys(SPENT, SPENT_TEXT),
    }
    return error_body(text or said.get(code, f"The call was refused: {code}."), kind, code)


def _kind(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def failure_body(status: int, model: str) -> Any:
    """Give the body of a call that fails with a status, in the words of real ones."""
    known = {
        401: error_body(
            "Incorrect API key provided: any. "
            "You can find your API key at https://platform.openai.com/account/api-keys.",
            "invalid_request_error",
            "invalid_api_key",
        ),
        403: error_body(
            f"Project `proj_mock` does not have access to model `{model}`",
            "invalid_request_error",
            "model_not_found",
        ),
        404: error_body(
            f"The model `{model}` does not exist or you do not have access to it.",
            "invalid_request_error",
            "model_not_found",
        ),
        429: error_body(SPENT_TEXT, "insufficient_quota", "insufficient_quota"),
        **dict([FAULTS["error"], FAULTS["overload"]]),
    }
    text = f"The call failed with status {status}."
    return known.get(status) or error_body(text, _kind(status), None)
