"""The thread that minds the timers of a sync limiter."""

from __future__ import annotations

import threading
from collections.abc import Callable

from limiter.shells.memory import now_us


class Keeper:
    """Call `keep` when it is due, in a daemon thread that starts when there is something to mind."""

    def __init__(self, keep: Callable[[], int | None]) -> None:
        self._keep = keep
        self._condition = threading.Condition()
        self._next_us: int | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def mind(self, due_us: int | None) -> None:
        """See to it that `keep` is called at `due_us` at the latest."""
        if due_us is None or (self._next_us is not None and self._next_us <= due_us):
            return
        with self._condition:
            if self._closed:
                return
            self._next_us = due_us if self._next_us is None else min(self._next_us, due_us)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="limiter-keeper", daemon=True
                )
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._closed and (pause := self._pause_s()) != 0:
                    self._condition.wait(pause)
                if self._closed:
                    return
                self._next_us = None
            self.mind(self._keep())

    def _pause_s(self) -> float | None:
        return None if self._next_us is None else max(0, self._next_us - now_us()) / 1e6

    def close(self) -> None:
        """Stop the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(timeout=3)
