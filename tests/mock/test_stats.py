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
