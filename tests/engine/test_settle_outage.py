"""A settling that failed because the store was away is told when it is back."""

from __future__ import annotations

import pytest

from limiter.core import definition, ops
from limiter.core.layout import Op
from limiter.core.line import Line
from limiter.core.quota import Quota
from limiter.core.request import Asking, Request
from limiter.errors import StoreError, StoreTimeout

PATIENCE_US = 1_000_000


@pytest.fixture
def line():
    """Make a line that holds one reservation."""
    text = definition.write(Quota("q", tpm=1_000, concurrency=1))
    made = Line(definition.read("q", "1", text), "owner", 30_000_000, PATIENCE_US)
    made.held.add(1)
    return made


@pytest.mark.parametrize("actual", [{"tokens": 5}, None])
def test_what_was_used_is_told_after_the_outage(line, actual):
    """Its caller goes on with an error after its patience; the request itself is kept for good."""
    asked = ops.finish(1, actual)
    line.submit(asked, 0)
    now_us = 0
    for _ in range(5):
        assert line.depart(0).requests[0].op == asked.op
        failed = line.lost(StoreTimeout("away"), now_us, retry=True)
        assert failed == ([asked] if now_us == PATIENCE_US else [])
        now_us += PATIENCE_US // 2
    assert isinstance(asked.error, StoreTimeout)
    (again,) = line.depart(0).requests
    assert again is not asked
    assert (again.op, again.n, again.amounts) == (asked.op, asked.n, asked.amounts)


def test_what_the_store_refuses_is_left_to_its_lease(line):
    """A request that can never succeed is not repeated, nor is its reservation kept alive."""
    line.submit(Request(Op.SETTLE, 1, {"tokens": 5}), 0)
    line.depart(0)
    line.lost(StoreError("refused"), 0, retry=False)
    assert line.outbox == []
    assert line.idle


def test_what_was_given_up_before_it_was_sent_is_never_sent(line):
    """Law 6: calls that are abandoned in the outbox leave with no batch, nor does a cancel of them."""
    kept, *gone = [line.acquire({"tokens": 1}, Asking(may_wait=True)) for _ in range(1_000)]
    for request in (kept, *gone):
        line.submit(request, 0)
    for request in gone:
        line.abandon(request)
    assert line.depart(0).requests == [kept]
    line.abandon(kept)
    assert line.outbox[-1].op == Op.CANCEL


def test_a_call_that_fails_unsent_leaves_nothing_to_cancel(line):
    """Law 6: a call that was never sent during an outage needs no cancel after it."""
    line.submit(line.acquire({"tokens": 1}, Asking(may_wait=True)), 0)
    failed = line.lost(StoreTimeout("away"), PATIENCE_US, retry=True)
    assert [request.done for request in failed] == [True]
    assert line.outbox == []
