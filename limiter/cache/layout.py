"""The names of the cache's keys and channels. The only place where they are formed.

A layout's number is part of each: what an older or newer release stored is not ours to read. Both keys
of an answer have one hash tag.

    limiter:cache:1:{namespace:sha256}:answer   string, see entry.py
    limiter:cache:1:{namespace:sha256}:flight   hash, see lua/cache/claim.lua
    limiter:cache:1:figures                     hash: counts of the whole fleet, by name
    limiter:cache:1:wake:OWNER                  channel: keys whose answer has come, or will not
"""

from __future__ import annotations

import re

_ROOT = "limiter:cache:1:"
FIGURES = f"{_ROOT}figures"
ANSWERS = f"{_ROOT}{{*}}:answer"
EVERYTHING = f"{_ROOT}*"
_SIMPLE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ANSWER = re.compile(re.escape(_ROOT) + r"\{(.+)\}:answer", re.DOTALL)


def answer(key: str) -> str:
    """Return where an answer is."""
    return f"{_ROOT}{{{key}}}:answer"


def flight(key: str) -> str:
    """Return where it is noted who gets an answer."""
    return f"{_ROOT}{{{key}}}:flight"


def channel(owner: str) -> str:
    """Return where an owner is woken."""
    return f"{_ROOT}wake:{owner}"


def key_of(name: str) -> str | None:
    """Undo `answer`; None: it is another key."""
    found = _ANSWER.fullmatch(name)
    return found[1] if found else None


def is_simple(name: str) -> bool:
    """Say whether a name can stand in a key as it is."""
    return _SIMPLE.fullmatch(name) is not None
