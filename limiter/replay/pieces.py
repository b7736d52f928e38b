"""Where a text is cut into the pieces of a stream: always at the same places.

A cut never falls inside a character, and between tokens where their logprobs tell them.
"""

from __future__ import annotations

from collections.abc import Iterator

# Ten tokens of four characters. Providers send about one token an event; ten times fewer events,
# of some 200 bytes each beside their text, still read as writing.
PIECE_CHARS = 40


def pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces that join to it; none for an empty one."""
    for at in range(0, len(text), PIECE_CHARS):
        yield text[at : at + PIECE_CHARS]


def token_spans(text: str, tokens: list[object]) -> list[tuple[str, slice]] | None:
    """Cut a text between tokens: each piece with the slice of `tokens` that it is.

    None where tokens do not join to the text: parts of a character are tokens, too.
    """
    words = [token for token in tokens if isinstance(token, str)]
    if not words or len(words) != len(tokens) or "".join(words) != text:
        return None
    spans, start, length = [], 0, 0
    for at, word in enumerate(words, 1):
        length += len(word)
        if length >= PIECE_CHARS or at == len(words):
            spans.append(("".join(words[start:at]), slice(start, at)))
            start, length = at, 0
    return spans
