"""Laws of the report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks.report import Row, machine, number, publish, table

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

FAST = Row("pairs", 45_210, 30_000, unit="/s", note="64 tasks")
SLOW = Row("makespan", 1.043, 1.02, must="stay below")
UNKNOWN = Row("peer", None, 100, note="no Python 3.12 here")


def test_a_row_passes_on_the_good_side_of_its_bar() -> None:
    """Exactly on the bar passes on either side; the ratio is measured / bar."""
    assert FAST.passes
    assert FAST.ratio == 1.507
    assert not SLOW.passes
    assert Row("makespan", 1.02, 1.02, must="stay below").passes
    assert Row("refusals", 0, 0, must="stay below").passes
    assert not Row("refusals", 1, 0, must="stay below").passes


def test_what_was_not_measured_never_passes() -> None:
    """It has no ratio, and the table gives the reason."""
    assert not UNKNOWN.passes
    assert UNKNOWN.ratio is None
    assert "not measured" in table([UNKNOWN])
    assert "no Python 3.12 here" in table([UNKNOWN])


def test_the_table_is_one_line_a_row_and_the_notes() -> None:
    """Columns line up and say measured, bar, ratio and verdict."""
    lines = table([FAST, SLOW]).splitlines()
    assert lines[2].split() == ["pairs", "45,210", "/s", ">=", "30,000", "/s", "1.507", "pass"]
    assert lines[3].split() == ["makespan", "1.043", "<=", "1.02", "1.023", "FAIL"]
    assert lines[4].strip() == "pairs: 64 tasks"


def test_numbers_keep_four_digits() -> None:
    """Thousands are grouped; what is small keeps its decimals; nothing is a dash."""
    assert [number(n) for n in (None, 0, 1.01349, 82.51, 400_000.4)] == [
        "-",
        "0",
        "1.013",
        "82.51",
        "400,000",
    ]


def test_the_report_says_where_it_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text and JSON hold the machine and every row; one row that fails fails the run."""
    into = tmp_path / "out" / "speed.json"
    assert publish([FAST], redis_version="7.0.15")
    assert not publish([FAST, UNKNOWN], redis_version="7.0.15", into=into)
    found = json.loads(into.read_text())
    assert found["machine"] == machine("7.0.15")
    assert [row["what"] for row in found["rows"]] == ["pairs", "peer"]
    assert "7.0.15" in capsys.readouterr().out
