"""Draw replays: for each quota a panel of waits and one of the line, a curve for each priority.

Needs matplotlib (the extra `plot`), which is imported when it is used, and no display.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limiter.errors import ConfigError
from limiter.simulation.record import Ending
from limiter.simulation.run import Run
from limiter.simulation.summary import line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's, which the colour-blind tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_POINTS = 400  # of a curve; more cannot be seen and make a large SVG
_SHORTEST_S = 0.01  # a shorter wait is drawn as none

_TICKS_S = {_SHORTEST_S: "none", 0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min",
            3_600: "1 h", 36_000: "10 h"}  # fmt: skip


def check(path: Path) -> None:
    """Make sure, before the work, that a picture can be made.

    Raises:
        ConfigError: matplotlib is missing, the name has another suffix, or there is no directory.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'llm-limiter[plot]'")
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--plot writes {', '.join(_SUFFIXES)}; got {path.name!r:.60}.")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot: there is no directory {path.parent}; make it first.")


def draw(runs: Sequence[Run], names: Sequence[str], path: Path, heading: str = "") -> None:
    """Write the picture; the suffix says in which format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 4.2 * len(runs), 7.5), layout="constrained")
    figure.suptitle(heading, fontsize=11)
    panels = figure.subplots(2, len(runs), squeeze=False, sharex="row", sharey="row")
    for column, run in enumerate(runs):
        _draw_waits(panels[0][column], run, names)
        _draw_line(panels[1][column], run, names)
    _set_ticks(panels[0][0], max(run.summary.longest_wait_s for run in runs))
    panels[0][0].set_ylabel("share of calls granted within")
    panels[1][0].set_ylabel("calls waiting (logarithmic)")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=len(names), frameon=False)  # fmt: skip
    figure.savefig(path, dpi=130)


def _draw_waits(axes: Axes, run: Run, names: Sequence[str]) -> None:
    """Draw which share of a priority's calls were granted within a time, those that gave up too."""
    for place, name in enumerate(names):
        outcomes = list(run.record.outcomes(place))
        waited = sorted(waited for _, waited, ending in outcomes if ending == Ending.GRANTED)
        steps = [round(i * (len(waited) - 1) / _POINTS) for i in range(_POINTS + 1) if waited]
        seconds = [max(_SHORTEST_S, waited[i] / 1e6) for i in steps]
        shares = [(i + 1) / len(outcomes) for i in steps]
        axes.plot(seconds, shares, label=name, **_style(place))
    axes.set(title=run.summary.title, xlabel="wait", xscale="log", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    _finish(axes)


def _set_ticks(axes: Axes, longest_s: float) -> None:
    """Write times below the waits, as far as they reach; panels in a row share them."""
    shown = [at for at in _TICKS_S if at <= max(1.0, longest_s * 1.2)]
    axes.set_xticks(shown, [_TICKS_S[at] for at in shown])
    axes.set_xticks([], minor=True)
    axes.set_xlim(_SHORTEST_S * 0.7, max(1.0, longest_s) * 1.5)


def _draw_line(axes: Axes, run: Run, names: Sequence[str]) -> None:
    """Draw how many calls of a priority waited, by the minute since the first arrival."""
    for place in range(len(names)):
        minutes, waiting = _over_time(run, place)
        axes.step(minutes, waiting, where="post", **_style(place))
    axes.set_yscale("symlog", linthresh=1)  # a line of 10 and one of 10,000, and none
    axes.set(xlabel="minutes since the first arrival", xlim=0, ylim=0)
    axes.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    _finish(axes)


def _over_time(run: Run, place: int) -> tuple[list[float], list[int]]:
    """Return the longest line within each of some short spans, and when those begin."""
    started_us = run.record.arrived_us[0]
    span_us = max(1, (run.record.ended_us - started_us) // _POINTS)
    longest: dict[int, int] = {0: 0}
    left: dict[int, int] = {}
    for at_us, waiting in line(run.record.outcomes(place)):
        span = (at_us - started_us) // span_us
        longest[span] = max(longest.get(span, 0), waiting)
        left[span] = waiting
    for span, waiting in left.items():
        longest.setdefault(span + 1, waiting)
    spans = sorted(longest)
    return [span * span_us / 6e7 for span in spans], [longest[span] for span in spans]


def _style(place: int) -> dict[str, Any]:
    colour, dashes = _COLOURS[place % len(_COLOURS)], _STYLES[place % len(_STYLES)]
    return {"color": colour, "linestyle": dashes, "linewidth": 1.2}


def _finish(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
