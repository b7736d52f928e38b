"""Leave out lines that came before, and notices that no reader needs. Level 2 of `compact`.

Never touches code, table rows, or short lines: "yes" twice in a dialogue is no repetition.
"""

from __future__ import annotations

import re

from limiter.prompts.pieces import changed

_LEAST_WORDS = 3

# A whole line that is one of these says nothing about its page's matter.
_NOTICE = re.compile(
    r"skip to (?:the )?(?:main )?(?:content|navigation)|(?:back to|scroll to) top"
    r"|(?:accept|reject|allow)(?: all)?(?: cookies)?|cookie (?:settings|preferences|policy)"
    r"|(?:we|this (?:web)?site) uses? cookies\b.{0,200}"
    r"|(?:share|follow us) on (?:facebook|twitter|x|linkedin|instagram|whatsapp)"
    r"|subscribe to (?:our|the) newsletter|sign up for (?:our|the) newsletter"
    r"|(?:(?:©|\(c\)|copyright)\W*)+\d{4}\b.{0,120}|all rights reserved\.?"
    r"|page \d+ (?:of|/) \d+|advertisement|privacy policy|terms of (?:use|service)",
    re.IGNORECASE,
)


def without_repeats(text: str, dropped: dict[str, int]) -> str:
    """Return a text without its repeated lines and notices, which are counted in `dropped`."""
    seen: set[str] = set()

    def change(piece: str, before: str, after: str) -> str:
        lines = piece.splitlines(keepends=True)
        # What shares its line with code stays.
        first = 1 if before and not before.endswith(("\n", "\r")) else 0
        last = len(lines) - 1 if after and lines and not lines[-1].endswith(("\n", "\r")) else None
        kept = [line for line in lines[first:last] if _is_kept(line, seen, dropped)]
        return "".join([*lines[:first], *kept, *(lines[last:] if last is not None else ())])

    return changed(text, change)


def _is_kept(line: str, seen: set[str], dropped: dict[str, int]) -> bool:
    words = line.split()
    key = " ".join(words)
    if not words or key[0] == "|":
        return True
    is_new = len(words) < _LEAST_WORDS or key not in seen
    seen.add(key)
    if is_new and not _NOTICE.fullmatch(key):
        return True
    dropped[key] = dropped.get(key, 0) + 1
    return False
