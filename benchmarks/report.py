"""Say what was measured, what it must reach, and on which machine: a table and JSON.

A number that could not be measured is a row of its own with the reason, and never passes.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADS = ("what", "measured", "bar", "ratio", "")


@dataclass(frozen=True, slots=True)
class Row:
    """Compare `measured` with `bar`, both in `unit`; `must` says on which side of it is good.

    `note` tells how it was measured, or why it was not (`measured` is then None).
    """

    what: str
    measured: float | None
    bar: float
    must: Literal["reach", "stay below"] = "reach"
    unit: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Return measured / bar; None if there is nothing to divide."""
        return None if self.measured is None or self.bar == 0 else self.measured / self.bar

    @property
    def passes(self) -> bool:
        """Say whether the bar is met; standing exactly on it is enough on either side."""
        if self.measured is None:
            return False
        return self.measured >= self.bar if self.must == "reach" else self.measured <= self.bar

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        numbers = {"measured": self.measured, "bar": self.bar, "ratio": self.ratio}
        words = {"must": self.must, "unit": self.unit, "note": self.note}
        return {"what": self.what, **numbers, "passes": self.passes, **words}


def machine(redis_version: str | None = None) -> dict[str, Any]:
    """Return where the numbers were measured; the cores are those this process may use."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cpu": _cpu(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "redis": redis_version,
    }


def _cpu() -> str:
    """Return the processor's name; Linux tells it in /proc/cpuinfo only."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def number(value: float | None) -> str:
    """Write a number with four digits that mean something, thousands grouped: `45,210`, `1.013`."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def table(rows: Sequence[Row]) -> str:
    """Lay the rows out in columns, a line each, and their notes below."""
    cells = [_HEADS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEADS))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in (0, len(_HEADS) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, *(f"  {row.what}: {row.note}" for row in rows if row.note)])


def _cells(row: Row) -> tuple[str, ...]:
    unit = f" {row.unit}" if row.unit else ""
    sign = ">=" if row.must == "reach" else "<="
    verdict = "pass" if row.passes else "not measured" if row.measured is None else "FAIL"
    measured = number(row.measured) + (unit if row.measured is not None else "")
    return (row.what, measured, f"{sign} {number(row.bar)}{unit}", number(row.ratio), verdict)


def publish(
    rows: Sequence[Row], *, redis_version: str | None = None, into: Path | None = None
) -> bool:
    """Print the machine and the table, write both as JSON to `into`, say whether all rows pass."""
    where = machine(redis_version)
    print(", ".join(f"{name}: {value}" for name, value in where.items() if value))
    print(table(rows))
    if into is not None:
        found = {"machine": where, "rows": [row.as_dict() for row in rows]}
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_text(json.dumps(found, indent=2) + "\n")
    return all(row.passes for row in rows)
