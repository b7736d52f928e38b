"""Where the embedded server lives, and which places it refuses."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from limiter.errors import ConfigError
from limiter.shells import embedded

_SHORT = Path("/tmp")


@pytest.fixture
def place(monkeypatch):
    """Make a short directory, and an environment that names none."""
    for name in ("LIMITER_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(prefix="limiter-test-", dir=_SHORT) as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


def test_explicit_before_session_before_temporary(place, monkeypatch):
    """The directory is LIMITER_RUNTIME_DIR, else XDG_RUNTIME_DIR/limiter, else in the tmp dir."""
    assert embedded.directory() == place / f"limiter-{os.geteuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    assert embedded.directory() == place / "limiter"
    monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(place / "a" / "b"))
    assert embedded.directory() == place / "a" / "b"


@pytest.mark.parametrize("session", ["foreign", "missing"])
def test_session_of_others_is_not_used(place, monkeypatch, session):
    """An XDG_RUNTIME_DIR that is not this user's, or not there, counts as not set."""
    path = foreign(place) if session == "foreign" else place / "missing"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    assert embedded.directory() == place / f"limiter-{os.geteuid()}"


def test_new_directory_is_private_whatever_the_umask(place, monkeypatch):
    """A directory that the limiter makes has mode 0700."""
    before = os.umask(0)
    try:
        assert embedded.directory().stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o755, 0o701])
def test_directory_open_to_others_is_refused(place, monkeypatch, mode):
    """A directory that others can write, or even enter, is refused, and says how to mend it."""
    monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(place))
    place.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 700"):
        embedded.directory()


def test_foreign_directory_is_refused(place, monkeypatch):
    """A directory of another user is refused, private as it may be."""
    monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(foreign(place)))
    with pytest.raises(ConfigError, match="not a directory of user"):
        embedded.directory()


def test_link_is_refused(place, monkeypatch):
    """A link is refused: in a shared tmp dir somebody else may have laid it."""
    (place / "real").mkdir(mode=0o700)
    (place / "link").symlink_to(place / "real")
    monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(place / "link"))
    with pytest.raises(ConfigError, match="not a directory of user"):
        embedded.directory()


def test_file_is_refused(place, monkeypatch):
    """A file in the directory's place is an error that says what to set."""
    (place / "file").touch()
    monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(place / "file"))
    with pytest.raises(ConfigError, match="set LIMITER_RUNTIME_DIR"):
        embedded.directory()


def test_long_path_gets_a_short_stand_in(place, monkeypatch):
    """A socket path is under 104 bytes; of two long directories each has one stand-in."""
    found = []
    for name in ("a", "b", "a"):
        monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(place / ("é" * 40 + name)))
        found.append(embedded.directory())
        assert len(os.fsencode(found[-1] / "server.sock")) < 104
        assert found[-1].parent == place
    assert found[0] == found[2] != found[1]


def test_long_temporary_directory_falls_back_to_tmp(place, monkeypatch):
    """Where the tmp dir is itself too long for a socket, /tmp is taken."""
    monkeypatch.setattr(tempfile, "tempdir", str(place / ("x" * 90)))
    found = embedded.directory()
    assert found.parent == _SHORT
    found.rmdir()


def test_longest_path_that_fits_is_kept(place, monkeypatch):
    """103 bytes of socket path fit, 104 do not."""
    for length, kept in ((103, True), (104, False)):
        room = length - len(os.fsencode(place / "x" / "server.sock"))
        path = place / ("x" * (room + 1))
        assert len(os.fsencode(path / "server.sock")) == length
        monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(path))
        assert (embedded.directory() == path) is kept


def test_interpreter_is_a_python(monkeypatch):
    """A host program that embeds Python is never run in place of an interpreter."""
    real = embedded._interpreter()
    assert real == sys.executable
    monkeypatch.setattr(sys, "executable", "/usr/bin/env")
    assert Path(embedded._interpreter()).name == "python3"
    monkeypatch.setattr(sys, "exec_prefix", "/nowhere")
    assert embedded._interpreter() is None


@pytest.mark.parametrize("binary", [None, "/bin/false", "/nowhere/valkey-server"])
def test_unavailable_where_no_binary_runs(monkeypatch, binary):
    """Without a binary that runs, the embedded server is not available."""
    embedded.available.cache_clear()
    assert embedded.available()
    embedded.available.cache_clear()
    monkeypatch.setattr(embedded, "_binary", lambda: binary)
    assert not embedded.available()
    embedded.available.cache_clear()


def foreign(place: Path) -> Path:
    """Find a directory of another user; root, who may do that, makes one."""
    if os.geteuid():
        return Path("/usr")
    path = place / "foreign"
    path.mkdir(mode=0o700)
    os.chown(path, 54321, 54321)
    return path
