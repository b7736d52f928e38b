"""A proxy before a unix socket that loses answers: what was asked happens, and nobody hears of it."""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path


class Proxy:
    """Pass everything on; with the probability `loss`, cut a connection in the place of an answer."""

    def __init__(self, target: str, seed: int = 0) -> None:
        self.target = target
        self.loss = 0.0
        self.lost = 0
        self._random = random.Random(seed)
        self._open: set[socket.socket] = set()
        folder = tempfile.mkdtemp(prefix="lim-", dir="/tmp")
        self.path = str(Path(folder, "p"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self.target)
                self._open |= {near, far}
                for args in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pass, args=args, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self._random.random() < self.loss:
                    self.lost += 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()
        Path(self.path).unlink()
        Path(self.path).parent.rmdir()


@contextlib.contextmanager
def proxy(url: str, seed: int = 0) -> Iterator[Proxy]:
    """Run a proxy before the server of a `unix://` URL."""
    running = Proxy(url.removeprefix("unix://"), seed)
    try:
        yield running
    finally:
        running.close()
