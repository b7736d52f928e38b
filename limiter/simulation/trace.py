"""Read a trace: who asked when, and for how many tokens.

A CSV file with a header, in the order of time; it is streamed, never held. Two forms, which may be
mixed: Azure's `TIMESTAMP,ContextTokens,GeneratedTokens`, and a plain one with `at_s` (seconds) or
`timestamp` (ISO 8601, or seconds), `input_tokens` and `output_tokens` or only `tokens`, and, where
known, `priority`, `tenant` and `service_s`. Case does not matter; other columns are not read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from limiter.core.exact import SCALED_MAX
from limiter.errors import ConfigError

_AZURE = {"contexttokens": "input_tokens", "generatedtokens": "output_tokens"}
_TIMES = ("at_s", "timestamp")
_KNOWN = (*_TIMES, "input_tokens", "output_tokens", "tokens", "priority", "tenant", "service_s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST_S = 1e10  # in the year 2286; a microsecond of it still is exact in a double
_SPAN_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """Hold one row.

    Attributes:
        at_us: by the trace's own clock.
        input_tokens, output_tokens: as used; all of them are input where the trace has one number.
        priority, tenant: "" where the trace names none.
        service_us: how long the call took; None where the trace does not tell.
    """

    at_us: int
    input_tokens: int
    output_tokens: int
    priority: str = ""
    tenant: str = ""
    service_us: int | None = None


@dataclass(slots=True)
class Survey:
    """Hold what a first reading of a trace finds.

    Attributes:
        calls, input_tokens, output_tokens: sums.
        first_us, last_us: arrivals.
        priorities: calls by the priority that they name.
        split: input and output are told apart.
        unread: columns that mean nothing here.
    """

    name: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_us: int = 0
    last_us: int = 0
    priorities: dict[str, int] = field(default_factory=dict)
    split: bool = True
    unread: Sequence[str] = ()

    @property
    def span_s(self) -> float:
        """Return the seconds from the first arrival to the last."""
        return (self.last_us - self.first_us) / 1e6

    def per_s(self, dimension: str) -> float:
        """Return the mean of a dimension per second; 0 for one that a trace does not know.

        Raises:
            ConfigError: all calls come at once, so there is no mean.
        """
        if self.last_us <= self.first_us:
            raise ConfigError(
                f"{self.name}: all calls arrive at one moment, so they have no mean load: "
                "give --rpm and --tpm."
            )
        sums = {
            "requests": self.calls,
            "tokens": self.input_tokens + self.output_tokens,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
        return sums.get(dimension, 0) / self.span_s


def survey(path: Path) -> Survey:
    """Read a trace once, from end to end; about half a million rows per second.

    Raises:
        ConfigError: as `read`; or there is no row.
    """
    rows = _Rows(path)
    found = Survey(path.name)
    for arrival in rows:
        found.first_us = found.first_us if found.calls else arrival.at_us
        found.last_us = arrival.at_us
        found.calls += 1
        found.input_tokens += arrival.input_tokens
        found.output_tokens += arrival.output_tokens
        found.priorities[arrival.priority] = found.priorities.get(arrival.priority, 0) + 1
    if not found.calls:
        raise ConfigError(f"{path}: has no row below its header; a trace has a row for each call.")
    if found.span_s > _SPAN_S:
        raise ConfigError(
            f"{path}: spans {found.span_s / 86_400:,.0f} days, a year is the most: "
            "are its times in seconds?"
        )
    found.split, found.unread = "tokens" not in rows.places, rows.unread
    return found


def read(path: Path) -> Iterator[Arrival]:
    """Yield the rows of a trace.

    Raises:
        ConfigError: the file cannot be read or a row is wrong; names file and line.
    """
    yield from _Rows(path)


class _Rows:
    """Read rows, and know which line is being read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: Mapping[str, int] = {}
        self.unread: Sequence[str] = ()
        self._line = 1

    def __iter__(self) -> Iterator[Arrival]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield from self._rows(file)
        except OSError as exc:
            raise ConfigError(
                f"{self.path}: cannot be read ({exc.strerror}); give a CSV file with a header."
            ) from exc
        except (UnicodeDecodeError, csv.Error) as exc:
            raise self._wrong(f"is no CSV in UTF-8: {exc}") from exc

    def _rows(self, lines: Iterable[str]) -> Iterator[Arrival]:
        reader = csv.reader(lines)
        header = next(reader, [])
        self._take_header(header)
        before_us: int | None = None
        for row in reader:
            self._line = reader.line_num
            if not row:
                continue
            if len(row) != len(header):
                raise self._wrong(f"has {len(row)} fields, the header {len(header)}")
            arrival = self._arrival(row)
            if before_us is not None and arrival.at_us < before_us:
                raise self._wrong("is earlier than the row before it: sort the file by time")
            before_us = arrival.at_us
            yield arrival

    def _take_header(self, header: Sequence[str]) -> None:
        names = [_AZURE.get(name.strip().lower(), name.strip().lower()) for name in header]
        self.places = {name: place for place, name in enumerate(names) if name in _KNOWN}
        self.unread = [
            name for name, known in zip(header, names, strict=True) if known not in _KNOWN
        ]
        twice = {name for name in self.places if names.count(name) > 1}
        if twice:
            raise self._wrong(f"has the column {min(twice)!r} twice")
        if sum(name in self.places for name in _TIMES) != 1:
            raise self._wrong(f"needs one of the columns {' and '.join(_TIMES)}: {_FORMS}")
        whole = "tokens" in self.places
        parts = [name in self.places for name in ("input_tokens", "output_tokens")]
        if whole == all(parts) or whole == any(parts):
            raise self._wrong(f"needs input_tokens and output_tokens, or else tokens: {_FORMS}")

    def _arrival(self, row: Sequence[str]) -> Arrival:
        places = self.places
        whole = "tokens" in places
        return Arrival(
            self._time(row),
            self._count(row, "tokens" if whole else "input_tokens"),
            0 if whole else self._count(row, "output_tokens"),
            row[places["priority"]].strip() if "priority" in places else "",
            row[places["tenant"]].strip() if "tenant" in places else "",
            self._seconds(row, "service_s") if "service_s" in places else None,
        )

    def _time(self, row: Sequence[str]) -> int:
        if "at_s" in self.places:
            return self._seconds(row, "at_s")
        text = row[self.places["timestamp"]].strip()
        # Digits alone are seconds; ISO 8601 would read some as a date without its dashes.
        if text.replace(".", "", 1).isdecimal():
            return self._seconds(row, "timestamp")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self._wrong(
                f"timestamp is a time as 2023-11-16 18:15:46.68, or seconds; got {text!r:.60}"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND

    def _seconds(self, row: Sequence[str], name: str) -> int:
        text = row[self.places[name]].strip()
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number <= _LATEST_S:
            raise self._wrong(f"{name} is seconds from 0 on, as 12.5; got {text!r:.60}")
        return round(number * 1e6)

    def _count(self, row: Sequence[str], name: str) -> int:
        text = row[self.places[name]].strip()
        if not (text.isascii() and text.isdecimal()) or len(text) > 15 or int(text) > SCALED_MAX:
            raise self._wrong(f"{name} is a whole number of tokens from 0 on; got {text!r:.60}")
        return int(text)

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self.path}:{self._line}: {what}.")


_FORMS = (
    "TIMESTAMP,ContextTokens,GeneratedTokens as Azure writes it, or "
    "at_s,input_tokens,output_tokens[,priority][,tenant][,service_s]"
)
