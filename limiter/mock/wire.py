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
            f"Requested {refusal.requested}. "
            f"Please try again in {go_duration(refusal.wait_us)}. {VISIT}"
        )
    return error_body(text, refusal.dimension, "rate_limit_exceeded")


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
