"""How far a job is said to be, and when it will be done by the quota's arithmetic."""

from __future__ import annotations

import uuid

import pytest

from limiter import Limit, Limiter, Quota
from limiter.cli.following import Following, eta_s, told
from limiter.queue.ops import JobStatus


def job(ok: int, total: int, tokens: int, failed: int = 0) -> JobStatus:
    return JobStatus("job_x", "in.jsonl", "closed", "", "", total, ok, failed, 0, tokens, 0.0)


@pytest.fixture
def limiter():
    limits = [
        Limit("requests", 60, 3600.0, headroom=0),
        Limit("tokens", 36_000, 3600.0, headroom=0),
        Limit("concurrency", 9, None),
    ]
    with Limiter(f"memory://{uuid.uuid4()}", quotas=[Quota("m", limits=limits)]) as made:
        yield made


def test_the_tightest_limit_says_how_long_it_takes(limiter):
    """What is left of it is free; the rest comes at its rate. Slots come back, and say nothing."""
    with limiter.reserve("m", requests=60, tokens=36_000) as r:
        r.settle(requests=60, tokens=36_000)
    status = limiter.peek("m")
    assert eta_s(job(10, 40, 10_000), status) == pytest.approx(30 * 1_000 / 10, rel=0.01)
    assert eta_s(job(10, 40, 10), status) == pytest.approx(30 * 60, rel=0.01)
    assert eta_s(job(0, 40, 0), status) is None


def test_what_is_there_needs_no_time(limiter):
    """A full quota serves its burst at once."""
    assert eta_s(job(1, 30, 100), limiter.peek("m")) == 0.0
    assert eta_s(job(1, 91, 100), limiter.peek("m")) == pytest.approx(30 * 60, rel=0.01)


def test_it_is_told_in_words(limiter):
    """Counts, and the time where it is known."""
    assert told(job(3, 10, 1_200, failed=1), 65.0) == (
        "3 of 10 done, 1 failed, 6 waiting or under way, 1,200 tokens, 1:05 left at most, by the quota"
    )
    assert told(job(10, 10, 5_000), 0.0) == "10 of 10 done, 0 waiting or under way, 5,000 tokens"


def test_the_first_result_says_whose_quota_counts(url, name):
    """By its model, among those that the store knows."""
    quota = Quota(name, rpm=60, models=[f"{name}-*"])
    with Limiter(url, quotas=[quota]) as limiter:
        limiter.set_quota(quota)
        shown: list[str] = []
        following = Following(url, lambda: job(1, 121, 10), shown.append)
        following.saw(b'{"response": {"body": {"model": "%s-mini"}}}' % name.encode())
        assert "1:01 left at most" in shown[-1]  # a quarter of a second is kept as headroom
        following.close()
