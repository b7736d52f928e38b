"""What the server says of itself: shares of the quota, and times."""

from __future__ import annotations

import time

import openai
import pytest

from limiter.mock import MockConfig, background
from limiter.mock.enforce import Admission
from limiter.mock.ledger import Ledger

SECOND_US = 1_000_000


def test_a_perfect_caller_has_a_share_of_one():
    """Burst at once, then each token as it flows in: share_after_burst is 1, at any moment."""
    ledger = Ledger(MockConfig(rpm=None, tpm=600), 0)
    ledger.admit({"tokens": 600}, 0)
    for second in range(1, 91):
        assert isinstance(ledger.admit({"tokens": 10}, second * SECOND_US), Admission)
        share = ledger.snapshot(second * SECOND_US)["limits"]["tokens"]["share_after_burst"]
        assert share == pytest.approx(1.0)


def test_a_caller_at_half_the_rate_has_a_share_of_a_half():
    """The burst does not count; refused calls do not either."""
    ledger = Ledger(MockConfig(rpm=None, tpm=600), 0)
    ledger.admit({"tokens": 600}, 0)
    for second in range(2, 62, 2):
        ledger.admit({"tokens": 10}, second * SECOND_US)
        ledger.admit({"tokens": 600}, second * SECOND_US)
    snapshot = ledger.snapshot(60 * SECOND_US)
    assert snapshot["limits"]["tokens"]["share_after_burst"] == pytest.approx(0.5)
    assert (snapshot["accepted"], snapshot["refused"]) == (31, 30)
    assert snapshot["tokens_accepted"] == 900


def test_the_burst_is_what_was_left_at_the_first_acceptance():
    """After a reset in the middle of a run the share is that of the run since."""
    ledger = Ledger(MockConfig(rpm=None, tpm=600), 0)
    ledger.admit({"tokens": 600}, 0)
    ledger.reset()
    assert ledger.snapshot(0)["limits"]["tokens"]["share_after_burst"] is None
    for second in range(10, 40, 10):
        ledger.admit({"tokens": 100}, second * SECOND_US)
    dimension = ledger.snapshot(30 * SECOND_US)["limits"]["tokens"]
    assert dimension["burst"] == 100
    assert dimension["share_after_burst"] == pytest.approx(1.0)
    assert dimension["share_used"] == 1.0


def test_a_settled_call_counts_with_its_actual_cost():
    """Accepted tokens are net of refunds, and with debt."""
    ledger = Ledger(MockConfig(rpm=None, tpm=600), 0)
    for actual in (5, 50):
        admission = ledger.admit({"requests": 1, "tokens": 20}, 0)
        for _ in range(2):
            ledger.settle(admission, {"tokens": actual}, 0)
    assert ledger.snapshot(0)["tokens_accepted"] == 55
    assert ledger.snapshot(0)["limits"]["tokens"]["remaining"] == 545


def test_tokens_that_are_not_limited_count_with_their_actual_cost_too():
    """What is counted does not depend on what is limited."""
    ledger = Ledger(MockConfig(rpm=None, tpm=None), 0)
    ledger.settle(ledger.admit({"requests": 1, "tokens": 20}, 0), {"tokens": 50}, 0)
    assert ledger.snapshot(0)["tokens_accepted"] == 50


def test_a_perfect_caller_keeps_a_share_of_one_when_the_limit_changes():
    """Each token as it flows in, at the rate of the time, and the jump of the level at once."""
    ledger = Ledger(MockConfig(rpm=None, tpm=600), 0)
    ledger.admit({"tokens": 600}, 0)
    for second in range(1, 91):
        if second == 31:
            ledger.relimit({"tokens": 1_200}, 30 * SECOND_US)
            assert isinstance(ledger.admit({"tokens": 600}, 30 * SECOND_US), Admission)
        per_second = 10 if second <= 30 else 20
        assert isinstance(ledger.admit({"tokens": per_second}, second * SECOND_US), Admission)
        share = ledger.snapshot(second * SECOND_US)["limits"]["tokens"]["share_after_burst"]
        assert share == pytest.approx(1.0)
    ledger.relimit({}, 100 * SECOND_US)
    assert ledger.snapshot(100 * SECOND_US)["limits"] == {}
    ledger.relimit({"tokens": 600}, 100 * SECOND_US)
    assert ledger.snapshot(100 * SECOND_US)["limits"]["tokens"]["share_after_burst"] is None


def test_the_time_line_counts_by_second():
    """A row holds what came in its second and the levels after it; quiet seconds have none."""
    ledger = Ledger(MockConfig(rpm=None, tpm=600), 1_000 * SECOND_US)
    admission = ledger.admit({"requests": 1, "tokens": 500}, 500_000)
    ledger.admit({"requests": 1, "tokens": 500}, 999_999)
    ledger.refuse("refused_by_command", 3 * SECOND_US)
    ledger.refuse("refused_by_concurrency", 3 * SECOND_US)
    ledger.settle(admission, {"tokens": 700}, 3 * SECOND_US)
    none = dict.fromkeys(("refused_by_command", "refused_by_concurrency"), 0)
    first = {"at_s": 1_000, "accepted": 1, "refused": 1, **none, "tokens": 500}
    assert ledger.timeline.since(0) == [
        {**first, "levels": {"tokens": 105.0}},
        {
            "at_s": 1_003,
            "accepted": 0,
            "refused": 0,
            "refused_by_command": 1,
            "refused_by_concurrency": 1,
            "tokens": 200,
            "levels": {"tokens": -75.0},
        },
    ]
    assert [row["at_s"] for row in ledger.timeline.since(1_000.9)] == [1_000, 1_003]
    assert [row["at_s"] for row in ledger.timeline.since(1_001)] == [1_003]
    snapshot = ledger.snapshot(3 * SECOND_US)
    assert snapshot["limits"]["tokens"]["level"] == pytest.approx(-75, abs=0.001)
    refused = [snapshot[name] for name in ("refused", *none)]
    assert refused == [1, 1, 1]


def test_the_time_line_keeps_an_hour():
    """3,600 seconds, the current one with them; older rows go when a new event comes."""
    ledger = Ledger(MockConfig(), 0)
    for second in range(0, 4_001, 10):
        ledger.admit({"requests": 1}, second * SECOND_US)
    kept = [row["at_s"] for row in ledger.timeline.since(0)]
    assert kept == [second for second in range(0, 4_001, 10) if second > 4_000 - 3_600]
    ledger.reset()
    assert ledger.timeline.since(0) == []


def test_stats_over_http_have_times_of_the_wall_clock_and_can_be_reset():
    """First and last acceptance are Unix seconds; a reset forgets counts, but no level."""
    with background(MockConfig(rpm=10, tpm=None, charge_refusals=True)) as server:
        assert server.stats()["first_accepted_s"] is None
        begin_s = time.time()
        with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
            for _ in range(2):
                client.embeddings.create(model="e", input="x")
        stats = server.stats()
        assert begin_s - 1 <= stats["first_accepted_s"] <= stats["last_accepted_s"]
        assert stats["last_accepted_s"] <= time.time() + 1
        assert (stats["accepted"], stats["refused"], stats["errors"]) == (2, 0, 0)
        assert stats["tokens_accepted"] == 2
        server.reset_stats()
        stats = server.stats()
        assert (stats["accepted"], stats["first_accepted_s"]) == (0, None)
        assert stats["limits"]["requests"]["remaining"] < 10
