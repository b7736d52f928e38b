"""What each family of headers tells, and that it tells nothing more."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.mock import MockConfig, background
from limiter.mock.enforce import Enforcer
from limiter.mock.headers import FAMILIES, Told, anthropic_limits, azure_limits, mistral_limits
from tests.mock.asking import HELLO_TOKENS, ask, client_of, headers_of, refusal_of

MINUTE_US = 60_000_000


def views(used, limits):
    enforcer = Enforcer("bucket", limits)
    enforcer.admit(used, 0)
    return enforcer.view(0)


def test_azure_tells_bare_milliseconds_and_its_period():
    """As 28 of 28 recorded responses of 2026-03-31, each after a call of 14 tokens."""
    after = views({"requests": 1, "tokens": 14}, {"requests": 120, "tokens": 120_000})
    assert azure_limits(Told(after, MINUTE_US, 0)) == {
        "x-ratelimit-limit-requests": "120",
        "x-ratelimit-limit-tokens": "120000",
        "x-ratelimit-remaining-requests": "119",
        "x-ratelimit-remaining-tokens": "119986",
        "x-ratelimit-renewalperiod-requests": "60",
        "x-ratelimit-renewalperiod-tokens": "60",
        "x-ratelimit-reset-requests": "500",
        "x-ratelimit-reset-tokens": "7",
    }


def test_mistral_tells_the_cost_of_the_call_and_no_reset():
    """As a recorded response of 2026-07-20; another period is in the names, as in 2025-09."""
    after = views({"requests": 1, "tokens": 109}, {"requests": 4, "tokens": 250_000})
    assert mistral_limits(Told(after, MINUTE_US, 0, 109)) == {
        "x-ratelimit-limit-req-minute": "4",
        "x-ratelimit-limit-tokens-minute": "250000",
        "x-ratelimit-remaining-req-minute": "3",
        "x-ratelimit-remaining-tokens-minute": "249891",
        "x-ratelimit-tokens-query-cost": "109",
    }
    refused = mistral_limits(Told(after, 10_000_000, 0))
    assert refused["x-ratelimit-remaining-req-10-second"] == "3"
    assert "x-ratelimit-tokens-query-cost" not in refused


@given(st.integers(0, 30_400), st.integers(0, 10**15))
def test_anthropic_rounds_tokens_to_thousands_and_resets_to_seconds(used, unix_us):
    """Never off by more than 500 tokens or above the limit; never told to come too early."""
    after = views({"requests": 1, "tokens": used}, {"requests": 50, "tokens": 30_400})
    told = anthropic_limits(Told(after, MINUTE_US, unix_us))
    left = int(told["anthropic-ratelimit-tokens-remaining"])
    assert left % 1_000 == 0 or left == 30_400
    assert abs(left - after["tokens"].remaining) <= 500
    assert left <= 30_400
    assert told["anthropic-ratelimit-requests-remaining"] == "49"
    for name, view in after.items():
        reset = datetime.fromisoformat(told[f"anthropic-ratelimit-{name}-reset"])
        assert 0 <= reset.timestamp() - (unix_us + view.reset_us) / 1_000_000 < 1 + 1e-3
    assert told["anthropic-ratelimit-tokens-limit"] == "30400"


# What a call that is refused for want of 4 tokens of 40 is told, 6 s before they are there.
TOLD = {
    "openai": {"retry-after": "6", "retry-after-ms": "6000", "x-ratelimit-remaining-tokens": "0"},
    "azure": {"retry-after": "1", "retry-after-ms": "0", "x-ratelimit-reset-tokens": "0"},
    "anthropic": {"retry-after": "6", "anthropic-ratelimit-tokens-remaining": "0"},
    "mistral": {"x-ratelimit-remaining-tokens-minute": "0"},
    "none": {},
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_refused_call_is_told_what_its_family_tells(family):
    """Over HTTP: the headers of a family, a hint of its kind, and no header of another's."""
    config = MockConfig(rpm=60, tpm=10 * HELLO_TOKENS, headers=family)
    with background(config, clock_us=lambda: 0) as server, client_of(server) as client:
        served = [limits_in(headers_of(client)) for _ in range(10)][-1]
        refused = limits_in(refusal_of(client).response.headers)
    assert TOLD[family].items() <= refused.items()
    hints = {name for name in refused if name.startswith("retry")}
    assert hints == {name for name in TOLD[family] if name.startswith("retry")}
    assert bool(served) == bool(refused) == (family != "none")
    assert refused.keys() - hints == served.keys() - {"x-ratelimit-tokens-query-cost"}
    prefix = "anthropic-ratelimit-" if family == "anthropic" else "x-ratelimit-"
    assert all(name.startswith(prefix) for name in served)


def limits_in(headers):
    return {k: v for k, v in headers.items() if "ratelimit" in k or k.startswith("retry")}


@pytest.mark.parametrize(
    ("headers", "message", "tells"),
    [
        ("openai", "auto", True),
        ("azure", "auto", True),
        ("none", "auto", False),
        ("none", "yes", True),
        ("openai", "no", False),
    ],
)
def test_a_message_tells_numbers_unless_told_otherwise(headers, message, tells):
    """Without them neither the wait nor the dimension can be read from the body."""
    config = MockConfig(rpm=1, headers=headers, message=message)
    with background(config, clock_us=lambda: 0) as server, client_of(server) as client:
        ask(client)
        error = refusal_of(client)
    assert ("Limit 1, Used 1, Requested 1. Please try again in 1m0s" in error.message) == tells
    assert error.code == "rate_limit_exceeded"
    assert error.type == ("requests" if tells else "rate_limit_error")


@pytest.mark.parametrize(("streams", "charged"), [(False, "usage"), (True, "admission")])
def test_the_cost_that_is_told_is_what_was_charged_so_far(streams, charged):
    """At its end for an unstreamed call that is trued up, at its start for a stream."""
    config = MockConfig(rpm=None, tpm=10_000, charge="usage", headers="mistral")
    with background(config, clock_us=lambda: 0) as server, client_of(server) as client:
        usage = ask(client).usage.total_tokens
        told = headers_of(client, stream=streams)
    cost = usage if charged == "usage" else HELLO_TOKENS
    assert int(told["x-ratelimit-tokens-query-cost"]) == cost
    assert int(told["x-ratelimit-remaining-tokens-minute"]) == 10_000 - usage - cost
