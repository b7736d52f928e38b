"""Make a text shorter without a model: white space, repeated lines, dressing, by level.

Code stays byte for byte. Level 1 keeps every word; what the others drop is listed here and told.
Pure; no text makes it raise, and none takes it more than a fixed number of passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from limiter.errors import ConfigError
from limiter.prompts.counting import DEFAULT_MODEL, Count, counter
from limiter.prompts.dressing import undressed
from limiter.prompts.pieces import changed, is_page
from limiter.prompts.repeats import without_repeats
from limiter.prompts.savings import Savings

Level = Literal[0, 1, 2, 3]

# Real texts settle in two or three passes. What has not settled by then, such as tags inside tags
# inside tags, is made to look like no text that we know, and is left alone.
_PASSES = 16

# From the first backtick of a line to its last one, which may be code; or a run of white space.
_RUN = re.compile(r"`[^\n]*`|[^\S\n]+\n?")
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Compacted:
    """Hold a shorter text.

    Attributes:
        text: the result.
        dropped: lines that level 2 has left out, and how often each.
    """

    text: str
    dropped: dict[str, int]
    _before: str = field(repr=False)
    _count: Count = field(repr=False, compare=False)

    @cached_property
    def report(self) -> Savings:
        """Return the tokens before and after; they are counted when this is first asked for."""
        return Savings(self._count(self._before), self._count(self.text))

    def __str__(self) -> str:
        return self.text


def compact(
    text: str, level: int = 1, *, model: str = DEFAULT_MODEL, count: Count | None = None
) -> Compacted:
    """Return a text with less around its words, never longer; again, it changes nothing more.

    Code stays as it is: fenced blocks, `<pre>`, lines indented by four or more after a blank one,
    and what stands between backticks. In a text that is an HTML page, indentation is no code.

    Args:
        text: any.
        level: 0 leaves it alone. 1: runs of spaces, blank lines, and white space at the ends of
            lines; every word stays, in its order, and so does indentation but that of HTML pages. 2: also lines of three
            words or more that came before, and notices such as "Accept all cookies"; for prose,
            because in data a repeated row is a fact. 3: also the dressing of HTML and Markdown:
            tags, comments, scripts, styles, emphasis, and the addresses of links and images,
            whose text stays as that of tables does.
        model: whose tokens the report counts.
        count: counts them instead.

    Raises:
        ConfigError: there is no such level.
    """
    check_level(level)
    dropped: dict[str, int] = {}
    found = _settled(text, level, dropped)
    return Compacted(found, dropped, text, counter(model, count))


def check_level(level: object) -> int:
    """Return a level.

    Raises:
        ConfigError: there is no such level.
    """
    if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level <= 3:
        raise ConfigError(f"A level of compacting is 0, 1, 2 or 3, got {level!r:.40}.")
    return level


def _settled(text: str, level: int, dropped: dict[str, int]) -> str:
    """Repeat a pass until it changes nothing, so that compacting again does not either."""
    last = text
    for _ in range(_PASSES):
        found = _pass(last, level, dropped)
        if found == last:
            return found
        last = found
    dropped.clear()
    return text


def _pass(text: str, level: int, dropped: dict[str, int]) -> str:
    steps: list[Callable[[str], str]] = [
        undressed,
        lambda each: without_repeats(each, dropped),
        lambda each: changed(each, _tightened),
    ]
    if level and is_page(text):
        text = changed(text, _unindented)
    for step in steps[3 - level :]:
        text = step(text)
    return text


def _unindented(text: str, before: str, after: str) -> str:
    """Leave out the indentation of a page's lines, but not of those that begin or end with code."""
    lines = text.split("\n")
    first = 1 if before and not before.endswith("\n") else 0
    last = len(lines) - 1 if after else len(lines)
    return "\n".join(
        line.lstrip(" \t") if first <= i < last else line for i, line in enumerate(lines)
    )


def _tightened(text: str, before: str, after: str) -> str:
    """Shorten white space between words; where there was some, some stays."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    at_line_start = not before or before.endswith(("\n", "\r"))
    text = _RUN.sub(lambda run: _shorter(run, at_line_start=at_line_start), text)
    text = _BLANK_LINES.sub("\n\n", text)
    if not before:
        text = _without_blank_start(text)
    elif at_line_start and text.startswith("\n\n"):
        text = text[1:]
    return text if after else text.rstrip()


def _shorter(run: re.Match[str], *, at_line_start: bool) -> str:
    found, start = run[0], run.start()
    if found[0] == "`":
        return found
    if found[-1] == "\n":
        return "\n"
    is_indent = run.string[start - 1] == "\n" if start else at_line_start
    return found if is_indent or len(found) == 1 else " "


def _without_blank_start(text: str) -> str:
    """Leave out blank lines at the start, but not the first line's indentation."""
    words = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, words) + 1 :]
