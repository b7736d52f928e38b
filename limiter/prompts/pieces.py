"""Tell code from text: fenced, indented and `<pre>` blocks stay byte for byte.

Pure, linear in the text, and in doubt for code: what is taken for code is merely not shortened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")

# CommonMark's fence, also within quotes and list items: three or more of one character. What
# follows backticks on the line has none itself, else they are code within a line.
_FENCE = re.compile(
    r"[^\S\r\n>]*(?:>[ \t]*)*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(`{3,}(?![^\r\n]*`)|~{3,})"
)
_FENCE_END = re.compile(r"[^\S\r\n]*(?:>[ \t]*)*(`{3,}|~{3,})\s*\Z")
_INDENTED = re.compile(r" {0,3}\t| {4}")

_PRE = re.compile(r"<pre(?=[\s>])", re.IGNORECASE)
_PRE_END = re.compile(r"</pre\s*>", re.IGNORECASE)


_PAGE_START = re.compile(
    r"\s*+(?:(?><!--.*?-->|<\?xml[^<>]*>)\s*+)*+<(?:(?P<page>!doctype|html|head|body)|"
    r"br|div|footer|h[1-6]|nav|ol|p|table|tr|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Hold a part of a text, and whether it is code."""

    text: str
    is_code: bool


def is_page(text: str) -> bool:
    """Say whether a text is HTML from its beginning to its end, where indentation says nothing."""
    start = _PAGE_START.match(text)
    return start is not None and (start["page"] is not None or text.rstrip().endswith(">"))


def pieces(text: str) -> list[Piece]:
    """Split a text into code and the rest; joined they are the text."""
    found = _Reader(indented=not is_page(text)).read(text)
    return [
        Piece("".join(each.text for each in group), is_code)
        for is_code, group in groupby(found, key=lambda each: each.is_code)
    ]


def changed(text: str, change: Callable[[str, str, str], str]) -> str:
    """Return a text with `change(piece, before, after)` in place of each piece that is no code.

    Before and after are the code beside it; "" at the ends of the text.
    """
    found = pieces(text)
    around = ["", *(piece.text for piece in found), ""]
    return "".join(
        piece.text if piece.is_code else change(piece.text, around[i], around[i + 2])
        for i, piece in enumerate(found)
    )


@dataclass(slots=True)
class _Reader:
    """Read a text line by line, and know in what kind of block it is.

    Attributes:
        fence: of the block that is open, "" for none.
        in_pre: a `<pre>` is open.
        after_blank: an indented line would be code here.
        blanks: blank lines of which the next line says whether they are in an indented block.
    """

    indented: bool
    fence: str = ""
    in_pre: bool = False
    after_blank: bool = True
    in_indented: bool = False
    blanks: list[str] = field(default_factory=list)

    def read(self, text: str) -> Iterator[Piece]:
        for line in _LINE.findall(text):
            yield from self._line(line)
        yield from self._flush(is_code=False)

    def _line(self, line: str) -> Iterator[Piece]:
        if self.fence:
            yield Piece(line, is_code=True)
            end = _FENCE_END.match(line)
            if end and end[1].startswith(self.fence):
                self.fence = ""
            return
        if self.in_pre:
            yield from self._pre(line)
            return
        if line.isspace():
            self.blanks.append(line)
            self.after_blank = True
            return
        if self.indented and (self.after_blank or self.in_indented) and _INDENTED.match(line):
            yield from self._flush(is_code=self.in_indented)
            # One that opens a `<pre>` is code up to its end, indented or not.
            yield from (Piece(piece.text, is_code=True) for piece in self._pre(line))
            self.in_indented, self.after_blank = not self.in_pre, False
            return
        yield from self._flush(is_code=False)
        self.in_indented = self.after_blank = False
        if fence := _FENCE.match(line):
            self.fence, self.after_blank = fence[1], True
            yield Piece(line, is_code=True)
            return
        yield from self._pre(line)

    def _pre(self, line: str) -> Iterator[Piece]:
        """Split a line where `<pre>` begins and ends."""
        at = 0
        while True:
            mark = _PRE_END.search(line, at) if self.in_pre else _PRE.search(line, at)
            if mark is None:
                break
            end = mark.end() if self.in_pre else mark.start()
            yield Piece(line[at:end], is_code=self.in_pre)
            at, self.in_pre = end, not self.in_pre
        if at < len(line):
            yield Piece(line[at:], is_code=self.in_pre)

    def _flush(self, *, is_code: bool) -> Iterator[Piece]:
        yield from (Piece(line, is_code=is_code) for line in self.blanks)
        self.blanks.clear()
