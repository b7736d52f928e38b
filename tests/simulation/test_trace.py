"""Traces: what is read of them, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from limiter.errors import ConfigError
from limiter.simulation import trace
from limiter.simulation.trace import Arrival
from tests.simulation import traces


def test_azure_is_read_as_it_comes(tmp_path: Path) -> None:
    """Azure's columns and its seven digits of a second are understood; microseconds are kept."""
    path = traces.write(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2023-11-16 18:15:46.6805900,374,44",
        "2023-11-16 18:15:50.9951690,396,109",
    )
    first, second = trace.read(path)
    assert (first.input_tokens, first.output_tokens, first.service_us) == (374, 44, None)
    assert second.at_us - first.at_us == 4_314_579
    found = trace.survey(path)
    assert (found.calls, found.input_tokens, found.output_tokens) == (2, 770, 153)
    assert found.split


def test_the_whole_trace_is_surveyed(tmp_path: Path) -> None:
    """A survey counts what a reading yields."""
    path = traces.azure(tmp_path)
    rows, found = list(trace.read(path)), trace.survey(path)
    assert found.calls == len(rows) >= 500
    assert found.per_s("requests") == len(rows) / ((rows[-1].at_us - rows[0].at_us) / 1e6)
    tokens = sum(row.input_tokens + row.output_tokens for row in rows)
    assert found.per_s("tokens") * found.span_s == pytest.approx(tokens)
    assert found.per_s("images") == 0


def test_the_plain_form_names_everything(tmp_path: Path) -> None:
    """Columns may come in any order and case; a byte order mark, blank lines and others do not hurt."""
    path = traces.write(
        tmp_path,
        "\ufeffPriority,At_s,input_tokens,Model,output_tokens,tenant,service_s",
        "batch,0.5,10,gpt,5,ann,1.25",
        "",
        ",1.5,1,gpt,2,,0",
    )
    assert list(trace.read(path)) == [
        Arrival(500_000, 10, 5, "batch", "ann", 1_250_000),
        Arrival(1_500_000, 1, 2, "", "", 0),
    ]
    found = trace.survey(path)
    assert found.priorities == {"batch": 1, "": 1}
    assert found.unread == ["Model"]


@pytest.mark.parametrize(
    ("first", "second", "apart_us"),
    [
        ("1700000000", "1700000001.25", 1_250_000),
        ("2023-11-16T18:15:46Z", "2023-11-16T18:15:46.5Z", 500_000),
        ("2023-11-16 18:15:46", "2023-11-16 19:15:46+01:00", 0),
    ],
)
def test_timestamps_are_seconds_or_iso(
    tmp_path: Path, first: str, second: str, apart_us: int
) -> None:
    """A timestamp is seconds or ISO 8601; without a zone it is UTC."""
    path = traces.write(tmp_path, "timestamp,tokens", f"{first},1", f"{second},2")
    one, two = trace.read(path)
    assert two.at_us - one.at_us == apart_us
    assert (two.input_tokens, two.output_tokens) == (2, 0)
    assert not trace.survey(path).split


PLAIN = "at_s,input_tokens,output_tokens"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((), ":1: needs one of the columns at_s and timestamp"),
        (("input_tokens,output_tokens", "1,2"), ":1: needs one of the columns"),
        (("at_s,timestamp,tokens", "1,2,3"), ":1: needs one of the columns"),
        (("at_s,input_tokens", "1,2"), ":1: needs input_tokens and output_tokens, or else tokens"),
        (("at_s,tokens,output_tokens", "1,2,3"), ":1: needs input_tokens and output_tokens"),
        (("at_s,tokens,ContextTokens,input_tokens", "1,2,3,4"), ":1: has the column 'input_tokens' twice"),
        ((PLAIN,), "has no row below its header"),
        ((PLAIN, "1,2,3", "4,5"), ":3: has 2 fields, the header 3"),
        ((PLAIN, "1,2,3", "", "x,2,3"), ":4: at_s is seconds from 0 on, as 12.5; got 'x'"),
        ((PLAIN, "nan,2,3"), ":2: at_s is seconds"),
        ((PLAIN, "-1,2,3"), ":2: at_s is seconds"),
        ((PLAIN, "1,2.5,3"), ":2: input_tokens is a whole number of tokens from 0 on; got '2.5'"),
        ((PLAIN, "1,2,-3"), ":2: output_tokens is a whole number"),
        ((PLAIN, "1,2," + "9" * 30), ":2: output_tokens is a whole number"),
        ((PLAIN, "2,2,3", "1,2,3"), ":3: is earlier than the row before it: sort the file by time"),
        ((PLAIN, "0,2,3", "1e9,2,3"), "are its times in seconds?"),
        (("at_s,tokens,tenant", '1,2,"two\nlines"', "x,2,3"), ":4: at_s is seconds"),
        (("timestamp,tokens", "yesterday,3"), ":2: timestamp is a time as 2023-11-16 18:15:46.68"),
        (("at_s,tokens,service_s", "1,2,soon"), ":2: service_s is seconds"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(tmp_path: Path, lines: tuple[str, ...], says: str) -> None:
    """What is wrong is said with file and line, and what belongs there."""
    path = traces.write(tmp_path, *lines)
    with pytest.raises(ConfigError) as caught:
        trace.survey(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_what_is_no_csv_is_refused(tmp_path: Path) -> None:
    """A file that is missing, or in no UTF-8, is a ConfigError, too."""
    with pytest.raises(ConfigError, match="cannot be read"):
        trace.survey(tmp_path / "none.csv")
    path = tmp_path / "latin.csv"
    path.write_bytes(b"at_s,tokens\n1,\xe9\n")
    with pytest.raises(ConfigError, match="is no CSV in UTF-8"):
        trace.survey(path)


def test_calls_of_one_moment_have_no_mean(tmp_path: Path) -> None:
    """A mean load needs a span of time."""
    found = trace.survey(traces.write(tmp_path, "at_s,tokens", "1,2", "1,2"))
    with pytest.raises(ConfigError, match="no mean load"):
        found.per_s("requests")
