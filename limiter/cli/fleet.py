"""The parent's end of the workers: who has which lines, and what becomes of them when one dies.

The parent alone reads the input and writes the output. A line belongs to one worker at a time, and
only its result while it belongs there counts: so a call may be made twice, after a worker was
killed, but is recorded once. What is with the workers is bounded in lines and in bytes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from limiter.bulk.settings import Settings
from limiter.cli.source import Work
from limiter.cli.worker import frame, frames

# Beyond the calls under way, so that the next is there when one ends.
SPARE_LINES = 8
WINDOW_BYTES = 64 * 2**20
# Deaths without a line finished in between, after which it is not chance.
MOST_DEATHS = 10
_RESPAWN_S = 0.2
_EXIT_S = 5.0
_LINES_AT_ONCE = 2000


class FleetLostError(Exception):
    """Say that the workers die again and again."""


class Window:
    """Hold the lines that one worker has, and say whether it may have more. Pure."""

    def __init__(self, lines: int, size: int = WINDOW_BYTES) -> None:
        self._lines, self._size = lines, size
        self._bytes = 0
        self.held: dict[int, Work] = {}

    def __len__(self) -> int:
        return len(self.held)

    @property
    def has_room(self) -> bool:
        """Say whether it may take another line; a large one may overshoot, by itself only."""
        return len(self.held) < self._lines and self._bytes < self._size

    def put(self, work: Work) -> None:
        """Count a line as handed over."""
        self.held[work.number] = work
        self._bytes += len(work.raw)

    def take(self, number: int) -> Work | None:
        """Count it as finished; None if it was not here, or not any more."""
        work = self.held.pop(number, None)
        self._bytes -= len(work.raw) if work else 0
        return work

    def empty(self) -> list[Work]:
        """Take all lines out, in the order of the file."""
        works = sorted(self.held.values(), key=lambda work: work.number)
        self.held.clear()
        self._bytes = 0
        return works


class Member(asyncio.Protocol):
    """Be one worker, as its parent sees it."""

    def __init__(self, fleet: Fleet, lines: int) -> None:
        self._fleet = fleet
        self._unpacker = frames()
        self._transport: asyncio.WriteTransport | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.window = Window(lines)
        self.is_ready = False

    def send(self, *parts: Any) -> None:
        """Send a frame; the transport keeps no more than the window lets through."""
        if self._transport is not None:
            self._transport.write(frame(*parts))

    def close(self) -> None:
        """Let the worker see the end of its socket, upon which it ends."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to the worker."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass on what it says."""
        self._unpacker.feed(data)
        for parts in self._unpacker:
            self._fleet.hear(self, *parts)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        """See to its lines; all that it had said before its end has been heard by now."""
        self._fleet.lose(self)


class Fleet:
    """Hand lines to workers, and their results to the sink.

    Args:
        settings: for the workers.
        processes: how many there are.
        lines: what is to be done, None for each line that needs nothing.
        finish: told each result once: `(work, ok, output line)`.
        observe: told `saved`, `spent`, `refused` and `retry`.
        complain: told what the user should know.
    """

    def __init__(
        self,
        settings: Settings,
        processes: int,
        lines: Iterator[Work | None],
        finish: Callable[[Work, bool, bytes], None],
        observe: Callable[..., None],
        complain: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._processes = processes
        self._lines = lines
        self._finish, self._observe, self._complain = finish, observe, complain
        self._returned: deque[Work] = deque()
        self._is_exhausted = False
        self._is_stopping = False
        self._is_pumping_soon = False
        self._deaths = 0
        self._births: set[asyncio.Task[None]] = set()
        self._members: list[Member] = []
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def in_hand(self) -> int:
        """Return the lines that workers have now."""
        return sum(len(member.window) for member in self._members)

    @property
    def pids(self) -> list[int]:
        """Return the workers' process ids."""
        return [member.process.pid for member in self._members if member.process]

    async def run(self) -> None:
        """Work until every line has its result, or until `stop` has come to its end.

        Raises:
            FleetLostError: the workers die one after the other.
            Exception: whatever `finish` raised.
        """
        try:
            for _ in range(self._processes):
                await self._spawn()
            self._pump()
            await self._end
        finally:
            self._is_stopping = True
            await self._disband()

    def stop(self) -> int:
        """Hand out no more, let calls under way finish; return how many lines are in hand."""
        self._is_stopping = True
        for member in self._members:
            member.send("stop")
        if not self._members:
            self._finish_run()
        return self.in_hand

    def abandon(self) -> None:
        """End now."""
        for member in self._members:
            if member.process:
                with suppress(ProcessLookupError):
                    member.process.kill()
        self._finish_run()

    # --- lines ----------------------------------------------------------------------------

    def _pump(self) -> None:
        """Give lines to the workers that have room, to the one with the fewest first."""
        for _ in range(_LINES_AT_ONCE):
            ready = [each for each in self._members if each.is_ready and each.window.has_room]
            if self._is_stopping or (self._is_exhausted and not self._returned):
                break
            if not ready:
                return
            work = self._next()
            if work is not None:
                member = min(ready, key=lambda each: len(each.window))
                member.window.put(work)
                member.send("line", work.number, work.raw)
        else:
            # A resumed run may pass over millions of lines; results and signals come in between.
            self._pump_soon()
        if self._is_exhausted and not self._returned and not self.in_hand:
            self._finish_run()

    def _pump_soon(self) -> None:
        if not self._is_pumping_soon:
            self._is_pumping_soon = True
            asyncio.get_running_loop().call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._is_pumping_soon = False
        self._pump()

    def _next(self) -> Work | None:
        if self._returned:
            return self._returned.popleft()
        try:
            return next(self._lines)
        except StopIteration:
            self._is_exhausted = True
        except OSError as exc:
            self._finish_run(exc)
        return None

    def hear(self, member: Member, kind: str, *parts: Any) -> None:
        """Take in what a worker says."""
        match kind:
            case "ready":
                member.is_ready = True
                self._pump_soon()
            case "done":
                self._done(member, *parts)
            case _:
                self._observe(kind, *parts)

    def _done(self, member: Member, number: int, ok: bool, line: bytes) -> None:
        work = member.window.take(number)
        if work is None:
            return
        self._deaths = 0
        try:
            self._finish(work, ok, line)
        except OSError as exc:
            self._finish_run(exc)
        self._pump_soon()

    # --- workers --------------------------------------------------------------------------

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        member = Member(self, self._settings.concurrency + SPARE_LINES)
        with theirs:
            member.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "limiter.cli.worker", str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], env=_environment(),
                # Ctrl-C goes to a terminal's whole foreground group; they are told by us.
                process_group=0,
            )  # fmt: skip
        self._members.append(member)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: member, sock=ours)
        member.send("settings", self._settings.as_dict())
        if self._is_stopping:
            member.send("stop")

    def lose(self, member: Member) -> None:
        """See a worker end; unless all are to end, its lines go to a fresh one."""
        if member not in self._members:
            return
        self._members.remove(member)
        if self._end.done():
            return
        if self._is_stopping:
            if not self._members:
                self._finish_run()
            return
        works = member.window.empty()
        self._returned.extendleft(reversed(works))
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            self._finish_run(FleetLostError(_deaths_text(works)))
            return
        birth = asyncio.create_task(self._replace(member, len(works)))
        self._births.add(birth)
        birth.add_done_callback(self._births.discard)
        self._pump_soon()

    async def _replace(self, member: Member, lines: int) -> None:
        how = await _exit_of(member)
        self._complain(
            f"A worker process was lost ({how}); another one takes over its {lines} unfinished lines."
        )
        await asyncio.sleep(_RESPAWN_S * (self._deaths - 1))
        if self._is_stopping:
            return
        try:
            await self._spawn()
        except OSError as exc:
            self._finish_run(exc)

    def _finish_run(self, error: Exception | None = None) -> None:
        if self._end.done():
            return
        if error is None:
            self._end.set_result(None)
        else:
            self._end.set_exception(error)

    async def _disband(self) -> None:
        members = list(self._members)
        for member in members:
            member.close()
        for birth in list(self._births):
            birth.cancel()
        await asyncio.gather(*self._births, return_exceptions=True)
        await asyncio.gather(*map(_exit_of, members))


async def _exit_of(member: Member) -> str:
    """Wait for a worker's end, within reason; say how it ended."""
    process = member.process
    assert process is not None
    try:
        status = await asyncio.wait_for(process.wait(), _EXIT_S)
    except TimeoutError:
        process.kill()
        status = await process.wait()
    if status >= 0:
        return f"exit status {status}"
    return f"pid {process.pid}, {signal.Signals(-status).name}"


def _deaths_text(works: list[Work]) -> str:
    where = f" The last one had line {works[0].number} and {len(works) - 1} more." if works else ""
    return (
        f"{MOST_DEATHS + 1} worker processes have died without finishing a line.{where} See above "
        "for what they said, and whether the machine is short of memory."
    )


def _environment() -> Mapping[str, str]:
    """Let workers import what we would, from the same places in the same order."""
    paths = [path or os.getcwd() for path in sys.path]  # noqa: PTH109 - as Python does
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONSAFEPATH": "1",
    }
