"""Draw .bench/feedback.png: both levels over time, the rates, and what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.environments import HOME

if TYPE_CHECKING:
    from benchmarks.feedback.changes import Record

_THEIRS, _OURS, _FOREIGN, _REFUSED = "#0072B2", "#D55E00", "#999999", "#CC0000"
_BIN_S = 1.0


def draw(record: Record) -> None:
    """Draw a run: above the levels of the tokens, below what was served of whom in each second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _levels(above, record)
    _rates(below, record)
    for axes in (above, below):
        for phase, begin_s, _ in record.spans():
            axes.axvline(begin_s - record.begin_s, color="#888888", linewidth=0.8, linestyle=":")
            if axes is above:
                axes.annotate(phase.name, (begin_s - record.begin_s, 1.01), (4, 2),
                              xycoords=("data", "axes fraction"), textcoords="offset points",
                              fontsize=9)  # fmt: skip
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper right", frameon=False, fontsize=9)
    below.set(xlabel="seconds", xlim=(0, sum(phase.lasts_s for phase in record.phases)))
    HOME.mkdir(exist_ok=True)
    figure.savefig(HOME / "feedback.png", dpi=120)


def _levels(axes: Any, record: Record) -> None:
    looks = [look for look in record.looks if look.at_s >= record.begin_s]
    at_s = [look.at_s - record.begin_s for look in looks]
    axes.plot(at_s, [look.theirs / 1_000 for look in looks], color=_THEIRS, linewidth=2.4,
              label="the provider's level")  # fmt: skip
    ours = [None if look.ours is None else look.ours / 1_000 for look in looks]
    axes.plot(at_s, ours, color=_OURS, linewidth=1.1, label="ours")
    for who, colour, marker in (("ours", _REFUSED, "x"), ("foreign", _FOREIGN, "|")):
        refused = [a.came_s - record.begin_s for a in record.arrivals
                   if a.status == 429 and who in a.who]  # fmt: skip
        axes.plot(refused, [0] * len(refused), marker, color=colour, markersize=9,
                  label=f"429 ({who}): {len(refused)}")  # fmt: skip
    axes.set(ylabel="tokens left, thousands")


def _rates(axes: Any, record: Record) -> None:
    lasts_s = sum(phase.lasts_s for phase in record.phases)
    bins = [_BIN_S * n for n in range(int(lasts_s / _BIN_S))]
    for who, colour in (("ours", _OURS), ("foreign", _FOREIGN)):
        served = [0.0] * len(bins)
        for a in record.arrivals:
            at = int((a.came_s - record.begin_s) / _BIN_S)
            if a.status == 200 and who in a.who and 0 <= at < len(bins):
                served[at] += a.tokens / _BIN_S / 1_000
        axes.step(bins, served, where="post", color=colour, linewidth=1.1, label=f"served: {who}")
    fair = [(begin_s - record.begin_s, phase.fair / 1_000) for phase, begin_s, _ in record.spans()]
    axes.step([at for at, _ in fair] + [lasts_s], [rate for _, rate in fair] + [fair[-1][1]],
              where="post", color="black", linewidth=0.9, linestyle="--", label="fair")  # fmt: skip
    axes.set(ylabel="tokens a second, thousands", ylim=(0, 3 * max(rate for _, rate in fair)))
