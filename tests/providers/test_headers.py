"""Each provider's headers, in the formats in which they were recorded, say the same of a limit."""

from __future__ import annotations

import pytest

from limiter.providers import Outcome, Seen, judge, oddities
from limiter.providers.verdict import DAY_US, MINUTE_US

SECOND_US = 1_000_000
OPENAI = {
    "Date": "Fri, 18 Jul 2025 12:54:08 GMT",
    "openai-processing-ms": "1280",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "30ms",
}
# A live deployment's refusal of 2026-08: five requests and 5,000 tokens per minute.
AZURE_EMPTY = {
    "retry-after": "1",
    "retry-after-ms": "0",
    "x-ratelimit-limit-requests": "5",
    "x-ratelimit-limit-tokens": "5000",
    "x-ratelimit-remaining-requests": "4",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-renewalperiod-requests": "60",
    "x-ratelimit-renewalperiod-tokens": "60",
    "x-ratelimit-reset-requests": "12",
    "x-ratelimit-reset-tokens": "0",
}


@pytest.fixture(autouse=True)
def _no_oddities():
    """Nothing here is odd."""
    oddities.count.clear()
    yield
    assert oddities.count == {}


def seen(headers, provider="openai", **more):
    verdict = judge(200, headers, None, provider=provider, **more)
    assert (verdict.outcome, verdict.wait_us) == (Outcome.SERVED, None)
    return verdict.seen


def limits(*parts, provider="openai", **values):
    """Read one limit, of headers x-ratelimit-{limit,remaining,reset,…}-{suffix}."""
    suffix = "-".join(parts)
    headers = {f"x-ratelimit-{part}-{suffix}": text for part, text in values.items()}
    return seen(headers, provider)


def test_openai():
    """Both limits, the level by the reset, exact to the millisecond it is cut down to."""
    assert seen(OPENAI) == (
        Seen("requests", 10_000, MINUTE_US, 9_999, 6_000, 1_000, is_bucket=True),
        Seen("tokens", 2_000_000, MINUTE_US, 1_999_000, 30_000, 1_000, is_bucket=True),
    )


def test_openai_s_other_limits():
    """A project's limits are a scope of their own; images are a dimension; the rest is ignored."""
    headers = {
        "x-ratelimit-limit-project-tokens": "60000",
        "x-ratelimit-remaining-project-tokens": "57000",
        "x-ratelimit-reset-project-tokens": "3s",
        "x-ratelimit-limit-project-requests": "10000",
        "x-ratelimit-remaining-project-requests": "9999",
        "x-ratelimit-reset-project-requests": "6ms",
        "x-ratelimit-limit-input-images": "50000",
        "x-ratelimit-remaining-input-images": "49999",
        "x-ratelimit-reset-input-images": "1ms",
        "x-ratelimit-limit-tokens_usage_based": "250000",
        "x-ratelimit-remaining-tokens_usage_based": "249979",
        "x-ratelimit-reset-tokens_usage_based": "4ms",
    }
    tokens, requests, images = seen(headers)
    assert tokens == Seen(
        "tokens", 60_000, MINUTE_US, 57_000, 3 * SECOND_US, 1_000, True, "project"
    )
    assert (requests.dimension, requests.scope) == ("requests", "project")
    assert images == Seen("input_images", 50_000, MINUTE_US, 49_999, 1_000, 1_000, is_bucket=True)


def test_a_daily_limit_is_not_taken_for_the_minute_s():
    """Recorded: the headers show the limit per day where there is one."""
    (one,) = limits("requests", limit="10000", remaining="9991", reset="1m13.588s")
    assert (one.period_us, one.full_us, one.is_bucket) == (DAY_US, 73_588_000, True)
    (one,) = limits("requests", limit="10000", remaining="9999", reset="5.2s")
    assert (one.period_us, one.full_us, one.is_bucket) == (DAY_US, 5_200_000, True)


def test_a_full_level_needs_no_time():
    """With nothing used the period cannot be told, nor whether it is a bucket's."""
    (one,) = limits("tokens", limit="1000", remaining="1000", reset="0s")
    assert (one.period_us, one.full_us, one.is_bucket) == (MINUTE_US, 0, None)


def test_a_window_has_no_time_to_full():
    """Where the reset contradicts every bucket it says nothing of the level."""
    (one,) = limits("requests", limit="500", remaining="400", reset="43s")
    assert one == Seen("requests", 500, MINUTE_US, 400, is_bucket=False)
    (one,) = limits("requests", limit="500", remaining="499", reset="43", provider="generic")
    assert one == Seen("requests", 500, MINUTE_US, 499, is_bucket=None)


def test_whole_seconds_are_less_exact_than_units():
    """Then what remains tells the level, to a unit; of a small limit the second is finer."""
    (one,) = limits("tokens", limit="1000000", remaining="500000", reset="30")
    assert one == Seen("tokens", 1_000_000, MINUTE_US, 500_000, 30 * SECOND_US, 60, is_bucket=True)
    (one,) = limits("requests", limit="10", remaining="5", reset="30")
    assert one == Seen("requests", 10, MINUTE_US, 5, 30 * SECOND_US, SECOND_US, is_bucket=True)


def test_without_a_reset_the_units_are_all_there_is():
    """As xAI's headers, or a half of OpenAI's."""
    assert limits("tokens", limit="10000000", remaining="9999000", provider="xai") == (
        Seen("tokens", 10_000_000, MINUTE_US, 9_999_000),
    )
    assert limits("tokens", limit="10000", reset="6ms") == (Seen("tokens", 10_000),)
    assert limits("tokens", remaining="119984", provider="azure") == ()


def test_minus_one_is_not_told():
    """Azure's way of saying that it does not know."""
    assert limits("tokens", limit="-1", remaining="-1", reset="0", provider="azure") == ()
    (one,) = limits("tokens", limit="5000", remaining="-1", reset="0", provider="azure")
    assert (one.remaining, one.full_us) == (None, None)


def test_more_than_all_of_it_remains():
    """Nothing is used then; a level is not above full."""
    (one,) = limits("tokens", limit="1000", remaining="1200", reset="0s")
    assert (one.remaining, one.full_us) == (1_200, 0)


def test_groq():
    """Requests are per day and tokens per minute; nanoseconds are read."""
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-requests": "14398",
        "x-ratelimit-remaining-tokens": "29869",
        "x-ratelimit-reset-requests": "11.354999999s",
        "x-ratelimit-reset-tokens": "261ms",
    }
    assert seen(headers, "groq") == (
        Seen("requests", 14_400, DAY_US, 14_398, 11_354_999, 1_000, is_bucket=True),
        Seen("tokens", 30_000, MINUTE_US, 29_869, 261_000, 1_000, is_bucket=True),
    )
    (one,) = limits("requests", limit="14400", remaining="14400", reset="0s", provider="groq")
    assert one.period_us == DAY_US
    (one,) = limits("requests", limit="14400", remaining="14399", reset="3ms", provider="groq")
    assert (one.period_us, one.is_bucket) == (DAY_US, True)


@pytest.mark.parametrize("provider", ["azure", "openai", "generic"])
def test_azure_s_renewal_period_tells_it_from_openai(provider: str):
    """The reset's unit is told by none: milliseconds here, seconds there. Units remain."""
    (one,) = limits("requests", limit="120", remaining="119", reset="500", renewalperiod="60",
                    provider=provider)  # fmt: skip
    assert one == Seen("requests", 120, MINUTE_US, 119, 500_000, 500_000, is_bucket=True)
    (one,) = limits("tokens", limit="1500000", remaining="745399", reset="30", renewalperiod="60",
                    provider=provider)  # fmt: skip
    assert one == Seen("tokens", 1_500_000, MINUTE_US, 745_399, 30_184_040, 40, is_bucket=True)
    requests, tokens = seen(AZURE_EMPTY, provider)
    assert (requests.full_us, requests.is_bucket) == (12 * SECOND_US, True)
    assert (tokens.full_us, tokens.slack_us, tokens.is_bucket) == (60 * SECOND_US, 12_000, None)


def test_azure_s_small_resets_tell_nothing():
    """A nought is told of a level that is nearly full; so is any number that fits no unit."""
    for reset in ("0", "17000"):
        (one,) = limits("tokens", limit="250000", remaining="249991", reset=reset,
                        renewalperiod="60", provider="azure")  # fmt: skip
        assert one == Seen("tokens", 250_000, MINUTE_US, 249_991, 2_160, 240)


def test_azure_s_limits_are_per_minute():
    """A shorter renewal period is how often it is looked at; 9,000 beside 1.5 million is RPM."""
    (one,) = limits("requests", limit="9000", remaining="8999", reset="0", renewalperiod="10")
    assert one.period_us == MINUTE_US
    (one,) = limits("requests", limit="9000", remaining="8999", reset="0", renewalperiod="86400")
    assert one.period_us == DAY_US


ANTHROPIC = {
    "date": "Mon, 24 Nov 2025 22:24:00 GMT",
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2025-11-24T22:24:00Z",
    "anthropic-ratelimit-input-tokens-limit": "2000000",
    "anthropic-ratelimit-input-tokens-remaining": "1491000",
    "anthropic-ratelimit-input-tokens-reset": "2025-11-24T22:24:15Z",
    "anthropic-ratelimit-output-tokens-limit": "400000",
    "anthropic-ratelimit-output-tokens-remaining": "400000",
    "anthropic-ratelimit-output-tokens-reset": "2025-11-24T22:24:00Z",
    "anthropic-ratelimit-tokens-limit": "2400000",
    "anthropic-ratelimit-tokens-remaining": "1891000",
    "anthropic-ratelimit-tokens-reset": "2025-11-24T22:24:00Z",
    "anthropic-priority-input-tokens-limit": "5",
    "anthropic-fast-input-tokens-limit": "5",
    "retry-after": "7",
}


def test_anthropic():
    """Levels by the units that remain, to half a thousand; the reset only has to agree."""
    requests, given, written, both = seen(ANTHROPIC, "anthropic")
    assert requests == Seen("requests", 4_000, MINUTE_US, 3_999, 15_000, 15_000, is_bucket=True)
    assert given == Seen(
        "input_tokens", 2_000_000, MINUTE_US, 1_491_000, 15_270_000, 15_000, is_bucket=True
    )
    assert (written.dimension, written.full_us, written.slack_us) == ("output_tokens", 0, 75_000)
    # 12.7 s to go and a reset of none: the two do not speak of one bucket.
    assert both == Seen("tokens", 2_400_000, MINUTE_US, 1_891_000)


def test_a_client_s_clock_changes_nothing_where_the_answer_has_a_date():
    """Law 10: a clock that is an hour off reads the same."""
    for off_s in (0, -3_600, 3_600):
        assert seen(ANTHROPIC, now_s=1_764_023_040 + off_s) == seen(ANTHROPIC)


def test_without_a_date_the_client_s_clock_has_to_do():
    """And without any clock the reset cannot be held against the level."""
    headers = {name: text for name, text in ANTHROPIC.items() if name != "date"}
    assert seen(headers, now_s=1_764_023_040.25) == seen(ANTHROPIC)
    assert [one.is_bucket for one in seen(headers)] == [None] * 4
    assert seen(headers)[1].full_us == 15_270_000
    assert seen(headers, now_s=float("nan")) == seen(headers, now_s=10**400) == seen(headers)


def test_anthropic_without_a_level():
    """A limit alone is a limit."""
    assert seen({"anthropic-ratelimit-requests-limit": "50"}) == (Seen("requests", 50),)
    assert seen({"anthropic-ratelimit-requests-remaining": "50"}) == ()


def test_mistral():
    """Periods stand in the names, and no reset beside them; the cost of one call is ignored."""
    headers = {
        "x-ratelimit-limit-req-10-second": "60",
        "x-ratelimit-remaining-req-10-second": "59",
        "x-ratelimit-limit-req-minute": "100",
        "x-ratelimit-remaining-req-minute": "97",
        "x-ratelimit-limit-tokens-minute": "20000000",
        "x-ratelimit-remaining-tokens-minute": "19999979",
        "x-ratelimit-limit-tokens-month": "200000000000",
        "x-ratelimit-remaining-tokens-month": "199999999445",
        "x-ratelimit-limit-ocr-pages-minute": "1250",
        "x-ratelimit-remaining-ocr-pages-minute": "1248",
        "x-ratelimit-tokens-query-cost": "21",
    }
    assert seen(headers, "generic") == (
        Seen("requests", 60, 10 * SECOND_US, 59),
        Seen("requests", 100, MINUTE_US, 97),
        Seen("tokens", 20_000_000, MINUTE_US, 19_999_979),
        Seen("tokens", 200_000_000_000, 30 * DAY_US, 199_999_999_445),
        Seen("ocr_pages", 1_250, MINUTE_US, 1_248),
    )


def test_together():
    """Requests and tokens per second; its own token header tells it where the name does not."""
    headers = {"x-ratelimit-limit": "2", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "2"}
    assert seen(headers, "together") == (Seen("requests", 2, SECOND_US, 1),)
    headers |= {"x-tokenlimit-limit": "3000", "x-tokenlimit-remaining": "2900"}
    assert seen(headers) == (
        Seen("requests", 2, SECOND_US, 1),
        Seen("tokens", 3_000, SECOND_US, 2_900),
    )


def test_a_limit_of_no_name_is_requests():
    """By a moment it is a window, by seconds what they agree with, else no more is known."""
    headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0",
               "X-RateLimit-Reset": "1788220800000"}  # fmt: skip
    assert seen(headers, now_s=1_788_220_770) == (
        Seen("requests", 50, MINUTE_US, 0, is_bucket=False),
    )
    assert seen(headers, now_s=1_788_200_000)[0].period_us == DAY_US
    assert seen(headers)[0].is_bucket is False
    assert seen(headers | {"X-RateLimit-Reset": "60"})[0].full_us == 60 * SECOND_US
    assert seen(headers | {"X-RateLimit-Reset": "40"})[0].is_bucket is False
    assert seen({"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0"})[0].is_bucket is None
    assert seen({"X-RateLimit-Remaining": "0"}) == ()
