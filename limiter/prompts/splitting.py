"""Cut a text into chunks that fit, where its meaning has a seam.

The seams are semchunk's; that each chunk fits, whatever the counter, is seen to here. Never loses
anything but white space between two chunks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import cast

from limiter.errors import ConfigError
from limiter.prompts.counting import DEFAULT_MODEL, Count, check_tokens, counter
from limiter.prompts.savings import Savings

_WORD = re.compile(r"\S+")

# semchunk asks for the same pieces again while it looks for a seam.
_REMEMBERED = 4_096

Span = tuple[int, int]


@dataclass(frozen=True)
class Chunks:
    """Hold the chunks of a text, in its order; iterating gives them.

    Attributes:
        texts: the chunks.
        spans: where each begins and ends in the text.
    """

    texts: tuple[str, ...]
    spans: tuple[Span, ...]
    _text: str = field(repr=False)
    _count: Count = field(repr=False, compare=False)

    @cached_property
    def report(self) -> Savings:
        """Return the tokens of the text and of all chunks; counted when first asked for."""
        return Savings(self._count(self._text), sum(self._count(each) for each in self.texts))

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> str:
        return self.texts[index]


def split_text(
    text: str,
    max_tokens: int,
    overlap: int = 0,
    *,
    model: str = DEFAULT_MODEL,
    count: Count | None = None,
) -> Chunks:
    """Split a text into chunks of `max_tokens` at most, at its paragraphs, sentences and words.

    Each chunk is a part of the text as it stands. Between two of them nothing is left out but
    white space; with an overlap, each begins with up to so many tokens of the end of the one before.

    Args:
        text: what to split; one without a word has no chunks.
        max_tokens: of each chunk, its overlap included.
        overlap: tokens that two neighbours share, at most; in whole words.
        model: whose tokens are counted.
        count: counts them instead.

    Raises:
        ConfigError: `overlap` is not below `max_tokens`, one character alone has more tokens, or
            semchunk is not installed.
    """
    check_tokens(max_tokens, "max_tokens")
    if check_tokens(overlap, "overlap", 0) >= max_tokens:
        raise ConfigError(f"overlap={overlap} leaves nothing of max_tokens={max_tokens}.")
    number = counter(model, count)
    remembered = lru_cache(_REMEMBERED)(number)
    spans = list(_spans(text, max_tokens - overlap, remembered))
    if overlap:
        spans = _overlapped(text, spans, overlap, max_tokens, remembered)
    texts = tuple(text[start:end] for start, end in spans)
    return Chunks(texts, tuple(spans), text, number)


def _spans(text: str, size: int, count: Count) -> Iterator[Span]:
    if not text.strip():
        return
    for start, end in _seams(text, size, count):
        yield from _fitting(text, start, end, size, count)


def _seams(text: str, size: int, count: Count) -> list[Span]:
    try:
        from semchunk.semchunk import chunk
    except ImportError as exc:
        raise ConfigError("split_text needs semchunk: pip install 'llm-limiter[prompts]'") from exc
    try:
        _, spans = chunk(text, size, count, memoize=False, offsets=True)
    except RecursionError:  # a character that does not fit is split again and again
        return [(0, len(text))]
    return cast("list[Span]", spans)


def _fitting(text: str, start: int, end: int, size: int, count: Count) -> Iterator[Span]:
    """Yield a chunk without the white space around it, in halves where it does not fit.

    Counters are not monotone: a text may have a token more than one that it is a part of.
    """
    stack = [(start, end)]
    while stack:
        start, end = stack.pop()
        words = text[start:end]
        start += len(words) - len(words.lstrip())
        end -= len(words) - len(words.rstrip())
        if (tokens := count(text[start:end])) <= size:
            yield start, end
        elif end - start == 1:
            raise ConfigError(
                f"The character {text[start]!r} alone has {tokens} tokens, and a chunk {size}: "
                f"raise max_tokens, or lower overlap.",
                needed=tokens,
                budget=size,
            )
        else:
            middle = (start + end) // 2
            stack += [(middle, end), (start, middle)]


def _overlapped(
    text: str, spans: list[Span], overlap: int, max_tokens: int, count: Count
) -> list[Span]:
    """Let each chunk but the first begin with the last words of the one before."""
    found = spans[:1]
    for (before, _), (start, end) in pairwise(spans):
        words = [before + word.start() for word in _WORD.finditer(text[before:start])]

        def fits(at: int, start: int = start, end: int = end) -> bool:
            return count(text[at:start]) <= overlap and count(text[at:end]) <= max_tokens

        # What it finds fits, whether or not the counter is monotone: it has asked.
        first = bisect_left(words, True, key=fits)
        found.append((words[first] if first < len(words) else start, end))
    return found
