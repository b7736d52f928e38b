"""What a run shows while it works: a live view on a terminal, a line now and then elsewhere.

Everything goes to standard error. Views only read; `rich` is imported for terminals alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from limiter.cli.tally import Tally
from limiter.core.priority import DEFAULT, Priority

if TYPE_CHECKING:
    from rich.console import RenderableType

    from limiter.status import LimitStatus, PriorityStatus, QuotaStatus

LINE_EVERY_S = 5.0
LOOK_EVERY_S = 0.5
_BAR = 24
_LABEL = 16
_PLAIN = Priority(DEFAULT)

Statuses = Mapping[str, "QuotaStatus"]


class View(Protocol):
    """Show how far a run is."""

    def update(self, tally: Tally, statuses: Statuses) -> None:
        """Show the figures of now."""

    def note(self, text: str) -> None:
        """Say something that must not be missed."""

    def close(self) -> None:
        """Leave the last figures standing."""


def view(tally: Tally) -> View:
    """Return what fits the standard error of this process."""
    return Live(tally) if sys.stderr.isatty() else Plain()


class Plain:
    """Write a line every few seconds, and every note."""

    def __init__(self) -> None:
        self._next_at = time.monotonic() + LINE_EVERY_S

    def update(self, tally: Tally, statuses: Statuses) -> None:
        """Write a line if it is time."""
        now = time.monotonic()
        rate = tally.per_second(now)
        if now >= self._next_at:
            self._next_at = now + LINE_EVERY_S
            self.note(f"{time.strftime('%H:%M:%S')} {_line(tally, statuses, rate)}")

    def note(self, text: str) -> None:
        """Write a line."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Do nothing: every line was written when it was due."""


def _line(tally: Tally, statuses: Statuses, per_second: float) -> str:
    parts = [f"{tally.done}/{tally.total} lines", f"{per_second * 60:.0f}/min", *_counts(tally)]
    for name, status in statuses.items():
        used = ", ".join(f"{label} {in_use(each):.0%}" for label, each in status.limits.items())
        parts.append(f"{name}: {used} in use, {status.waiting} waiting")
    return " · ".join([*parts, f"ETA {eta(tally, per_second)}"])


def _counts(tally: Tally) -> list[str]:
    return [
        f"{tally.failed + tally.bad} failed",
        f"{tally.refused} × 429",
        f"{tally.retries} retries",
    ]


def in_use(status: LimitStatus) -> float:
    """Return the share of a limit that is in use now, debt included; 1.2 is a debt of a fifth."""
    return max(0.0, (status.capacity - status.level) / (status.capacity or status.limit.amount))


def eta(tally: Tally, per_second: float) -> str:
    """Return the time that the lines that are left take at this rate, as `4:05`."""
    if not tally.left:
        return "0:00"
    return clock(tally.left / per_second) if per_second > 0 else "?"


def clock(seconds: float) -> str:
    """Write a span as `0:05`, `12:41` or `3:05:00`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


class Live:
    """Redraw a few lines at the foot of the terminal."""

    def __init__(self, tally: Tally) -> None:
        from rich.console import Console
        from rich.live import Live as Drawing

        self._console = Console(stderr=True)
        self._drawing = Drawing(
            self._draw(tally, {}), console=self._console, auto_refresh=False, transient=False
        )
        self._drawing.start()

    def update(self, tally: Tally, statuses: Statuses) -> None:
        """Draw anew."""
        self._drawing.update(self._draw(tally, statuses), refresh=True)

    def note(self, text: str) -> None:
        """Write a line above the figures."""
        self._console.print(text, style="yellow", markup=False, highlight=False)

    def close(self) -> None:
        """Leave the last figures standing, and the cursor below them."""
        self._drawing.stop()

    def _draw(self, tally: Tally, statuses: Statuses) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        per_second = tally.per_second(time.monotonic())
        share = tally.done / tally.total if tally.total > 0 else 1.0
        figures = [f"{per_second * 60:.0f}/min", *_counts(tally), f"ETA {eta(tally, per_second)}"]
        lines: list[RenderableType] = [
            Text.assemble(bar(share), f"  {tally.done}/{tally.total} lines  {share:.0%}"),
            Text("  " + " · ".join(figures)),
        ]
        lines += quota_lines(statuses)
        return Group(*lines)


def quota_lines(statuses: Statuses) -> list[RenderableType]:
    """Draw a heading for each quota, a bar for each limit, and who waits, by priority."""
    from rich.text import Text

    lines: list[RenderableType] = []
    for name, status in statuses.items():
        heading = [f"{status.waiting} waiting", f"{status.held} held"]
        if status.waiting and status.next_s is not None:
            heading.append(f"next in {status.next_s:.1f} s")
        halts = " · ".join(["", *halted(status)])
        lines.append(Text.assemble((name, "bold"), "  " + " · ".join(heading), (halts, "yellow")))
        priorities = policies(status)
        width = max(_LABEL, *map(len, (*status.limits, *priorities)))
        lines += [
            Text.assemble(
                f"  {label:<{width}} ", bar(in_use(each)), f"  {in_use(each):>4.0%} in use, "
                f"{each.level:,} of {each.capacity:,} left", ("".join(provider(each)), "dim"),
            )
            for label, each in status.limits.items()
        ]  # fmt: skip
        lines += [
            Text.assemble(
                f"  {label:<{width}} ", *_waiting(each), no_wrap=True, overflow="ellipsis"
            )
            for label, each in priorities.items()
        ]
    return lines


def halted(status: QuotaStatus) -> Iterable[str]:
    """Say what keeps calls back beside the levels, and how calls fare."""
    if status.brake_s:
        yield f"braked by the provider for {status.brake_s:.1f} s"
    if status.circuit_s:
        yield f"no calls for {status.circuit_s:.1f} s: they fail"
    if status.failures:
        yield f"{status.failures} failed in a row, {status.repeats_left} may be repeated"


def provider(status: LimitStatus) -> Iterable[str]:
    """Say what the provider told of a limit, and what came of it."""
    if status.provider_level is not None and status.age_s is not None:
        yield f" · provider: {status.provider_level:,} left {clock(status.age_s)} ago"
        yield f", drift {status.drift:+,}" if status.drift else ""
    if status.guard:
        yield f" · {status.guard:,} kept back for others"
    if status.pace < 1:
        yield f" · at {status.pace:.0%} of its rate"
    if status.declared is None:
        yield " · learned"
    elif status.declared != status.limit.amount:
        yield f" · {status.declared:,} declared, {status.limit.amount:,} granted"


def policies(status: QuotaStatus) -> Mapping[str, PriorityStatus]:
    """Return the priorities, unless there is but the plain one that every quota has."""
    found = status.priorities
    return found if any(each.priority != _PLAIN for each in found.values()) else {}


def _waiting(status: PriorityStatus) -> Iterable[tuple[str, str]]:
    """Say how many of a priority wait, and by which policy; return texts with their styles."""
    yield f"{status.waiting:>6,} waiting  ", "bold cyan" if status.waiting else ""
    if status.waiting:
        yield f"at most {clock(status.wait_s)}  ", "cyan"
    yield " · ".join(policy(status.priority)), "dim"


def policy(priority: Priority) -> Iterable[str]:
    """Say in a few words what a priority's calls may do."""
    strictly = "strict " if priority.strict else ""
    yield f"level {priority.level}"
    if priority.floor:
        yield f"{strictly}floor {priority.floor:.4g}"
    if priority.share is not None:
        yield f"{strictly}share {priority.share:.4g}"
    if priority.max_waiting is not None:
        yield f"max {priority.max_waiting:,} waiting"
    if priority.timeout is not None:
        yield f"timeout {priority.timeout:g} s"
    if priority.promote_after_s is not None:
        yield f"promoted every {priority.promote_after_s:g} s"


def bar(share: float) -> tuple[str, str]:
    """Draw a share, 1 or more being full; return text and style."""
    full = round(min(1.0, share) * _BAR)
    return "█" * full + "░" * (_BAR - full), "green" if share < 1 else "cyan"
