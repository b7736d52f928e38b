"""The names of a queue's keys, and what a call looks like in it. The only place where they are formed.

A queue's keys have one hash tag and the layout's number; `lua/queue` makes the rest from the root:

    limiter:queue:1:{NAME}:…

A call is a text: `JOB:NUMBER`, its priority, its custom_id as JSON, and its Batch line, a line feed between
them. It is a worker's business, but for its first line.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from limiter.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def root(name: str) -> str:
    """Return what all keys of a queue begin with.

    Raises:
        ConfigError: it is no name.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"A queue's name is 1 to 64 letters, digits, '-', '_' and '.', got {name!r:.80}."
        )
    return f"limiter:queue:1:{{{name}}}:"


class Queued(NamedTuple):
    """Hold a call as it waits.

    Attributes:
        job, number: whose it is, and its place there, from 0.
        priority: its name; "" for the default.
        custom_id: the caller's own.
        line: the Batch line, as bytes.
    """

    job: str
    number: int
    priority: str
    custom_id: str
    line: bytes

    @property
    def id(self) -> str:
        """Return what names it in its queue."""
        return f"{self.job}:{self.number}"

    def written(self) -> bytes:
        """Return it as it is stored."""
        named = json.dumps(self.custom_id)
        return f"{self.id}\n{self.priority}\n{named}\n".encode() + self.line


def read(call: bytes) -> Queued:
    """Undo `Queued.written`.

    Raises:
        ValueError: it is none.
    """
    name, priority, custom_id, line = call.split(b"\n", 3)
    job, _, number = name.decode().rpartition(":")
    return Queued(job, int(number), priority.decode(), str(json.loads(custom_id)), line)


class Taken(NamedTuple):
    """Hold a call that a worker has.

    Attributes:
        call: what is to be made.
        level, tenant: where it waited.
        lost: how many workers were lost that had it.
    """

    call: Queued
    level: int
    tenant: str
    lost: int
