"""What is asked of a queue's Redis, one verb at a time, without doing it. Pure.

A verb yields what is to be run and is sent the replies; `api` has the two ways to do it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from limiter.errors import ConfigError, QueueFull
from limiter.queue.layout import Queued, Taken, read

T = TypeVar("T")

# What one script takes in: small enough that others come in between.
_PUT_CALLS, _PUT_BYTES = 200, 2**20
_READ_LINES = 200


class Run(NamedTuple):
    """Run a script of `lua/queue` on the queue's root; the answer is its reply."""

    script: str
    arguments: tuple[Any, ...]


class Ask(NamedTuple):
    """Run a plain command on a key below the root; the answer is its reply."""

    command: str
    key: str
    arguments: tuple[Any, ...] = ()


class Scan(NamedTuple):
    """List the keys below the root that begin so; the answer is what follows in each."""

    key: str


class Carry(NamedTuple):
    """Publish calls at the broker, as far as there is room; the answer is as that of `put`.

    Attributes:
        most: calls that may wait there; 0: any number.
        levels: of the lines that count for it.
        calls: as they are written.
    """

    most: int
    levels: tuple[int, ...]
    calls: tuple[bytes, ...]


class Pause(NamedTuple):
    """Wait until something has changed in the queue, so many seconds at most."""

    seconds: float


Step = Run | Ask | Scan | Carry | Pause
Steps = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Hold what is known of a job.

    Attributes:
        job: its id. `name`: the submitter's word for it.
        state: `open` (calls are still being put in), `closed`, `ended`, `cancelled`.
        total, ok, failed, dropped: its calls, those with a result, those that failed for good, those that
            were taken out because it was cancelled.
        tokens: that its results took, as their usage tells.
        submitted_s: seconds since 1970, by Redis's clock.
    """

    job: str
    name: str
    state: str
    priority: str
    tenant: str
    total: int
    ok: int
    failed: int
    dropped: int
    tokens: int
    submitted_s: float

    @property
    def left(self) -> int:
        """Return the calls that still have to be made."""
        return max(0, self.total - self.ok - self.failed - self.dropped)

    @property
    def has_ended(self) -> bool:
        """Say whether nothing more will come of it."""
        return self.state == "ended" or (self.state == "cancelled" and not self.left)


class Failed(NamedTuple):
    """Hold a call that failed for good: its number, why (a result line), and itself."""

    number: int
    why: bytes
    call: Queued


def new_job() -> str:
    """Return the id of a job that nobody else has."""
    return f"job_{secrets.token_hex(8)}"


def open_gen(job: str, fields: Mapping[str, Any]) -> Steps[None]:
    """Begin a job."""
    flat = [part for pair in fields.items() for part in pair]
    (is_new,) = yield Run("job", (job, "open", *flat))
    if not is_new:
        raise ConfigError(f"There is a job {job!r:.80} already; choose another id.")


class Line(NamedTuple):
    """Say where calls are put.

    Attributes:
        most: calls that may wait in the queue; 0: any number.
        level, tenant: of them.
        carried: by a broker; else they wait in Redis.
    """

    most: int
    level: int
    tenant: str
    carried: bool


def put_gen(calls: Iterable[Queued], line: Line, patience_s: float | None) -> Steps[int]:
    """Put calls into the queue, in parts; wait for room where it is full. Return how many there were.

    Raises:
        QueueFull: there was no room within the caller's patience; what is in stays in.
        ConfigError: the job is cancelled.
    """
    number, waited_s = 0, 0.0
    for job, part in _parts(calls):
        while part:
            put, waiting = yield from (_carry if line.carried else _put)(line, job, part)
            if put < 0:
                raise ConfigError(f"The job {job!r} was cancelled meanwhile, after {number} calls.")
            number += put
            part = part[put:]
            if part and patience_s is not None and waited_s >= patience_s:
                raise QueueFull(
                    f"{waiting:,} calls wait in the queue, which is as many as may; {number:,} of this job "
                    "are in it. Start more workers, wait with timeout=, or raise most=.",
                    waiting=waiting, put=number,
                )  # fmt: skip
            if part:
                waited_s += yield Pause(0.25)
            else:
                waited_s = 0.0
    return number


def _put(line: Line, job: str, part: list[bytes]) -> Steps[tuple[int, int]]:
    put, waiting = yield Run("put", (line.most, line.level, line.tenant, job, *part))
    return put, waiting


def _carry(line: Line, job: str, part: list[bytes]) -> Steps[tuple[int, int]]:
    """Publish calls, then count them: a worker may be quicker, but an open job does not end."""
    known, *levels = yield Run("count", (line.level, job, 0))
    if known < 0:
        return -1, 0
    put, waiting = yield Carry(line.most, tuple(levels), tuple(part))
    known, *_ = yield Run("count", (line.level, job, put))
    return (put if known == 0 else -1), waiting


def _parts(calls: Iterable[Queued]) -> Iterator[tuple[str, list[bytes]]]:
    job, part, size = "", list[bytes](), 0
    for call in calls:
        written = call.written()
        if part and (len(part) >= _PUT_CALLS or size + len(written) > _PUT_BYTES):
            yield job, part
            part, size = [], 0
        job = call.job
        part.append(written)
        size += len(written)
    if part:
        yield job, part


def change_gen(job: str, what: str) -> Steps[None]:
    """Close or cancel a job.

    Raises:
        ConfigError: there is no such job.
    """
    (done,) = yield Run("job", (job, what))
    if not done:
        raise _unknown(job)


def status_gen(job: str) -> Steps[JobStatus]:
    """Look at a job.

    Raises:
        ConfigError: there is no such job.
    """
    found = yield Ask("HGETALL", f"job:{job}")
    status = _status(job, found)
    if status is None:
        raise _unknown(job)
    return status


def jobs_gen() -> Steps[list[JobStatus]]:
    """List the jobs, the newest last; a scan of the queue's keys."""
    jobs = []
    for job in (yield Scan("job:")):
        status = _status(job, (yield Ask("HGETALL", f"job:{job}")))
        if status is not None:
            jobs.append(status)
    return sorted(jobs, key=lambda each: each.submitted_s)


def _status(job: str, found: Any) -> JobStatus | None:
    pairs = zip(found[::2], found[1::2], strict=True)
    told = {name.decode(): value.decode("utf-8", "replace") for name, value in pairs}
    if "state" not in told:
        return None
    counts = {
        name: int(told.get(name, 0)) for name in ("total", "ok", "failed", "dropped", "tokens")
    }
    return JobStatus(
        job=job,
        name=told.get("name", ""),
        state=told["state"],
        priority=told.get("priority", ""),
        tenant=told.get("tenant", ""),
        submitted_s=int(told.get("submitted_us", 0)) / 1e6,
        **counts,
    )


def results_gen(job: str, start: int) -> Steps[list[bytes]]:
    """Return results from a place on, in the order in which calls ended: some of them."""
    found: list[bytes] = yield Ask("LRANGE", f"results:{job}", (start, start + _READ_LINES - 1))
    return found


def failed_gen(job: str) -> Steps[list[Failed]]:
    """List the calls of a job that failed for good."""
    found = yield Ask("HGETALL", f"dead:{job}")
    pairs = zip(found[::2], found[1::2], strict=True)
    failed = []
    for number, kept in pairs:
        why, _level, _tenant, call = kept.split(b"\n", 3)
        failed.append(Failed(int(number), why, read(call)))
    return sorted(failed, key=lambda each: each.number)


def retry_gen(job: str, numbers: Iterable[int]) -> Steps[int]:
    """Put failed calls of a job into the queue again; return how many.

    Raises:
        ConfigError: the job is cancelled, or gone.
    """
    total = 0
    listed = list(numbers)
    for at in range(0, len(listed), _PUT_CALLS):
        (found,) = yield Run("revive", (job, *listed[at : at + _PUT_CALLS]))
        if found < 0:
            raise ConfigError(f"The job {job!r:.80} is cancelled, or gone: submit its calls anew.")
        total += found
    return total


# --- of workers -------------------------------------------------------------------------------


class Want(NamedTuple):
    """Say what a worker would take.

    Attributes:
        most: in all. each: of a level that `levels` does not name.
        above: only of levels above this one; None: of all.
    """

    most: int
    each: int
    above: int | None
    levels: Mapping[int, int]


def take_gen(want: Want, lease_ms: int, tries: int) -> Steps[tuple[float | None, list[Taken]]]:
    """Take calls; also return in how many seconds one comes back that is put off or may be lost."""
    above = "-inf" if want.above is None else want.above
    levels = [part for pair in want.levels.items() for part in pair]
    due_ms, *flat = yield Run("take", (lease_ms, tries, want.most, want.each, above, *levels))
    taken = [
        Taken(read(call), int(level), tenant.decode(), int(lost))
        for _, level, tenant, lost, call in zip(*(iter(flat),) * 5, strict=True)
    ]
    return None if due_ms < 0 else due_ms / 1000, taken


def finish_gen(taken: Taken, result: bytes, tokens: int, *, ok: bool) -> Steps[bool]:
    """Store a call's result and let it go; say whether it was the first one."""
    call = taken.call
    kept = () if ok else (taken.level, taken.tenant, call.written())
    how = "ok" if ok else "failed"
    (stored,) = yield Run("finish", (call.id, how, result, tokens, *kept))
    return bool(stored)


def carried_gen() -> Steps[list[int]]:
    """List the levels at which calls were put at a broker, the highest first."""
    found = yield Ask("ZREVRANGE", "carried", (0, -1))
    return [int(level) for level in found]


def claim_gen(ids: Iterable[str]) -> Steps[list[int]]:
    """Ask whether calls that a broker delivered are to be made: -1 for no, else how many workers it lost."""
    found: list[int] = yield Run("claim", ("claim", *ids))
    return found


def lost_gen(taken: Taken, lost: int) -> Steps[bool]:
    """Put a call aside that lost so many workers."""
    error = {"code": "worker_lost", "message": f"Its worker was lost {lost} times."}
    line = {"custom_id": taken.call.custom_id, "response": None, "error": error}
    return (yield from finish_gen(taken, json.dumps(line).encode(), 0, ok=False))


def release_gen(ids: Iterable[str]) -> Steps[None]:
    """Note that calls that were claimed go back to their broker unmade."""
    yield Run("claim", ("release", *ids))


def back_gen(ids: Iterable[str], how: str, ms: int = 0) -> Steps[None]:
    """Give calls back (`back`), put them off (`later`), or say that they go on (`alive`)."""
    listed = list(ids)
    for at in range(0, len(listed), 1000):
        yield Run("back", (how, ms, *listed[at : at + 1000]))


def _unknown(job: str) -> ConfigError:
    return ConfigError(
        f"There is no job {job!r:.80} in this queue: it never was, or its results have expired. "
        "`limiter jobs` lists those that are there."
    )
