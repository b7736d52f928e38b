"""Read a copy of a compressed body, piece by piece, as far as it has come.

Only what the standard library can decode: a limited call asks the provider for nothing else. A body
in another coding, or a damaged one, reads as nothing; it never disturbs the caller's own reading.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPTED = "gzip, deflate"
_OURS = frozenset({"gzip", "x-gzip", "deflate", "identity", ""})

_PIECE = 2**20  # a few bytes may decode to gigabytes: never more than this at once


class Decoder:
    """Undo one `content-encoding`.

    Attributes:
        lost: nothing can be read any more; what was read before was right.
    """

    def __init__(self, coding: str) -> None:
        name = coding.strip().lower()
        self._plain = name in {"", "identity"}
        self.lost = name not in _OURS
        self._is_deflate = name == "deflate"
        # 47: gzip or zlib, by the header. Some servers send deflate without the header (-15).
        self._inflate = zlib.decompressobj(47)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` decodes to, in pieces; iterate to the end, or bytes are lost."""
        if self._plain:
            yield chunk
        elif chunk and not self.lost:
            yield from self._inflated(chunk)

    def _inflated(self, chunk: bytes) -> Iterator[bytes]:
        piece = b""
        while chunk or len(piece) == _PIECE:
            try:
                piece = self._inflate.decompress(chunk, _PIECE)
            except zlib.error:
                if not self._is_deflate:
                    self.lost = True
                    return
                self._inflate = zlib.decompressobj(-15)
                self._is_deflate = False
                continue
            self._is_deflate = False
            yield piece
            chunk = self._inflate.unconsumed_tail


def decoded(body: bytes, coding: str, most: int) -> bytes | None:
    """Return a whole body without its coding; None if it is damaged or longer than `most`."""
    decoder, pieces, size = Decoder(coding), [], 0
    for piece in decoder.feed(body):
        size += len(piece)
        if size > most:
            return None
        pieces.append(piece)
    return None if decoder.lost else b"".join(pieces)


def acceptable(accepted: str) -> str:
    """Return what a request shall accept, of what it would: only codings that we can read."""
    names = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    return accepted if names <= _OURS else ACCEPTED
