"""What one answer of a provider says, as values: how the call ended, and what it tells of the limits.

Pure. The parsers of this package make them; the line's script, the retries and the reports read
them. Nothing here knows of a provider.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

MINUTE_US, DAY_US = 60_000_000, 86_400_000_000

# When the levels of an answer's headers were read, as far as the endpoint is known: right after the
# call was admitted, when it was over, or one of both.
When = Literal["start", "end", "either"]


class Outcome(enum.IntEnum):
    """Say how a call ended, as far as the limits are concerned; the script reads the numbers."""

    SERVED = 1  # 2xx
    REFUSED = 2  # a limit: come again later (429)
    SLOW_DOWN = 3  # not a limit but its growth (OpenAI's `slow_down`)
    FAILED = 4  # the provider's fault: 5xx, overloaded, no answer at all
    DENIED = 5  # it serves none of us until somebody acts: key, billing, permission
    REJECTED = 6  # the caller's own mistake (400, 404, 422, too large)


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what an answer tells of one limit.

    Attributes:
        dimension: `requests`, `tokens`, `input_tokens`, `output_tokens`, `input_images`, …
        amount: the limit, in units per period.
        period_us: of the limit, in microseconds; by the headers' own arithmetic where they allow it.
        remaining: units that are left, cut down to whole ones; below 0 where a refusal says that
            more is used than the limit. None: not told.
        full_us: how long until nothing counts as used any more, where that is a bucket's: used /
            amount x period. Finer than `remaining`. None: not told, or not a bucket's.
        slack_us: how exact that is, as time: both numbers are rounded.
        is_bucket: reset and remaining agree with a continuously refilled bucket. False: they
            contradict it (a window). None: it cannot be told: there is no reset, it is too small,
            or nothing is used (`full_us` is 0 then, and any period would do).
        scope: "" or "project".
    """

    dimension: str
    amount: int
    period_us: int = MINUTE_US
    remaining: int | None = None
    full_us: int | None = None
    slack_us: int = 0
    is_bucket: bool | None = None
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say what an answer means for those who wait, and for the one who asked.

    Attributes:
        outcome: how the call ended.
        status: of HTTP; 0: there was no answer. An error inside a stream came after a 200.
        code, message: of the error, for people and reports; "" where it is none.
        again: another attempt may succeed.
        wait_us: what the provider asks to wait at least, a day at most; None: it does not say, or
            no wait would help.
        seen: what the headers tell of the limits.
        refused_by: what the refusal's own text tells of the limit that refused: amount and used, with
            `full_us` = used / amount x period. The refused call itself is not in it.
        when: when the levels in `seen` were read.
    """

    outcome: Outcome
    status: int = 200
    code: str = ""
    message: str = ""
    again: bool = False
    wait_us: int | None = None
    seen: tuple[Seen, ...] = ()
    refused_by: Seen | None = None
    when: When = "either"
