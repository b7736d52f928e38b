"""Compose the Lua scripts from `lua/`, the single source of what happens inside Redis.

A line `--@include lib/x` is replaced by that file, wherever it stands. A line `--@const NAME value` puts the value in
the place of the name wherever the name stands in the composed script: a Lua local would be captured
anew by every function in every run, which took a third of the time of a run.

The composed text is what Redis runs, so its SHA-1 names one exact behaviour: two releases in one
fleet never run each other's code.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_INCLUDE = re.compile(r"^--@include (\S+)$", re.MULTILINE)
_CONST = re.compile(r"^--@const ([A-Z][A-Z_]*) +(\S.*?)(?: +-- .*)?\n", re.MULTILINE)
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """Hold a composed script and the SHA-1 by which EVALSHA calls it."""

    name: str
    source: str
    sha: str


def _directory() -> Path:
    here = Path(__file__).parent
    installed = here / "lua"
    return installed if installed.is_dir() else here.parent / "lua"


@cache
def load(name: str) -> Script:
    """Read and compose one script by its name, as `run` for `lua/run.lua`."""
    folder = _directory()

    def text(part: str) -> str:
        return (folder / f"{part}.lua").read_text(encoding="utf-8")

    def composed(part: str) -> str:
        return _INCLUDE.sub(lambda match: composed(match[1]).rstrip(), text(part))

    source = _with_constants(composed(name))
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - EVALSHA


def _with_constants(source: str) -> str:
    constants = dict(_CONST.findall(source))
    body = _COMMENT.sub("", _CONST.sub("", source))
    if not constants:
        return body
    names = re.compile(rf"\b({'|'.join(constants)})\b")
    # A constant may be made of others.
    return names.sub(lambda match: names.sub(lambda m: constants[m[1]], constants[match[1]]), body)
