"""What travels to the workers of a run."""

from __future__ import annotations

import json

from limiter.bulk.settings import Settings, written
from limiter.core.priority import Priority
from limiter.core.quota import Quota


def test_workers_declare_the_quotas_that_the_run_has() -> None:
    """Quotas survive the way to a worker as JSON, with their priorities and in their group."""
    quotas = {
        "q": Quota("q", rpm=5, priorities=[Priority("batch", share=0.5)], tenants={"x": 2}),
        "a": Quota("a", tpm=5, group="acme"),
    }
    sent = Settings(written(quotas), None, "http://x", "openai", "completion", None, 1, 0, 9.0)
    got = Settings.from_dict(json.loads(json.dumps(sent.as_dict())))
    assert got.declared() == quotas
