"""The width and height of an image, from the head of its file. Pure.

Reads PNG, JPEG, GIF and WebP; never decodes a picture, never reads beyond the head, never raises.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct

Size = tuple[int, int]

# A JPEG's size stands behind its metadata: thumbnails and colour profiles, in segments of 64 kB.
_HEAD_BYTES = 2**18
_HEAD_CHARS = _HEAD_BYTES // 3 * 4
_SPACE = re.compile(r"\s+")
_URL_SAFE = str.maketrans("-_", "+/")

# Start-of-frame markers: all of C0 to CF but the tables DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def size_of(url: str) -> Size | None:
    """Return width and height of an image in a `data:` URL, or in bare base64; None if unknown."""
    kind, comma, _ = url[:256].partition(",")
    if comma and ";base64" not in kind:
        return None
    start = len(kind) + 1 if comma else 0
    text = _SPACE.sub("", url[start : start + _HEAD_CHARS]).translate(_URL_SAFE)
    try:
        return size_in(base64.b64decode(text[: len(text) // 4 * 4], validate=True))
    except (binascii.Error, ValueError):
        return None


def size_in(head: bytes) -> Size | None:
    """Return width and height from the first bytes of an image file; None if unknown."""
    try:
        found = _size(head)
    except (struct.error, IndexError):
        return None
    return found if found and min(found) > 0 else None


def _size(head: bytes) -> Size | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _two(">II", head, 16)
    if head[:6] in {b"GIF87a", b"GIF89a"}:
        return _two("<HH", head, 6)
    if head.startswith(b"\xff\xd8"):
        return _jpeg(head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    return None


def _two(form: str, head: bytes, offset: int) -> Size:
    first, second = struct.unpack_from(form, head, offset)
    return first, second


def _jpeg(head: bytes) -> Size | None:
    """Walk the segments to the start of the frame: marker, length, precision, height, width."""
    at = 2
    while head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _FRAMES:
            height, width = _two(">HH", head, at + 5)
            return width, height
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _STANDALONE:
            at += 2
        else:
            at += 2 + max(2, struct.unpack_from(">H", head, at + 2)[0])
    return None


def _webp(head: bytes) -> Size | None:
    """Read the canvas of a lossy (VP8), lossless (VP8L) or extended (VP8X) file."""
    match head[12:16]:
        case b"VP8 ":
            width, height = _two("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = struct.unpack_from("<I", head, 21)[0]
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X" if len(head) >= 30:
            return (
                int.from_bytes(head[24:27], "little") + 1,
                int.from_bytes(head[27:30], "little") + 1,
            )
    return None
