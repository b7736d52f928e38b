"""What a long line of many flows costs: the server's time for each operation, and memory.

`python -m benchmarks.flows` prints the table and draws .bench/flows.png. The lines are on one server
and are measured in turns, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.engine import Engine
from benchmarks.environments import HOME
from benchmarks.report import Row
from limiter import Limit, Quota
from limiter.core import layout

SIZES = (0, 1_000, 10_000, 30_000, 100_000)
FLOWS = (1, 1_000)
OPERATIONS = ("enqueue+cancel", "poll", "grant")
_BATCH = 250
_COST = (1, 1)


def _quota(name: str) -> Quota:
    """Return a quota of one token an hour: who has it keeps everybody else waiting."""
    limits = [Limit("tokens", 1, 3_600.0, headroom=0), Limit("requests", 10**6, headroom=0)]
    return Quota(name, limits=limits)


@dataclass(slots=True)
class Line:
    """Hold a line of so many tickets besides its head, in so many flows."""

    engine: Engine
    tickets: int
    flows: int
    bytes_each: float = 0.0
    us: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _held: int = 1
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def build(cls, url: str, tickets: int, flows: int) -> Line:
        """Let one call have the token, one wait, and all the others stand behind it."""
        line = cls(Engine(url, _quota(f"line-{tickets}-{flows}")), tickets, flows)
        line.engine.run(line.acquire(), line.acquire())
        before = line.engine.memory()
        for first in range(0, tickets, _BATCH):
            line.engine.run(*(line.acquire() for _ in range(min(_BATCH, tickets - first))))
        line.bytes_each = (line.engine.memory() - before) / max(1, tickets)
        return line

    def acquire(self) -> layout.Entry:
        """Write the entry of the next call; flows take turns."""
        n = next(self._numbers)
        return layout.acquire(n, _COST, flags=layout.MAY_WAIT, tenant=f"tenant-{n % self.flows}")

    def come_and_go(self) -> None:
        """Join the line and leave it."""
        entry = self.acquire()
        self.engine.run(entry, layout.cancel(int(entry[1])))

    def grant(self) -> None:
        """Give the token back, which lets the head in; a new ticket takes a place, uncounted."""
        self.engine.aside(self.acquire())
        entry = layout.settle(self._held, (0, 0))
        (granted,) = layout.parse_reply(self.engine.run(entry), [entry]).grants
        self._held = granted.n

    def leave(self) -> None:
        """Cancel all that was ever asked for."""
        last = next(self._numbers)
        for first in range(1, last, _BATCH):
            batch = range(first, min(last, first + _BATCH))
            self.engine.run(*(layout.cancel(n) for n in batch))

    def keys_left(self) -> int:
        """Count the keys that tell of calls or tenants."""
        keys = self.engine.keys
        return int(self.engine.client.exists(keys.tickets, keys.line, keys.holds, keys.flows,
                                             keys.order, keys.tenants))  # fmt: skip

    def measure(self, times: int) -> None:
        """Take one more figure of each operation."""
        acts: tuple[Callable[[], object], ...] = (self.come_and_go, self.engine.run, self.grant)
        for name, act in zip(OPERATIONS, acts, strict=True):
            self.us[name].append(self.engine.server_us(act, times))

    def median_us(self, operation: str) -> float:
        """Return the server's time for an operation."""
        return statistics.median(self.us[operation])


def measured(lines: list[Line], rounds: int = 5, times: int = 300) -> list[Line]:
    """Measure lines in turns."""
    for _ in range(rounds):
        for line in lines:
            line.measure(times)
    return lines


def grid(url: str) -> list[Line]:
    """Measure every size with one flow and with many."""
    return measured([Line.build(url, size, flows) for flows in FLOWS for size in SIZES])


def _compared(line: Line, none: Line, what: str, others: dict[str, Line]) -> list[Row]:
    rows: list[Row] = []
    for operation in OPERATIONS:
        notes = {"nobody": none, **others}
        note = "server time; " + ", ".join(
            f"with {name}: {other.median_us(operation):.1f} us" for name, other in notes.items()
        )
        bar_us = 2 * none.median_us(operation)
        rows.append(
            Row(f"{operation}, {what}", line.median_us(operation), bar_us, "stay below", "us", note)
        )
    return rows


def _after_all(line: Line) -> Row:
    """Let everybody go, one in ten of them served; see what is left of them.

    Whoever was served keeps a tag while others wait, so that it does not come back as a newcomer.
    When nobody waits each run forgets a hundred of those.
    """
    for _ in range(line.tickets // 10):
        line.grant()
    line.leave()
    runs = 1
    while line.keys_left() and runs < line.tickets // 500:
        line.engine.run()
        runs += 1
    note = f"of tickets, line, holds, flows, order, tenants; after {runs} runs that find nobody waiting"
    return Row("  … keys that tell of them when all are gone", line.keys_left(), 0, "stay below",
               "", note)  # fmt: skip


def rows(url: str) -> list[Row]:
    """Measure all of it, and draw it."""
    lines = grid(url)
    found = {(line.tickets, line.flows): line for line in lines}
    draw(lines)
    none, many = found[0, 1], found[SIZES[-1], FLOWS[-1]]
    compared = _compared(
        many, none, "100,000 in 1,000 flows", {"100,000 in one flow": found[SIZES[-1], 1]}
    )
    weights = [many.bytes_each, found[SIZES[-1], 1].bytes_each]
    note = f"in one flow: {weights[1]:.0f} B"
    memory = Row(
        "memory of a ticket, 100,000 in 1,000 flows", weights[0], 300, "stay below", "B", note
    )
    for line in lines:
        line.engine.clear()
    return [*compared, memory, *one_each(url)]


def one_each(url: str, tenants: int = 100_000) -> list[Row]:
    """Let every ticket have a tenant of its own."""
    none, line = measured([Line.build(url, 0, 1), Line.build(url, tenants, tenants)])
    compared = _compared(line, none, "of 100,000 tenants", {})
    memory = Row("memory of a ticket and its flow, of 100,000 tenants", line.bytes_each, 2 * 300,
                 "stay below", "B", "the bar of a ticket for each of the two")  # fmt: skip
    after_all = _after_all(line)
    for each in (none, line):
        each.engine.clear()
    return [*compared, memory, after_all]


def draw(lines: list[Line]) -> None:
    """Draw .bench/flows.png: time of each operation and memory, by the length of the line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.2), layout="constrained")
    panels = figure.subplots(1, len(OPERATIONS) + 1)
    none = lines[0]
    for axes, operation in zip(panels, OPERATIONS, strict=False):
        _curves(axes, lines, partial(Line.median_us, operation=operation))
        axes.axhline(2 * none.median_us(operation), color="#888888", linestyle=":", label="bar")
        axes.set(title=operation, ylabel="server time, us")
    _curves(panels[-1], [line for line in lines if line.tickets], lambda line: line.bytes_each)
    panels[-1].axhline(300, color="#888888", linestyle=":", label="bar")
    panels[-1].set(title="memory", ylabel="bytes for a ticket, flows included")
    for axes in panels:
        axes.set_ylim(bottom=0)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False)  # fmt: skip
    HOME.mkdir(exist_ok=True)
    figure.savefig(HOME / "flows.png", dpi=120)


def _curves(axes: Any, lines: list[Line], value: Callable[[Line], float]) -> None:
    for flows, colour in zip(FLOWS, ("#0072B2", "#D55E00"), strict=True):
        chosen = [line for line in lines if line.flows == flows]
        places = [line.tickets / 1_000 for line in chosen]
        axes.plot(places, list(map(value, chosen)), "o-", color=colour, markersize=4,
                  label=f"{flows:,} flow{'s' if flows > 1 else ''}")  # fmt: skip
    axes.set(xlabel="tickets waiting, thousands")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Print the table."""
    from benchmarks.report import publish
    from benchmarks.servers_redis import redis_server

    with redis_server() as redis:
        publish(rows(redis.url), redis_version=redis.version)


if __name__ == "__main__":
    main()
