"""`limiter run`: the parent process, from the files to the exit status."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limiter.api import AsyncLimiter
from limiter.bulk import answers
from limiter.bulk.ids import IdTable
from limiter.bulk.settings import Settings
from limiter.cli import flow, progress, report, results, source
from limiter.cli.fleet import Fleet, FleetLostError
from limiter.cli.source import Work
from limiter.cli.tally import Spending, Tally
from limiter.errors import ConfigError, LimiterError
from limiter.prompts.counting import DEFAULT_MODEL
from limiter.prompts.savings import Savings

if TYPE_CHECKING:
    from limiter.status import QuotaStatus

GRACE_S = 10.0
_SYNC_EVERY_S = 5.0
_COMPLAINTS = 20

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Job:
    """Say what to run: from which file into which, by how many workers."""

    source: Path
    output: Path
    settings: Settings
    processes: int


class Run:
    """Be one run, from the open files to the summary."""

    def __init__(self, job: Job, files: results.Results, ids: IdTable, total: int) -> None:
        self._job = job
        self._results = files
        self._errors = results.Errors(job.output)
        self._ids = ids
        self.tally = Tally(total=total)
        self._view: progress.View = progress.view(self.tally)
        self._complaints = 0
        self._interrupts = 0
        self._fleet: Fleet | None = None
        self._synced = True

    async def go(self) -> int:
        """Do everything that is left to do; return the exit status."""
        settings = self._job.settings
        self._greet()
        async with AsyncLimiter(settings.url, quotas=settings.declared().values()) as limiter:
            for name in settings.quotas:
                self.tally.spending[name] = Spending(await limiter.peek(name))
            watch = asyncio.create_task(self._watch(limiter))
            sync = asyncio.create_task(self._sync())
            began = time.monotonic()
            try:
                trouble = await self._work()
            finally:
                took_s = time.monotonic() - began
                for task in (watch, sync):
                    task.cancel()
                await asyncio.gather(watch, sync, return_exceptions=True)
                self._view.update(self.tally, self._statuses)
                self._view.close()
                self._results.close()
        return self._end(trouble, took_s)

    def _greet(self) -> None:
        job, files = self._job, self._results
        self._statuses: Mapping[str, QuotaStatus] = {}
        for each in _said_of_counting(job.settings):
            self._view.note(each)
        if files.torn_bytes:
            self._view.note(
                f"{job.output}: cut off {files.torn_bytes} bytes of a line that was not whole."
            )
        if files.finished:
            self._view.note(f"{job.output}: {files.finished} lines are there; going on from them.")

    async def _work(self) -> str | None:
        """Run the fleet to its end; return what went wrong with all of it, None for nothing."""
        job = self._job
        lines = source.pending(
            job.source, self._ids, self.tally, job.settings.model, self._complain
        )
        fleet = self._fleet = Fleet(
            job.settings, job.processes, lines, self._finish, self._observe, self._view.note
        )
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self._interrupt)
        try:
            await fleet.run()
        except FleetLostError as exc:
            return str(exc)
        except OSError as exc:
            return f"{exc.filename or job.output}: {exc.strerror}; mend that, and run it again."
        finally:
            for each in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(each)
        return None

    def _interrupt(self) -> None:
        assert self._fleet is not None
        self._interrupts += 1
        if self._interrupts > 1:
            self._fleet.abandon()
            return
        self._view.note(
            f"Stopping: calls under way have {GRACE_S:.0f} s to finish; Ctrl-C again ends at once."
        )
        asyncio.get_running_loop().call_later(GRACE_S, self._fleet.abandon)
        self._fleet.stop()

    # --- what is told -----------------------------------------------------------------------

    def _finish(self, work: Work, ok: bool, line: bytes) -> None:
        if ok:
            self._results.append(line)
            self.tally.ok += 1
            self._synced = False
        else:
            self._errors.append(line)
            self.tally.failed += 1
            self._say_error(work.number, report.reason(line))

    def _complain(self, number: int, custom_id: str | None, code: str, message: str) -> None:
        """Note a line that cannot be called; its output line is its only trace beside this."""
        text = f"{self._job.source}:{number} {message}"
        self._errors.append(answers.failure(custom_id, code, text))
        self._say_error(number, message)

    def _say_error(self, number: int, message: str) -> None:
        self._complaints += 1
        if self._complaints <= _COMPLAINTS:
            self._view.note(f"{self._job.source}:{number} {message}")
        elif self._complaints == _COMPLAINTS + 1:
            self._view.note(f"More lines failed; all of them are in {self._errors.path}.")

    def _observe(self, kind: str, *parts: object) -> None:
        match kind, parts:
            case "spent", (str(quota), dict(amounts), float(at)):
                self.tally.spending[quota].add(amounts, at)
            case "saved", (int(before), int(after), int(dropped)):
                self.tally.prompts += Savings(before, after, dropped)
            case "cached", _:
                self.tally.cached += 1
            case "refused", _:
                self.tally.refused += 1
            case _:
                self.tally.retries += 1

    # --- beside the work ----------------------------------------------------------------------

    async def _watch(self, limiter: AsyncLimiter) -> None:
        """Keep the view up to date; a store that is away does not end it."""
        while True:
            with contextlib.suppress(LimiterError):
                self._statuses = {
                    name: await limiter.peek(name) for name in self._job.settings.quotas
                }
            self._view.update(self.tally, self._statuses)
            await asyncio.sleep(progress.LOOK_EVERY_S)

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_EVERY_S)
            if not self._synced:
                self._synced = True
                await asyncio.to_thread(self._results.sync)

    def _end(self, trouble: str | None, took_s: float) -> int:
        tally, say = self.tally, sys.stderr.write
        say(report.summary(tally, took_s))
        if tally.failed or tally.bad:
            say(f"Failed lines are in {self._errors.path}; another run does them again.\n")
        if trouble:
            say(f"{trouble}\n")
        if self._interrupts:
            say(report.resume(tally))
            return INTERRUPTED
        return FAILED if trouble or tally.failed or tally.bad or tally.left else OK


def _said_of_counting(settings: Settings) -> list[str]:
    """Return what there is to be said of how the workers count tokens, where they do."""
    if not settings.compact and settings.fit is None:
        return []
    from limiter import tokens

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        tokens.encoding_for(settings.model or DEFAULT_MODEL)
    return [str(each.message) for each in caught]


def run(job: Job) -> int:
    """Run a job; return the exit status.

    Raises:
        ConfigError: a file, the store or the provider's name is wrong, or the priority is not
            declared; nothing was called.
    """
    total = source.count_lines(job.source)
    if job.output.exists() and job.output.samefile(job.source):
        raise ConfigError(f"{job.output} is the input: give another file to -o.")
    asyncio.run(flow.check(job.settings))
    ids = IdTable()
    files = results.Results(job.output, ids)
    return asyncio.run(Run(job, files, ids, total).go())
