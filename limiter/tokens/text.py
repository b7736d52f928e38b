"""The tokens of one text, and any content as plain data. Pure; nothing here raises or hangs.

tiktoken's regular expressions fail on a million spaces in a row ("StackOverflow", a panic that no
`except Exception` catches), so long texts are cut, where possible at places that change no token.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limiter.providers.content import text_tokens, utf8_bytes

if TYPE_CHECKING:
    import tiktoken

# Runs of 700,000 spaces still pass with tiktoken 0.14, of 1,000,000 no longer.
PIECE_CHARS = 250_000

# A token of cl100k_base and of o200k_base never spans these places: after a word, before the
# space of the next one; and after a line's end, before a word.
_SEAM = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])|(?<=\n)(?=[A-Za-z])")

# What a provider makes of these in a prompt is not known; tiktoken would make one token of each.
_SPECIAL = re.compile(r"<\|\w+\|>")


def tokens_of(encoding: tiktoken.Encoding | None, text: str) -> int:
    """Return the tokens of a text, special ones taken as the text that they are.

    About 0.3 ms for 1,000 tokens. Without an encoding: ceil(bytes/4).
    """
    if encoding is None:
        return text_tokens(utf8_bytes(text))
    return sum(len(encoding.encode_ordinary(text[start:end])) for start, end, _ in _pieces(text))


def doubts(text: str) -> Iterator[str]:
    """Yield why the count of a text may differ from the bill, an encoding given."""
    if _SPECIAL.search(text):
        yield "texts in the form of special tokens, as <|endoftext|>, are counted as plain text"
    if any(is_hard for _, _, is_hard in _pieces(text)):
        yield f"a text without words for {PIECE_CHARS:,} characters is counted in pieces"


def _pieces(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield start and end of each piece, and whether it ends where a token may be cut."""
    start = 0
    while len(text) - start > PIECE_CHARS:
        seam = _SEAM.search(text, start + PIECE_CHARS // 2, start + PIECE_CHARS)
        end = seam.end() if seam else start + PIECE_CHARS
        yield start, end, seam is None
        start = end
    yield start, len(text), False


def plain(value: object) -> Any:
    """Return content as plain JSON data, pydantic objects dumped; None if it cannot be.

    What is neither is dropped ("" stands for it): iterators are not read, cycles are refused.
    """
    if isinstance(value, str):
        return str(value)
    try:
        return json.loads(json.dumps(value, skipkeys=True, default=_simpler))
    except (ValueError, TypeError, RecursionError):
        return None


def _simpler(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        with contextlib.suppress(Exception):  # whatever an object of the caller's raises
            return dump()
    return ""
