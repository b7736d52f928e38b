"""The two drivers of the cache, sync and async side by side: they look, fill, leave, and never raise.

A store that is away, or refuses, is a miss for whoever asks: logged once, counted, and not asked again
for a while. A thread (or a timer of the loop) lets flights of this process live while their calls go
on, and tells the figures once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Generator
from typing import Any

from limiter.cache import layout
from limiter.cache.flights import FLUSH_S, Figures, Flight, Health
from limiter.cache.looking import Ask, Claimant, Found, Look, Serve, Wait
from limiter.cache.policy import Question
from limiter.errors import LimiterError, ScriptError
from limiter.shells.keeper import Keeper
from limiter.shells.memory import now_us

log = logging.getLogger("limiter")

Steps = Generator[Any, Any, Found]


class _Driver:
    """Hold what both kinds share; all of it without waiting."""

    def __init__(self, store: Any, *, lease_s: float, most: int, single_flight: bool) -> None:
        self.store = store
        self.owner = secrets.token_hex(6)
        self.figures = Figures()
        self._health = Health()
        self._channel = layout.channel(self.owner)
        self._lease_ms, self._most, self._waits = int(lease_s * 1000), most, single_flight
        self._led: dict[str, Flight] = {}
        self._waiting: dict[str, set[Any]] = {}  # events, by key
        self._lock = threading.Lock()
        self._numbers = iter(range(1, 2**62))
        self._is_heard = False
        self._next_renewal = 0.0

    def _new_look(self, question: Question, serve: Serve) -> tuple[Claimant, Steps]:
        who = Claimant(f"{self.owner}:{next(self._numbers)}", self._channel, self._lease_ms,
                       self._most, self._waits)  # fmt: skip
        return who, Look(question, who, serve, self.figures.count).steps()

    def _ended(
        self, question: Question, who: Claimant, found: Found
    ) -> tuple[Found, Flight | None]:
        """Note how a question ended; return the flight of one whose answer may be stored."""
        self.figures.ended(found)
        if found.how in ("hit", "join") or (found.how == "stale" and not found.leads):
            return found, None
        flight = Flight(question, who.id, leads=found.leads)
        if found.how == "stale":
            self.figures.count("refreshes")
        if found.leads:
            with self._lock:
                if not self._led:
                    self._next_renewal = time.monotonic() + self._lease_ms / 3000
                self._led[flight.id] = flight
        return found, flight

    def _failed(self, error: Exception) -> None:
        self.figures.count("errors")
        if isinstance(error, LimiterError) and not isinstance(error, ScriptError):
            self._health.failed(time.monotonic(), error)
        else:
            self._health.refused(time.monotonic(), error)

    def _mind(self) -> None:
        """See to it that flights are renewed and figures told in time."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        """Let a store that fails be nobody's error."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - whatever it is, the call goes on without a cache
            self._failed(exc)
        self._mind()

    def _land(self, flight: Flight, state: str) -> bool:
        """End a flight; say whether the store must hear of it."""
        is_ours = flight.end(state)
        with self._lock:
            self._led.pop(flight.id, None)
        return is_ours

    def _due(self, now: float) -> list[Flight]:
        """Return the flights that must be told to be alive, each third of a lease."""
        if now < self._next_renewal:
            return []
        self._next_renewal = now + self._lease_ms / 3000
        with self._lock:
            return list(self._led.values())

    def _pause_s(self) -> float | None:
        """Return when to look again; None: there is nothing to mind."""
        pauses = [FLUSH_S] if not self.figures.is_empty else []
        if self._led:
            pauses.append(max(0.0, self._next_renewal - time.monotonic()))
        return min(pauses, default=None)

    def _is_first_to_wait(self) -> bool:
        """Say whether the channel is to be listened to now; to one of all threads."""
        with self._lock:
            was_heard, self._is_heard = self._is_heard, True
        return not was_heard

    def _wake(self, key: str) -> None:
        """Let those who wait for a key ask again; "" means: all."""
        with self._lock:
            keys = [key] if key else list(self._waiting)
            events = [event for each in keys for event in self._waiting.get(each, ())]
        for event in events:
            event.set()

    @contextlib.contextmanager
    def _woken(self, key: str, event: Any) -> Generator[Any]:
        with self._lock:
            self._waiting.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            with self._lock:
                self._waiting[key].discard(event)
                if not self._waiting[key]:
                    del self._waiting[key]


class SyncDriver(_Driver):
    """Ask for the threads of one process."""

    def __init__(self, store: Any, **settings: Any) -> None:
        super().__init__(store, **settings)
        self._keeper = Keeper(self._keep)

    def look(self, question: Question, serve: Serve) -> tuple[Found, Flight | None]:
        """Ask for an answer; see `looking`. A flight is to be filled or left by the caller."""
        who, steps = self._new_look(question, serve)
        if not self._health.may_ask(time.monotonic()):
            return Found("alone"), None
        try:
            found = self._run(question.key, steps)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the call goes on without a cache
            self._failed(exc)
            return Found("alone"), None
        except BaseException:
            self._post(question.key, who.id)
            raise
        try:
            return self._ended(question, who, found)
        finally:
            self._mind()

    def _run(self, key: str, steps: Steps) -> Found:
        answer: Any = None
        with self._woken(key, threading.Event()) as event:
            while True:
                try:
                    wanted = steps.send(answer)
                except StopIteration as stop:
                    found: Found = stop.value
                    return found
                match wanted:
                    case Ask(verb, arguments):
                        answer = getattr(self.store, verb)(*arguments)
                        self._health.fine()
                    case Wait(seconds):
                        answer = self._wait(event, seconds)

    def _wait(self, event: threading.Event, seconds: float) -> float:
        began = time.monotonic()
        if self._is_first_to_wait():
            self.store.listen(self._channel, self._wake)
        event.wait(seconds)
        event.clear()
        return time.monotonic() - began

    def fill(self, flight: Flight, stored: bytes, lifetime_ms: int) -> None:
        """Store the answer of a flight."""
        if self._land(flight, "filled"):
            with self._told():
                self.store.fill(flight.question.key, stored, lifetime_ms)
                self.figures.count("stores")
                self.figures.count("bytes_stored", len(stored))

    def leave(self, flight: Flight, *, failed: bool) -> None:
        """End a flight without an answer to be stored; the next one tries."""
        if self._land(flight, "left") and flight.leads:
            with self._told():
                how = "failed" if failed else "left"
                self.store.leave(flight.question.key, flight.id, how, self._lease_ms)

    def leave_soon(self, flight: Flight) -> None:
        """End a flight from a finalizer, which may run while our own locks are held."""
        if flight.state == "open":
            with contextlib.suppress(RuntimeError):  # the interpreter ends
                threading.Thread(
                    target=self.leave, args=(flight,), kwargs={"failed": False}, daemon=True
                ).start()

    def _post(self, key: str, id_: str) -> None:
        """Let go of what an interrupted question may have got."""
        with self._told():
            self.store.leave(key, id_, "left", self._lease_ms)

    def _mind(self) -> None:
        if (pause_s := self._pause_s()) is not None:
            self._keeper.mind(now_us() + int(pause_s * 1e6))

    def _keep(self) -> int | None:
        with contextlib.suppress(Exception):  # the leases end, if that goes on
            for flight in self._due(time.monotonic()):
                self.store.leave(flight.question.key, flight.id, "alive", self._lease_ms)
        self.flush()
        pause_s = self._pause_s()
        return None if pause_s is None else now_us() + int(pause_s * 1e6)

    def flush(self) -> None:
        """Tell the fleet what was counted, when the store is there; what was lost on the way is lost."""
        if not self._health.is_away and (counts := self.figures.taken()):
            with contextlib.suppress(Exception):
                self.store.add(counts)

    def close(self) -> None:
        """Tell what was counted, let go of what is open, close the connections."""
        for flight in list(self._led.values()):
            self.leave(flight, failed=False)
        self._keeper.close()
        self.flush()
        self.store.close()


class AsyncDriver(_Driver):
    """Ask for the tasks of one event loop; see `SyncDriver`."""

    def __init__(self, store: Any, **settings: Any) -> None:
        super().__init__(store, **settings)
        self.loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self, question: Question, serve: Serve) -> tuple[Found, Flight | None]:
        """Ask for an answer; see `SyncDriver.look`."""
        who, steps = self._new_look(question, serve)
        if not self._health.may_ask(time.monotonic()):
            return Found("alone"), None
        try:
            found = await self._run(question.key, steps)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the call goes on without a cache
            self._failed(exc)
            return Found("alone"), None
        except BaseException:
            self._spawn(self.store.leave(question.key, who.id, "left", self._lease_ms))
            raise
        try:
            return self._ended(question, who, found)
        finally:
            self._mind()

    async def _run(self, key: str, steps: Steps) -> Found:
        answer: Any = None
        with self._woken(key, asyncio.Event()) as event:
            while True:
                try:
                    wanted = steps.send(answer)
                except StopIteration as stop:
                    found: Found = stop.value
                    return found
                match wanted:
                    case Ask(verb, arguments):
                        answer = await getattr(self.store, verb)(*arguments)
                        self._health.fine()
                    case Wait(seconds):
                        answer = await self._wait(event, seconds)

    async def _wait(self, event: asyncio.Event, seconds: float) -> float:
        began = time.monotonic()
        if self._is_first_to_wait():
            self.store.listen(self._channel, self._hear)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        event.clear()
        return time.monotonic() - began

    def _hear(self, key: str) -> None:
        # The in-process store calls from any thread.
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._wake, key)

    async def fill(self, flight: Flight, stored: bytes, lifetime_ms: int) -> None:
        """Store the answer of a flight."""
        if self._land(flight, "filled"):
            with self._told():
                await self.store.fill(flight.question.key, stored, lifetime_ms)
                self.figures.count("stores")
                self.figures.count("bytes_stored", len(stored))

    async def leave(self, flight: Flight, *, failed: bool) -> None:
        """End a flight without an answer to be stored; the next one tries."""
        if self._land(flight, "left") and flight.leads:
            with self._told():
                how = "failed" if failed else "left"
                await self.store.leave(flight.question.key, flight.id, how, self._lease_ms)

    def leave_now(self, flight: Flight, *, failed: bool = False) -> None:
        """End a flight without waiting, for one who is interrupted."""
        if flight.state == "open" and not self.loop.is_closed():
            self._spawn(self.leave(flight, failed=failed))

    def leave_soon(self, flight: Flight) -> None:
        """End a flight from a finalizer, which may run in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.leave_now, flight)

    def _spawn(self, work: Any) -> None:
        async def quietly() -> None:
            with self._told():
                await work

        task = self.loop.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _mind(self) -> None:
        pause_s = self._pause_s()
        if pause_s is None or self.loop.is_closed():
            return
        if self._timer is not None:
            if self._timer.when() <= self.loop.time() + pause_s:
                return
            self._timer.cancel()
        self._timer = self.loop.call_later(pause_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._spawn(self._keep())

    async def _keep(self) -> None:
        for flight in self._due(time.monotonic()):
            await self.store.leave(flight.question.key, flight.id, "alive", self._lease_ms)
        await self.flush()

    async def flush(self) -> None:
        """Tell the fleet what was counted; see `SyncDriver.flush`."""
        if not self._health.is_away and (counts := self.figures.taken()):
            with contextlib.suppress(Exception):
                await self.store.add(counts)

    async def close(self) -> None:
        """Tell what was counted, let go of what is open, close the connections."""
        for flight in list(self._led.values()):
            await self.leave(flight, failed=False)
        if self._timer:
            self._timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        await self.flush()
        await self.store.close()
