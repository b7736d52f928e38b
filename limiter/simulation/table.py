"""Summaries for people: a column for each quota. Pure text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from limiter.simulation.summary import QUANTILES, Summary, Waits
from limiter.simulation.trace import Survey

Row = tuple[str, Sequence[str]]


def heading(survey: Survey) -> str:
    """Say what the trace is."""
    words = f"{survey.name}: {survey.calls:,} calls in {clock(survey.span_s)}"
    if survey.last_us == survey.first_us:
        return words
    means = (f"{survey.per_s(each) * 60:,.0f} {each}/minute" for each in ("requests", "tokens"))
    return f"{words}, on average {' and '.join(means)}"


def table(summaries: Sequence[Summary]) -> str:
    """Return a table of all summaries; they are of the same priorities and limits."""
    rows: list[Row] = [("", [each.title for each in summaries])]
    rows += _of_limits(summaries, "", lambda each, label: f"{_amounts(each)[label]:,}")
    groups = [each.priorities for each in summaries]
    for name in groups[0]:
        rows += [("", []), *_of_calls(name, [group[name] for group in groups])]
    if len(groups[0]) > 1:
        rows += [("", []), *_of_calls("all calls", [each.total for each in summaries])]
    rows.append(("", []))
    rows += _of_limits(summaries, "used of ", lambda each, label: _share(each.used[label]))
    rows.append(("somebody waited", [span(each.busy_s) for each in summaries]))
    rows.append(("everything done after", [span(each.makespan_s) for each in summaries]))
    return _aligned(rows)


def _of_limits(
    summaries: Sequence[Summary], before: str, cell: Callable[[Summary, str], str]
) -> list[Row]:
    labels = [limit.label for limit in summaries[0].quota.limits]
    return [(before + label, [cell(each, label) for each in summaries]) for label in labels]


def _amounts(summary: Summary) -> Mapping[str, int]:
    return {limit.label: limit.amount for limit in summary.quota.limits}


def _of_calls(name: str, groups: Sequence[Waits]) -> list[Row]:
    rows: list[Row] = [(f"{name}: calls", [f"{each.calls:,}" for each in groups])]
    for quantile, _ in QUANTILES:
        cells = [span(each.wait_s[quantile]) if each.wait_s else "-" for each in groups]
        rows.append((f"  wait {quantile}", cells))
    rows.append(("  longest line", [f"{each.longest_line:,}" for each in groups]))
    for what, counts in (
        ("timed out", [each.timed_out for each in groups]),
        ("refused", [each.refused for each in groups]),
    ):
        if any(counts):
            rows.append((f"  {what}", [f"{count:,}" for count in counts]))
    return rows


def _share(used: float | None) -> str:
    return "-" if used is None else f"{used:.1%}"


def _aligned(rows: Sequence[Row]) -> str:
    first = max(len(label) for label, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells)
    lines = [
        "  ".join([label.ljust(first), *(cell.rjust(width) for cell in cells)]).rstrip()
        for label, cells in rows
    ]
    return "".join(f"{line}\n" for line in lines)


def span(seconds: float) -> str:
    """Write a span as `0 s`, `4 ms`, `0.43 s`, `12.3 s`, `20:48` or `1:14:13`."""
    if seconds >= 600:
        return clock(seconds)
    if 0 < seconds < 0.0995:
        return f"{seconds * 1e3:.2g} ms"
    return f"{seconds:.2f} s" if 0 < seconds < 10 else f"{seconds:.{1 if seconds else 0}f} s"


def clock(seconds: float) -> str:
    """Write a span as `0:05`, `12:41` or `3:05:00`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
