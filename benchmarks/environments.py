"""Python environments of their own for what must not enter ours: peers and third-party servers.

They live in `.bench/` at the top of the repository, which git ignores, and are made once.
Packages come from the index that the user's pip is configured for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / ".bench"
_STAMP = "installed.txt"


class EnvironmentMissingError(RuntimeError):
    """Say why an environment could not be made; a benchmark reports it instead of a number."""


def version_of(python: Path) -> tuple[int, int]:
    """Return (major, minor) of an interpreter, or (0, 0) if it does not run.

    A pyenv shim exists for every version that is installed and runs only the selected ones, so
    that a name on PATH proves nothing until it has been run.
    """
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    major, minor = done.stdout.split()
    return (int(major), int(minor))


def find_python(at_least: tuple[int, int], newest: tuple[int, int] = (3, 14)) -> Path:
    """Return the first interpreter between the two versions, newest first.

    Looked for: the running one, `python3.N` on PATH, then pyenv's versions (`$PYENV_ROOT`, else
    `~/.pyenv`).

    Raises:
        EnvironmentMissingError: there is none; the message says what to install.
    """
    for candidate in _interpreters(at_least, newest):
        if at_least <= version_of(candidate) <= newest:
            return candidate
    wanted = ".".join(map(str, at_least))
    raise EnvironmentMissingError(f"no Python >= {wanted} on PATH or in pyenv: install one")


def _interpreters(at_least: tuple[int, int], newest: tuple[int, int]) -> list[Path]:
    """List what may be a fitting interpreter: the running one, those on PATH, pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [Path(sys.executable)]
    for minor in range(newest[1], at_least[1] - 1, -1):
        on_path = shutil.which(f"python3.{minor}")
        found += [Path(on_path)] if on_path else []
        found += sorted(root.glob(f"3.{minor}.*/bin/python"), reverse=True)
    return found


def ensure(name: str, packages: tuple[str, ...], at_least: tuple[int, int] = (3, 11)) -> Path:
    """Make `.bench/<name>` with `packages` unless it stands, and return its python.

    A stamp of the packages' names makes a changed list install again.

    Raises:
        EnvironmentMissingError: no fitting Python, or pip failed (the message ends with its words).
    """
    home = HOME / name
    python = home / "bin" / "python"
    stamp = home / _STAMP
    wanted = hashlib.sha256("\n".join(packages).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    if not python.exists():
        _run([str(find_python(at_least)), "-m", "venv", str(home)])
    _run([str(python), "-m", "pip", "install", "--quiet", *packages])
    stamp.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise EnvironmentMissingError(f"{' '.join(command[:4])} … failed: {last}")


def installed(python: Path, package: str) -> str:
    """Return the version of `package` in the environment of `python`."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
