"""Start the embedded server, watch over it, and end it once nobody has used it for a while.

Runs by path as its own detached process, `python -I -S guard.py FOLDER BINARY IDLE_S MOST_BYTES`: standard
library only, no module that costs memory (about 10 MB in all), nothing of this package.
`embedded.py` imports it too, for the file names, the locks and the dialling, so that both sides
mean the same. It must never remove a lock file: a process that waits for it would lock a name
that nobody else can see.

Three flock locks carry the whole protocol; the kernel drops each when its owner dies:
    start.lock   exclusive, by whoever joins, and by the guard while it ends the server
    use.lock     shared, by every process that uses the server
    the folder   exclusive, by the one guard. systemd-tmpfiles spares a locked folder, too
"""

# pathlib would add to the memory of a process that only waits.
# ruff: noqa: PTH108, PTH110, PTH116

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

if sys.platform != "win32":
    import fcntl

    SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX

SOCKET, LOG, START_LOCK, USE_LOCK = "server.sock", "server.log", "start.lock", "use.lock"
# A start takes a tenth of a second; this is for a machine that is buried in work.
START_S = 10.0
_ABSENT = (FileNotFoundError, ConnectionRefusedError)
_REPLY_S = 0.5
# Without a save it takes milliseconds; joiners wait meanwhile.
_ORDERLY_END_S = 1.0


def dial(path: str) -> socket.socket:
    """Return a connection to a server that has answered a PING just now.

    Raises:
        FileNotFoundError, ConnectionRefusedError: no server is there.
        OSError: one is there, and silent.
    """
    line = socket.socket(socket.AF_UNIX)
    try:
        line.settimeout(_REPLY_S)
        line.connect(path)
        line.sendall(b"PING\r\n")
        _read_reply(line)
    except BaseException:
        line.close()
        raise
    return line


def _read_reply(line: socket.socket) -> None:
    # An error (busy with a script, no client slot left) is the answer of a living server, too.
    if line.recv(64)[:1] not in (b"+", b"-"):
        raise ConnectionResetError("closed instead of an answer to PING")


def answers(path: str) -> bool:
    """Tell whether a server answers on this socket."""
    try:
        dial(path).close()
    except OSError:
        return False
    return True


def open_lock(folder: str, name: str) -> int:
    """Open a lock file, made if need be; close-on-exec, so no program started later inherits it."""
    return os.open(f"{folder}/{name}", os.O_RDWR | os.O_CREAT, 0o600)


def try_lock(lock: int, kind: int) -> bool:
    """Take a lock if it is free now; the open file owns it (embedded.py has notes on fork)."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(lock: int) -> None:
    """Give a lock up, for every copy of the descriptor that a fork has made, and close it."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def _spawn(folder: str, binary: str, most_bytes: int) -> int:
    # No TCP port, no persistence: nothing listens that another user could reach, nothing is
    # written that could outlive the server. noeviction: a store of limits must not forget some;
    # a cache, which has a bound, forgets what was not asked for the longest.
    flags = {
        "port": "0",
        "unixsocket": f"{folder}/{SOCKET}",
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "dir": folder,
        "maxmemory": str(most_bytes),
        "maxmemory-policy": "allkeys-lru" if most_bytes else "noeviction",
        "logfile": f"{folder}/{LOG}",
    }
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
        os.execv(binary, [binary, *words])  # noqa: S606 - no shell, and a path of our own
    finally:
        os._exit(127)


def _connect(folder: str, binary: str, most_bytes: int) -> socket.socket | None:
    """Dial the server, started first if there is none; None if it does not come up.

    A server that is there but silent is waited for, never replaced: when it woke up, two would
    serve the same users.
    """
    child = 0
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        try:
            return dial(f"{folder}/{SOCKET}")
        except _ABSENT:
            if not child:
                child = _spawn(folder, binary, most_bytes)
            elif os.waitpid(child, os.WNOHANG)[0]:
                return None
        except OSError:
            pass
        time.sleep(0.005)
    if child:
        os.kill(child, signal.SIGKILL)
        _reap()
    return None


def _server_pid(line: socket.socket) -> int:
    """Ask the kernel who listens at the other end; 0 if it is out of sight (a PID namespace)."""
    if sys.platform == "darwin":
        return line.getsockopt(0, 2)  # SOL_LOCAL, LOCAL_PEERPID in sys/un.h
    credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)


def _reap() -> None:
    # An adopted server is the child of init, not of this process.
    with suppress(ChildProcessError):
        os.waitpid(-1, 0)


class Guard:
    """Watch one server, known by its socket file and by a connection that ends when it does."""

    def __init__(self, folder: str, line: socket.socket, idle_s: float) -> None:
        """Take over a server that answers on `line`; `idle_s` seconds unused end it."""
        self.folder = folder
        self.path = f"{folder}/{SOCKET}"
        self.line = line
        self.pid = _server_pid(line)
        self.idle_s = idle_s
        self.identity = self._socket_file()
        self.joined_ns = 0
        self.used_at = time.monotonic()

    def watch(self) -> None:
        """Return when the server has ended, by itself or because it was unused.

        A server whose files have gone (a cleaner of the temporary directory, a logout) can be
        joined by nobody, and blocks the next one. It is killed rather than asked to shut down,
        because on the way out it would remove the socket file of a successor.
        """
        try:
            while self._is_alive():
                if self._socket_file() != self.identity:
                    self._kill()
                    break
                if self._was_unused() and self._end():
                    break
        except OSError:
            self._kill()
        _reap()

    def _socket_file(self) -> tuple[int, int]:
        found = os.stat(self.path)
        return found.st_ino, found.st_mtime_ns

    def _is_alive(self) -> bool:
        tick_s = min(1.0, max(0.05, self.idle_s / 10))
        if not select.select([self.line], [], [], tick_s)[0]:
            return True
        # The end of the connection is the end of the server, unless a CLIENT KILL cut it.
        self.line.close()
        try:
            self.line = dial(self.path)
        except _ABSENT:
            return False
        return True

    def _was_unused(self) -> bool:
        """Tell whether nobody used the server for the whole idle time up to now."""
        if self._in_use():
            self.used_at = time.monotonic()
        return time.monotonic() - self.used_at >= self.idle_s

    def _in_use(self) -> bool:
        """Tell whether somebody holds the use lock, or has joined and left since the last look."""
        lock = open_lock(self.folder, USE_LOCK)
        try:
            joined_ns, self.joined_ns = self.joined_ns, os.fstat(lock).st_mtime_ns
            return self.joined_ns != joined_ns or not try_lock(lock, EXCLUSIVE)
        finally:
            os.close(lock)

    def _end(self) -> bool:
        """Shut the server down, unless somebody joins. The process's exit gives the locks up."""
        start = open_lock(self.folder, START_LOCK)
        if not try_lock(start, EXCLUSIVE) or self._in_use():
            self.used_at = time.monotonic()
            os.close(start)
            return False
        self.line.settimeout(_ORDERLY_END_S)
        try:
            self.line.sendall(b"SHUTDOWN NOSAVE\r\n")
            refusal = self.line.recv(64)
        except OSError as error:
            refusal = str(error).encode()
        if refusal:
            self._kill()
        for name in (SOCKET, LOG):
            if os.path.exists(f"{self.folder}/{name}"):
                os.unlink(f"{self.folder}/{name}")
        return True

    def _kill(self) -> None:
        # It may have ended by itself a moment ago.
        with suppress(ProcessLookupError):
            if self.pid > 0:
                os.kill(self.pid, signal.SIGKILL)


def main(folder: str, binary: str, idle_s: float, most_bytes: int) -> int:
    """Return 0 once a server answers and a guard that outlives this process watches it, else 1."""
    os.umask(0o077)
    home = os.open(folder, os.O_RDONLY)
    while not try_lock(home, EXCLUSIVE):
        if answers(f"{folder}/{SOCKET}"):
            return 0
        time.sleep(0.01)
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        return 0 if os.read(reader, 1) else 1
    os.close(reader)
    line = _connect(folder, binary, most_bytes)
    if line is None:
        return 1
    guard = Guard(folder, line, idle_s)
    # Whoever wanted the server may have been killed; the idle time takes care of it.
    with suppress(BrokenPipeError):
        os.write(writer, b"+")
    os.close(writer)
    guard.watch()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
