"""What is submitted, read as Batch lines: bodies, whole lines, or bytes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from limiter.bulk.ids import SEEN, IdTable
from limiter.bulk.lines import MalformedError, encode, read_line
from limiter.errors import ConfigError
from limiter.queue.layout import Queued

Given = Mapping[str, Any] | bytes | str


def calls_of(
    job: str, given: Iterable[Given], priority: str, model: str | None
) -> Iterator[Queued]:
    """Yield the calls of a job; blank lines are passed over.

    Raises:
        ConfigError: a line is no request, or its custom_id is that of an earlier one; says which.
    """
    seen = IdTable()
    number = 0
    for place, each in enumerate(given, 1):
        raw = _raw(each, place)
        if not raw.strip():
            continue
        try:
            call = read_line(raw, place, model)
        except MalformedError as exc:
            raise ConfigError(f"Request {place} {exc}.") from exc
        if seen.mark(call.custom_id, SEEN):
            raise ConfigError(
                f"Request {place} has the custom_id {call.custom_id!r:.80} of an earlier one: results are "
                "told apart by it."
            )
        line = {"custom_id": call.custom_id, "method": "POST", "url": call.path, "body": call.body}
        yield Queued(job, number, priority, call.custom_id, encode(line))
        number += 1


def _raw(given: Given, place: int) -> bytes:
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return given.encode("utf-8", "surrogatepass")
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"Request {place} is a {type(given).__name__}: give bodies, or Batch lines, as mappings."
        )
    try:
        return json.dumps(given).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigError(f"Request {place} is nothing that JSON has ({exc}).") from exc
