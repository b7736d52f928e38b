"""What a refusal says, by the words of each provider: which limit, how long, whether ever again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.mock.enforce import Refusal
from limiter.mock.wire import refusal_body
from limiter.providers import Outcome, Seen, judge
from limiter.providers.refusals import LONGEST_WAIT_US, keeps_tokens
from limiter.providers.verdict import DAY_US, MINUTE_US
from tests.providers.test_headers import AZURE_EMPTY

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US


def error(message="", code=None, kind=None, **more):
    return {"error": {"message": message, "type": kind, "param": None, "code": code} | more}


def reached(what, limit, used, requested, again, **more):
    message = (
        f"Rate limit reached for gpt-4o in organization org-X on {what}: Limit {limit}, Used {used}"
        f", Requested {requested}. Please try again in {again}. Visit https://example.com."
    )
    return error(message, "rate_limit_exceeded", "tokens", **more)


def refused(body=None, headers=None, status=429, **more):
    return judge(status, headers or {}, body, **more)


@pytest.mark.parametrize(
    ("limit", "used", "requested", "again", "wait_us", "full_us"),
    [
        ("30000", "14567", "24754", "18.642s", 18_643_000, 29_134_000),
        ("30000", "29937", "385", "644ms", 645_000, 59_874_000),
        ("500000", "461092", "200268", "19.363s", 19_364_000, 55_331_040),
        ("30,000", "29,937", "385", "644ms", 645_000, 59_874_000),
        ("10000", "10120", "20", "840ms", 841_000, 60_720_000),
    ],
)
def test_openai_s_sentence_tells_the_level(limit, used, requested, again, wait_us, full_us):
    """Used by limit is how full the bucket was; the wait is cut down, so a millisecond is added."""
    verdict = refused(reached("tokens per min (TPM)", limit, used, requested, again))
    amount, taken = int(limit.replace(",", "")), int(used.replace(",", ""))
    assert (verdict.outcome, verdict.code, verdict.again) == (
        Outcome.REFUSED, "rate_limit_exceeded", True,
    )  # fmt: skip
    assert verdict.wait_us == wait_us
    assert verdict.refused_by == Seen(
        "tokens", amount, MINUTE_US, amount - taken, full_us, -(-MINUTE_US // amount), True
    )


@given(
    st.integers(1, 10**8).flatmap(
        lambda limit: st.tuples(st.just(limit), st.integers(0, limit), st.integers(1, limit))
    )
)
def test_what_a_provider_computes_is_read_back(numbers):
    """Whatever the numbers, the sentence agrees with its own arithmetic and is a bucket's."""
    limit, used, requested = numbers
    wait_us = max(0, (used + requested - limit) * MINUTE_US // limit)
    if wait_us < 1_000:
        return  # nobody is refused, or for less than can be said
    verdict = refused(refusal_body(Refusal("tokens", limit, used, requested, wait_us), "m"))
    assert verdict.refused_by is not None
    assert (verdict.refused_by.remaining, verdict.refused_by.is_bucket) == (limit - used, True)
    assert verdict.wait_us is not None
    assert wait_us < verdict.wait_us <= wait_us + 1_001


@pytest.mark.parametrize(
    ("what", "dimension", "period_us"),
    [
        ("tokens per min (TPM)", "tokens", MINUTE_US),
        ("requests per min (RPM)", "requests", MINUTE_US),
        ("requests per day (RPD)", "requests", DAY_US),
        ("tokens per day (TPD)", "tokens", DAY_US),
        ("images per minute (IPM)", "images", MINUTE_US),
        ("input tokens per minute (ITPM)", "input_tokens", MINUTE_US),
        ("output tokens per minute (OTPM)", "output_tokens", MINUTE_US),
        ("audio seconds per hour (ASH)", "audio_seconds", HOUR_US),
        ("tokens per min", "tokens", MINUTE_US),
        ("tokens per day (ABC)", "tokens", DAY_US),
        ("tokens per min (TPM), and on requests per day (RPD)", "requests", DAY_US),
    ],
)
def test_the_tag_names_the_limit(what, dimension, period_us):
    """The last one before the number: by its tag, or by the words where none is known."""
    body = error(f"Rate limit reached for (XL) models on {what}: Limit 200, Requested 300.")
    assert refused(body).refused_by == Seen(dimension, 200, period_us)


def test_a_sentence_that_contradicts_itself_is_no_bucket_s():
    """Another provider may write the same words of a window."""
    verdict = refused(reached("requests per min (RPM)", 500, 500, 1, "43s"))
    assert verdict.refused_by == Seen("requests", 500, MINUTE_US, 0, is_bucket=False)
    assert verdict.wait_us == 43_001_000


@pytest.mark.parametrize(
    "message",
    [
        "on tokens per min (TPM): Limit 0, Used 0, Requested 1.",
        "Limit 30000, Used 5, Requested 9.",
        "(TPM) " + "x" * 200 + ": Limit 30000",
        "on tokens per min (TPM): Limit unknown",
        "",
    ],
)
def test_without_a_number_or_a_name_no_limit_is_told(message):
    """A limit of nought is none either."""
    assert refused(error(message)).refused_by is None


def test_the_sentence_of_2023():
    """A limit, and what to wait for it."""
    message = "Rate limit reached on tokens per min. Limit: 10000 / min. Please try again in 6ms."
    verdict = refused(error(message, "rate_limit_exceeded"))
    assert verdict.refused_by == Seen("tokens", 10_000)
    assert verdict.wait_us == 7_000


def test_anthropic_s_sentence():
    """It names the limit, in both of its word orders, and no level."""
    for whose in ("your organization's rate limit", "the rate limit for your organization (0dcc)"):
        message = (
            f"This request would exceed {whose} of 40,000 input tokens per minute. For details"
        )
        verdict = refused({"type": "error", "error": {"type": "rate_limit_error", "message": message}},
                          {"retry-after": "12"}, provider="anthropic")  # fmt: skip
        assert (verdict.outcome, verdict.code) == (Outcome.REFUSED, "rate_limit_error")
        assert verdict.refused_by == Seen("input_tokens", 40_000)
        assert verdict.wait_us == 12 * SECOND_US


def test_the_most_exact_wait_counts():
    """`retry-after-ms`, then the message, then `retry-after`, then words; a nought is no hint."""
    headers = {"retry-after-ms": "19363", "Retry-After": "20"}
    body = reached("tokens per min (TPM)", 500000, 461092, 200268, "19.362s")
    assert refused(body, headers).wait_us == 19_364_000
    assert refused(body, headers | {"retry-after-ms": "0"}).wait_us == 19_363_000
    assert refused(None, headers | {"retry-after-ms": "0"}).wait_us == 20 * SECOND_US
    assert refused(None, {"retry-after": "7.66"}).wait_us == 7_660_000
    assert refused(None, {"retry-after": "0", "retry-after-ms": "0"}).wait_us is None
    assert refused(error("Please retry after 2 seconds.")).wait_us == 2 * SECOND_US
    assert refused(error("Please try again in 1 minute.")).wait_us == MINUTE_US
    assert refused(error("Please try again in a while.")).wait_us is None


def test_a_wait_may_be_a_date():
    """By the answer's own clock, or by the client's; one that has passed is no wait."""
    until = {"retry-after": "Fri, 18 Jul 2025 12:55:08 GMT"}
    assert refused(None, until | {"date": "Fri, 18 Jul 2025 12:54:08 GMT"}).wait_us == MINUTE_US
    assert refused(None, until, now_s=1_752_843_248).wait_us == MINUTE_US
    assert refused(None, until, now_s=1_752_900_000).wait_us is None
    assert refused(None, until).wait_us is None


@pytest.mark.parametrize(
    "headers", [{"retry-after": "999999999"}, {"retry-after-ms": "99999999999999"}]
)
def test_no_wait_is_longer_than_a_day(headers):
    """Whatever an answer asks for."""
    assert refused(None, headers).wait_us == LONGEST_WAIT_US == DAY_US


@pytest.mark.parametrize("text", ["-5", "nan", "inf", "soon", "", "٣"])
def test_what_is_no_wait_is_none(text):
    """A negative or garbled wait is ignored."""
    assert refused(None, {"retry-after": text, "retry-after-ms": text}).wait_us is None


def test_azure_s_useless_hint_becomes_the_renewal_period():
    """With nothing left, "in a second" and "in no time" are neither; the period is a bound."""
    assert refused(None, AZURE_EMPTY, provider="azure").wait_us == MINUTE_US
    assert refused(None, AZURE_EMPTY).wait_us == MINUTE_US
    ten = AZURE_EMPTY | {"x-ratelimit-renewalperiod-tokens": "10"}
    assert refused(None, ten).wait_us == 10 * SECOND_US
    bare = {k: v for k, v in AZURE_EMPTY.items() if "renewal" not in k}
    assert refused(None, bare, provider="azure").wait_us == MINUTE_US
    assert refused(None, bare).wait_us == SECOND_US


def test_azure_s_real_hint_is_believed():
    """A longer wait, or one told in milliseconds, or one that goes with what is left."""
    assert refused(None, AZURE_EMPTY | {"retry-after": "17"}).wait_us == 17 * SECOND_US
    assert refused(None, AZURE_EMPTY | {"retry-after-ms": "250"}).wait_us == 251_000
    left = AZURE_EMPTY | {"x-ratelimit-remaining-tokens": "12"}
    assert refused(None, left).wait_us == SECOND_US


def gemini(*violations, message="You exceeded your current quota.", delay=None):
    failure = "type.googleapis.com/google.rpc.QuotaFailure"
    details = [{"@type": failure, "violations": [*violations]}]
    details += [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    error = {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}
    return {"error": error}


PER_MINUTE = {
    "quotaMetric": "generativelanguage.googleapis.com/generate_content_paid_tier_input_token_count",
    "quotaId": "GenerateContentPaidTierInputTokensPerModelPerMinute",
    "quotaDimensions": {"model": "gemini-2.5-pro"},
    "quotaValue": "2000000",
}
PER_DAY = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "250"}


def test_gemini_names_its_limits():
    """Of several the longest; a day's is a window, a minute's may be a bucket."""
    verdict = refused(gemini(PER_MINUTE, delay="48s"), provider="gemini")
    assert (verdict.outcome, verdict.code, verdict.again) == (
        Outcome.REFUSED, "RESOURCE_EXHAUSTED", True,
    )  # fmt: skip
    assert verdict.refused_by == Seen("input_tokens", 2_000_000, MINUTE_US, 0)
    assert refused(gemini(PER_MINUTE, PER_DAY)).refused_by == Seen(
        "requests", 250, DAY_US, 0, is_bucket=False
    )
    assert refused(json.dumps([gemini(PER_MINUTE)])).refused_by == verdict.refused_by


def test_gemini_s_wait():
    """The message is exact; a delay in whole seconds was cut down, so one is added."""
    message = "You exceeded your current quota. Please retry in 48.939935699s."
    assert refused(gemini(message=message, delay="48s")).wait_us == 48_940_935
    assert refused(gemini(delay="48s")).wait_us == 49 * SECOND_US
    assert refused(gemini(delay="0.5s")).wait_us == 501_000
    assert refused(gemini()).wait_us is None


@pytest.mark.parametrize(
    "violation",
    [
        {},
        7,
        {"quotaId": "GenerateRequestsPerMinute"},
        {"quotaId": 7, "quotaValue": "7"},
        {"quotaId": "GenerateRequestsPerMinute", "quotaValue": "many"},
        {"quotaId": "GenerateRequestsPerMinute", "quotaValue": "0"},
        {"quotaId": "GenerateRequestsPerMinute", "quotaValue": 10**5000},
        {"quotaId": "SomethingElsePerMinute", "quotaValue": "7"},
    ],
)
def test_a_violation_that_names_no_limit_is_left_out(violation):
    """Nothing is made up for it."""
    assert refused(gemini(violation)).refused_by is None


def test_a_model_that_the_plan_lacks_is_denied():
    """Google's "limit: 0" stands beside a wait that mends nothing."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    message = f"* Quota exceeded for metric: {metric}, limit: 0, model: m\nPlease retry in 20.04s."
    denied = refused(gemini(message=message, delay="20s"))
    assert (denied.outcome, denied.again, denied.wait_us) == (Outcome.DENIED, False, None)
    some = message + f"\n* Quota exceeded for metric: {metric}, limit: 5, model: m"
    assert refused(gemini(message=some)).outcome == Outcome.REFUSED


FREE_DAY = {
    "error": {
        "message": "Rate limit exceeded: free-models-per-day.",
        "code": 429,
        "metadata": {"headers": {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0",
                                 "X-RateLimit-Reset": "1788220800000"}},
    }
}  # fmt: skip


def test_openrouter_repeats_its_headers_in_the_body():
    """The window's end is the wait."""
    verdict = refused(FREE_DAY, now_s=1_788_220_800 - 7_200)
    assert verdict.seen == (Seen("requests", 50, DAY_US, 0, is_bucket=False),)
    assert (verdict.code, verdict.wait_us) == ("429", 7_200 * SECOND_US)
    assert refused(FREE_DAY).wait_us is None
    assert refused(FREE_DAY, {"retry-after": "5"}).wait_us == 5 * SECOND_US
    assert refused(FREE_DAY, {"x-ratelimit-remaining": "3"}, now_s=1_788_220_000).wait_us is None
    assert refused(FREE_DAY, {"x-ratelimit-reset": "9"}).wait_us == 9 * SECOND_US


def test_a_limit_behind_openrouter_is_not_ours():
    """What the provider behind says is waited for, but not taken for a limit of our key."""
    raw = json.dumps(reached("tokens per min (TPM)", 30000, 14567, 24754, "18.642s"))
    metadata = {"provider_name": "OpenAI", "raw": raw}
    body = {"error": {"code": 429, "message": "Provider returned error", "metadata": metadata}}
    verdict = refused(body, provider="openrouter")
    assert (verdict.outcome, verdict.refused_by) == (Outcome.REFUSED, None)
    assert verdict.wait_us == 18_643_000


def test_what_keeps_its_tokens():
    """A refusal about tokens, or one that does not say what it is about."""
    assert keeps_tokens(reached("tokens per min (TPM)", 9, 9, 1, "1s"))
    assert not keeps_tokens(reached("requests per min (RPM)", 9, 9, 1, "1s"))
    assert keeps_tokens(error("Too many.", kind="tokens"))
    assert not keeps_tokens(error("Too many.", kind="requests"))
    assert not keeps_tokens(error("RPD exhausted"))
    assert keeps_tokens(None)
