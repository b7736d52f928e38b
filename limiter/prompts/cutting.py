"""Cut one text down to a number of tokens, with a mark where something is gone.

Never cuts silently: what is missing is marked, or it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from limiter.errors import ConfigError
from limiter.prompts.counting import DEFAULT_MODEL, Count, check_tokens, counter
from limiter.prompts.savings import Savings

Rule = Literal["head", "middle", "tail", "error"]

MARK = "[…]"

# A word that a cut goes through is left out, unless it is longer than this: then it is no word.
_LONGEST_WORD = 40
_LAST_WORD = re.compile(rf"\S{{1,{_LONGEST_WORD}}}\Z")
_FIRST_WORD = re.compile(rf"\S{{1,{_LONGEST_WORD}}}")


@dataclass(frozen=True, slots=True)
class Cut:
    """Hold a text that fits, and what that saved."""

    text: str
    report: Savings

    def __str__(self) -> str:
        return self.text


def cut_text(
    text: str,
    max_tokens: int,
    cut: Rule = "middle",
    *,
    model: str = DEFAULT_MODEL,
    count: Count | None = None,
) -> Cut:
    """Cut a text that has more than `max_tokens`; `[…]` stands where something is missing.

    Args:
        text: what to cut.
        max_tokens: what the result may have at most, its mark included.
        cut: which part goes: `head`, `middle` or `tail`; `error`: none of it may.
        model: whose tokens are counted.
        count: counts them instead.

    Raises:
        ConfigError: it is too long and `cut` is `error`, or not even the mark fits.
    """
    check_tokens(max_tokens, "max_tokens")
    check_rule(cut)
    number = counter(model, count)
    before = number(text)
    if before <= max_tokens:
        return Cut(text, Savings(before, before))
    if cut == "error":
        raise ConfigError(
            f"The text has {before:,} tokens, {max_tokens:,} may be: shorten it, or say what "
            "is to be cut: head, middle or tail.",
            needed=before,
            budget=max_tokens,
        )
    found = _longest(text, max_tokens, cut, number)
    return Cut(found, Savings(before, number(found)))


def check_rule(cut: object) -> None:
    """Check the name of a rule.

    Raises:
        ConfigError: there is none of that name.
    """
    if cut not in get_args(Rule):
        raise ConfigError(f"cut is one of {', '.join(get_args(Rule))}, got {cut!r:.40}.")


def _longest(text: str, max_tokens: int, cut: Rule, count: Count) -> str:
    """Return the longest cut text that fits; O(log n) counts.

    More characters are more tokens but for some at a seam, so what a search by halves finds is
    taken back until it fits.
    """
    make = _MAKERS[cut]
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        fits = count(make(text, middle)) <= max_tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    while count(made := make(text, low)) > max_tokens:
        if low == 0:
            raise ConfigError(
                f"{max_tokens} tokens do not even hold the mark {MARK} of a cut; allow "
                f"{count(MARK)} at least."
            )
        low = max(0, low - 1 - low // 50)
    return made


def _without_head(text: str, keep: int) -> str:
    return f"{MARK} {kept}" if (kept := _tail(text, keep)) else MARK


def _without_tail(text: str, keep: int) -> str:
    return f"{kept} {MARK}" if (kept := _head(text, keep)) else MARK


def _without_middle(text: str, keep: int) -> str:
    ends = _head(text, keep - keep // 2), MARK, _tail(text, keep // 2)
    return " ".join(end for end in ends if end)


_MAKERS: dict[Rule, Callable[[str, int], str]] = {
    "head": _without_head,
    "middle": _without_middle,
    "tail": _without_tail,
}


def _head(text: str, keep: int) -> str:
    """Return the first characters, up to the end of a whole word."""
    if keep and not text[keep].isspace() and (word := _last_word(text, keep)):
        is_whole_word = word.start() == 0 or text[word.start() - 1].isspace()
        keep = word.start() if is_whole_word else keep
    return text[:keep].rstrip()


def _last_word(text: str, end: int) -> re.Match[str] | None:
    return _LAST_WORD.search(text, max(0, end - _LONGEST_WORD), end)


def _tail(text: str, keep: int) -> str:
    """Return the last characters, from the start of a whole word on."""
    start = len(text) - keep
    if keep and not text[start - 1].isspace() and (word := _FIRST_WORD.match(text, start)):
        is_whole_word = word.end() == len(text) or text[word.end()].isspace()
        start = word.end() if is_whole_word else start
    return text[start:].lstrip()
