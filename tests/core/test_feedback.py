"""What answers do to one level: only what others used is laid to their account."""

from __future__ import annotations

from limiter.core.buckets import Bucket
from limiter.core.feedback import LimitRecord
from limiter.core.layout import AT_START, MAY_RAISE, TOLD, Row

SECOND_US = 1_000_000
DEN, CAPACITY = 100, 12_000  # 10,000 units a second


class Told:
    """Hold a full bucket of which answers tell, one each 100 ms."""

    def __init__(self) -> None:
        self.bucket = Bucket("l", 1, 1, DEN, CAPACITY, CAPACITY, CAPACITY * DEN, shift=0)
        self.now = 0
        self.record = LimitRecord(self.now, self.now)

    def answer(self, used: int) -> None:
        """Hear of a call that took nothing, at whose start the provider counted so much as used."""
        self.now += SECOND_US // 10
        self.hear(used, self.bucket.level - (self.bucket.shift or 0), self.now)

    def hear(self, used: int, mark: int, granted_us: int) -> None:
        row = Row(1, 1, AT_START + TOLD + MAY_RAISE, used * DEN)
        self.record.correct(self.bucket, row, mark, self.now - granted_us, 0, self.now)

    def drain(self, wait_s: float) -> None:
        """Be refused without arithmetic."""
        row = Row(1, 1, 0)
        self.record.drain(self.bucket, row, 1, round(wait_s * SECOND_US), self.now)

    def answers(self, used: int, count: int = 30) -> None:
        for _ in range(count):
            self.answer(used)


def test_what_is_told_first_is_no_surprise() -> None:
    """A level that nobody knew is taken as it is told: nothing of it is kept back for others."""
    told = Told()
    told.answer(used=CAPACITY)
    assert (told.bucket.level, told.record.guard) == (0, 0)


def test_what_others_use_is_kept_back() -> None:
    """Of what was there a moment ago others took some: they may go on."""
    told = Told()
    told.answers(used=0)
    told.answer(used=500)
    assert told.record.guard >= 500 * DEN


def test_what_a_brake_drains_is_nobody_s_use() -> None:
    """The level is lowered to the moment at which the refused call may come again, for that alone."""
    told = Told()
    told.answers(used=0)
    told.drain(2.0)
    assert told.bucket.level == DEN - 2 * SECOND_US
    told.answers(used=0)
    assert (told.record.guard, told.record.others) == (0, 0)


def test_what_was_let_in_before_does_not_end_a_drain() -> None:
    """A refusal is believed; calls that are answered later, and were let in before, say nothing."""
    told = Told()
    told.answers(used=0)
    before_us, mark = told.now, told.bucket.level
    told.drain(2.0)
    for _ in range(50):
        told.now += SECOND_US // 10
        told.hear(0, mark, before_us)
    assert told.bucket.level == DEN - 2 * SECOND_US
    told.answers(used=0)
    assert told.bucket.level > DEN


def test_a_level_that_is_off_makes_nobody_deaf() -> None:
    """Only how answers differ is noise; that all of them tell more than we count is none."""
    told = Told()
    told.answers(used=0)
    told.drain(0.5)
    told.answers(used=0, count=5)
    before = told.bucket.level
    told.answer(used=CAPACITY - before // DEN + 500)
    assert told.bucket.level <= before - 500 * DEN
