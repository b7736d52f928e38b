"""Whatever a provider sends there is a verdict, and what cannot be read is counted and told once."""

from __future__ import annotations

import logging
import threading

from hypothesis import given
from hypothesis import strategies as st

from limiter.providers import StreamError, judge, judge_stream_error, oddities
from limiter.providers.headers import METERS
from limiter.providers.oddities import Oddities
from tests.providers.test_refusals import FREE_DAY, PER_DAY, gemini, reached

NAMES = [n for m in METERS for n in (m.limit, m.remaining, m.reset, m.renewal) if n]
NAMES += ["retry-after", "retry-after-ms", "date", "x-should-retry", "x-amzn-errortype"]
garbage = (
    st.text(max_size=50)
    | st.text("0123456789.-+eEnaifhms:,TZ ٣²µ", max_size=20)
    | st.sampled_from(["nan", "inf", "-1", "1e999", "9" * 400, "-" * 9, "0", "0s", "1", "60", "8.64s",
                       "10000", "1788220800000", "2025-11-24T22:24:06Z", "9999-12-31T23:59:59Z",
                       "0001-01-01T00:00:00+14:00", "Fri, 18 Jul 2025 12:54:08 GMT"])
    | st.binary(max_size=20) | st.integers() | st.floats() | st.none() | st.lists(st.text(), max_size=2)
)  # fmt: skip
texts = st.text(max_size=30) | st.sampled_from([
    "Limit 1, Used 2, Requested 3. Please try again in 9s", "(TPM): Limit 30,000, Used 9",
    "(RPD): Limit 999999999999999, Used 999999999999999, Requested 1. try again in 1ms",
    "rate limit of 5 tokens per minute", "retry after 999999999 hours", "retry in 99999999999999h",
    "Quota exceeded for metric: m, limit: 0", "slow down", "Request too large",
])  # fmt: skip
keys = st.sampled_from(["error", "message", "code", "type", "status", "details", "metadata", "headers",
                        "raw", "violations", "quotaId", "quotaValue", "retryDelay", "__type",
                        "innererror", "error_code", "x-ratelimit-reset"])  # fmt: skip
bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**4000),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(), inner, max_size=5)
    ),
    max_leaves=20,
)
templates = st.sampled_from([FREE_DAY, gemini(PER_DAY), reached("tokens (TPM)", 1, 2, 3, "4s")])


@given(
    status=st.integers() | st.integers(0, 600),
    headers=st.dictionaries(st.sampled_from(NAMES) | st.text() | st.integers(), garbage),
    body=bodies | templates | st.binary() | st.text(),
    provider=st.sampled_from(["openai", "azure", "groq", "together", "generic", ""]),
    path=st.text() | st.just("/v1/responses"),
    now_s=st.none() | st.floats() | st.integers(),
)
def test_nothing_is_raised(status, headers, body, provider, path, now_s):
    """Whatever comes, there is a verdict, and its numbers are within bounds."""
    verdict = judge(status, headers, body, provider=provider, path=path, model=path, now_s=now_s)
    assert verdict.wait_us is None or 0 < verdict.wait_us <= 86_400_000_000
    assert verdict.wait_us is None or verdict.again
    for one in (*verdict.seen, *([verdict.refused_by] if verdict.refused_by else [])):
        assert 0 < one.amount < 2**50
        assert one.period_us > 0
        assert one.slack_us >= 0
        assert one.full_us is None or one.full_us >= 0
        assert one.is_bucket is not False or one.full_us is None


@given(st.text(), texts, st.dictionaries(st.sampled_from(NAMES), st.text()))
def test_nothing_is_raised_for_a_stream(code, message, headers):
    """Whatever an event carries."""
    assert judge_stream_error(StreamError(code, message, headers)).status == 200


GARBLED = {
    "x-ratelimit-limit-requests": "many",
    "x-ratelimit-limit-tokens": "0",
    "x-ratelimit-limit-input-images": "100",
    "x-ratelimit-remaining-input-images": "50",
    "x-ratelimit-reset-input-images": "soon",
    "x-ratelimit-limit-project-tokens": [1],
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "-2",
    "anthropic-ratelimit-requests-reset": "soon",
    "date": "today",
    "retry-after": "-3",
    "retry-after-ms": "nan",
}


def test_what_cannot_be_read_is_counted_and_told_once(caplog):
    """By its name; the rest of the answer is read as ever, and nothing else is counted."""
    oddities.count.clear()
    oddities._first.clear()
    with caplog.at_level(logging.WARNING, "limiter"):
        for _ in range(3):
            judge(429, GARBLED, gemini({"quotaId": "RequestsPerDay", "quotaValue": "x"}, delay="x"))
    odd = {name for name in GARBLED if name not in
           {"x-ratelimit-limit-input-images", "x-ratelimit-remaining-input-images",
            "anthropic-ratelimit-requests-limit"}} | {"quotaValue", "retryDelay"}  # fmt: skip
    assert set(oddities.count) == odd
    assert min(oddities.count.values()) >= 3
    assert len(caplog.records) == len(odd)
    assert any("x-ratelimit-reset-input-images" in r.getMessage() for r in caplog.records)
    seen = judge(200, GARBLED).seen
    assert [(one.dimension, one.amount, one.remaining, one.full_us) for one in seen] == [
        ("input_images", 100, 50, None),
        ("requests", 50, None, None),
    ]


def test_threads_warn_once(caplog):
    """Of many threads that meet the same oddity at once, one gives the warning."""
    mine, go = Oddities(), threading.Barrier(16)

    def note():
        go.wait()
        for _ in range(100):
            mine.note("x", "y")

    threads = [threading.Thread(target=note) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caplog.records) == 1
    assert 100 <= mine.count["x"] <= 1_600


def test_the_memory_of_oddities_is_bounded():
    """However many names."""
    mine = Oddities()
    for number in range(1_000):
        mine.note(f"x-{number}", "?")
    assert len(mine.count) == 256
