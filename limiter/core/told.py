"""What an answer tells, under a unit's definition: rows for the script, and limits to learn. Pure.

All levels are compared as what is used: the provider's limit less what it says is left, ours less
its level. So a burst or a headroom that we do not use is no drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from limiter.core import layout
from limiter.core.definition import Definition
from limiter.core.exact import SCALED_MAX
from limiter.core.layout import Row
from limiter.core.quota import Burst, Limit, Quota
from limiter.providers.verdict import Outcome, Seen, Verdict, When

# OpenAI's guide to error codes: "once your traffic reaches 1 million input TPM, increase it by no
# more than 50 % every 15 minutes". Below that nothing asks for a ramp.
RAMP_FROM_TPM = 1_000_000
_TOKENS = frozenset({"tokens", "input_tokens"})
# Where only requests are limited, they stand for the tokens: not below a tenth of their rate.
_RAMP_PART = 10

# OpenAI's rate-limit guide: "unsuccessful requests contribute to your per-minute limit". What else a
# refused call was to take is given back.
_KEPT = "requests"

# Counters are shared between a provider's servers: identical requests were recorded to differ by up
# to 2 units. Where a limit is small it is counted more exactly than that.
_JITTER, _JITTER_OF = 2, 1000

# Where an answer does not show whether a limit is a bucket or a window.
UNSURE_BURST_S = 5.0
HOUR_US = 3_600_000_000

PAUSE_US, PAUSE_MAX_US, SOON_US = 250_000, 60_000_000, 5_000_000

_WHEN: dict[When, int] = {"start": layout.AT_START, "end": layout.AT_END, "either": 0}


def rows(agreed: Definition, quotas: Sequence[str], verdict: Verdict) -> list[Row]:
    """Write what an answer tells of each limit of the quotas that the call was for."""
    indexes, _ = agreed.labels_of(quotas)
    limits = [agreed.limits[i] for i in indexes]
    is_clear = not agreed.grouped or len(set(quotas or agreed.quotas)) == 1
    return [_row(i, agreed.limits[i], verdict, limits, is_clear=is_clear) for i in indexes]


def _is_paced(limit: Limit) -> bool:
    """Say whether a slower pace mends a refusal: of a day's limit it is the amount that was refused."""
    return limit.per is not None and limit.per * 1e6 <= HOUR_US


def _least(limit: Limit, limits: Sequence[Limit]) -> int:
    """Return the rate below which `slow_down` asks for no ramp; −1: it is not about this limit."""
    num, den = limit.scaled
    if not _is_paced(limit):
        return -1
    if limit.dimension in _TOKENS:
        return RAMP_FROM_TPM * den // 60_000_000
    tokens = any(_is_paced(each) and each.dimension in _TOKENS for each in limits)
    return -1 if tokens else num // _RAMP_PART


def _row(i: int, limit: Limit, verdict: Verdict, limits: Sequence[Limit], *, is_clear: bool) -> Row:
    num, den = limit.scaled
    flags = layout.ADAPTIVE * (limit.adaptive and (limit.per is None or _is_paced(limit)))
    row = Row(i + 1, num, flags, 0, 0, _least(limit, limits))
    if limit.per is None:
        return row
    if verdict.outcome == Outcome.REFUSED and limit.dimension != _KEPT:
        flags += layout.UNCOUNTED
        row = row._replace(flags=flags)
    others = () if is_clear else limits
    refused = _about(limit, () if verdict.refused_by is None else (verdict.refused_by,), others)
    seen = refused or _about(limit, verdict.seen, others)
    used = None if seen is None else _used(limit, seen)
    if seen is None or used is None:
        return row
    flags += layout.TOLD + _flags_of(limit, seen, verdict)
    if refused:
        flags += layout.EXPLAINS
    slack = seen.slack_us * num + min(_JITTER, limit.amount // _JITTER_OF) * den
    return row._replace(flags=flags, used=used, slack=slack)


def _flags_of(limit: Limit, seen: Seen, verdict: Verdict) -> int:
    if not seen.is_bucket or seen.full_us is None:
        return layout.AT_END  # of a window only what is left is known: no more than that
    flags = _WHEN[verdict.when]
    if verdict.outcome == Outcome.REFUSED:
        return layout.AT_START
    return flags + layout.MAY_RAISE * (seen.amount == limit.amount)


def _used(limit: Limit, seen: Seen) -> int | None:
    """Return what the provider counts as used of our amount, in 1/den units; None: not told.

    Where the provider's limit is not ours, what is left of it counts: a fleet that was given a part of a
    limit may use this part for as long as it is there.
    """
    _, den = limit.scaled
    if not seen.is_bucket or seen.full_us is None:
        return None if seen.remaining is None else _bounded((limit.capacity - seen.remaining) * den)
    taken = seen.full_us * seen.amount * den // seen.period_us
    return _bounded(taken + (limit.amount - seen.amount) * den)


def _bounded(scaled: int) -> int:
    return max(-SCALED_MAX, min(SCALED_MAX, scaled))


def _about(limit: Limit, seen: Iterable[Seen], others: Sequence[Limit]) -> Seen | None:
    """Return what is told of a limit; beside other quotas' only what its amount shows to be of this one."""
    found = matching(limit, seen)
    if not others or found is None:
        return found
    alike = sum(
        matching(each, (found,)) is not None and each.amount == found.amount for each in others
    )
    return found if alike == 1 and found.amount == limit.amount else None


def matching(limit: Limit, seen: Iterable[Seen]) -> Seen | None:
    """Return what is told of a limit: of several (a project's, an organisation's) the equal one, else the least."""
    found = [
        each for each in seen
        if each.dimension == limit.dimension and each.period_us == round((limit.per or 0) * 1e6)
    ]  # fmt: skip
    equal = (each for each in found if each.amount == limit.amount)
    return next(equal, None) or min(found, key=lambda each: each.amount, default=None)


class Lessons:
    """Say how soon another change of limits may be taken over.

    Each costs two round trips, and everybody one. Where answers contradict each other (several keys
    or models under one quota), changes become rare: a pause doubles with each that follows soon.
    """

    def __init__(self) -> None:
        self._next_us = 0
        self._pause_us = PAUSE_US

    def may_take(self, now_us: int) -> bool:
        """Say whether it is time; if so, the next one must wait."""
        if now_us < self._next_us:
            return False
        soon = now_us < self._next_us + SOON_US and self._next_us > 0
        self._pause_us = min(PAUSE_MAX_US, self._pause_us * 2) if soon else PAUSE_US
        self._next_us = now_us + self._pause_us
        return True


def to_learn(quota: Quota, declared: Quota, seen: Sequence[Seen]) -> list[Limit]:
    """Return the limits that an answer tells and that `quota`, as it is in force, has not.

    Of a quota that was declared with numbers only these are followed, never above what was declared.
    """
    if declared.learns:
        known = {limit.label: limit for limit in quota.limits}
        told = _tightest(_limit(each) for each in seen if _is_sure(each))
        merged = [_with_burst(each, known.get(each.label)) for each in told]
        return [each for each in merged if each != known.get(each.label)]
    changed = list[Limit]()
    for limit, now in zip(declared.limits, quota.limits, strict=True):
        told_now = matching(now, seen) if limit.per is not None else None
        if told_now and min(told_now.amount, limit.amount) != now.amount:
            changed.append(replace(limit, amount=min(told_now.amount, limit.amount)))
    return changed


def _is_sure(seen: Seen) -> bool:
    """Say whether the period is known: by its name, or by what was used."""
    return 0 < seen.amount <= SCALED_MAX and not (
        seen.full_us == 0 and seen.remaining == seen.amount
    )


def _limit(seen: Seen) -> Limit:
    burst: Burst = "full"  # of a day's or a month's limit nobody wants a small part now
    if not seen.is_bucket and seen.period_us < HOUR_US:
        burst = UNSURE_BURST_S if seen.is_bucket is None else "smooth"  # a window takes no burst
    return Limit(seen.dimension, seen.amount, seen.period_us / 1e6, burst)


def _with_burst(told: Limit, known: Limit | None) -> Limit:
    """Keep what is known of a limit's shape: one answer that contradicts a bucket is enough for ever."""
    if known is None or told.burst == "smooth" or known.burst == UNSURE_BURST_S:
        return told
    return replace(told, burst=known.burst)


def _tightest(limits: Iterable[Limit]) -> list[Limit]:
    least: dict[str, Limit] = {}
    for each in limits:
        if each.label not in least or each.amount < least[each.label].amount:
            least[each.label] = each
    return list(least.values())
