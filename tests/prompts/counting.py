"""Counters for the tests: one that every machine has, and one that behaves as vocabularies do."""

from __future__ import annotations

import re

from limiter.providers.content import text_tokens, utf8_bytes

_PIECES = re.compile(r"\s?\w{1,4}|\s?[^\w\s]|\s+")


def by_bytes(text: str) -> int:
    """As `limiter.tokens.count` does where there is no vocabulary."""
    return text_tokens(utf8_bytes(text))


def by_pieces(text: str) -> int:
    """Not monotone: what is cut off may join what was two tokens, or part what was one."""
    return len(_PIECES.findall(text))


def by_length(text: str) -> int:
    """More for two texts together than for each alone."""
    return len(text) + len(text) // 10


def by_parity(text: str) -> int:
    """Less text may be more tokens, by far."""
    return len(text) + 5 * (text.count("b") % 2)
