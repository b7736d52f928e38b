"""Take HTML and Markdown dressing off a text. Level 3 of `compact`.

Only what is a tag of HTML beyond doubt goes: `a<b and c>d`, `List<int>` and a prompt's own
`<document>` stay. That is why the standard library's parser, which takes each of these for a tag
and drops what is open at the end, is not used. Pure, and linear in the text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from limiter.prompts.pieces import changed, is_page

_BLOCKS = (
    "address|article|aside|blockquote|body|caption|center|dd|details|dialog|dir|div|dl|dt|fieldset|"
    "figcaption|figure|footer|form|frameset|h[1-6]|head|header|hgroup|hr|html|legend|main|menu|nav|"
    "noscript|ol|optgroup|option|p|section|select|summary|table|tbody|template|tfoot|thead|title|"
    "tr|ul"
)
_INLINES = (
    "a|abbr|acronym|area|audio|b|base|basefont|bdi|bdo|big|br|button|canvas|circle|cite|clippath|"
    "code|col|colgroup|data|datalist|defs|del|dfn|ellipse|em|embed|font|g|i|iframe|img|input|ins|"
    "kbd|label|li|line|link|map|mark|meta|meter|nobr|object|output|param|path|picture|polygon|"
    "polyline|progress|q|rect|rp|rt|ruby|s|samp|small|source|span|strike|strong|style|script|sub|"
    "sup|svg|symbol|td|textarea|th|time|track|tt|u|use|var|video|wbr"
)
_VALUE = r"\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>=`]+)"
_FLAG = (
    "allowfullscreen|async|autofocus|autoplay|checked|controls|crossorigin|defer|disabled|download|"
    "hidden|ismap|itemscope|loop|multiple|muted|nomodule|novalidate|open|playsinline|readonly|"
    "required|reversed|selected|data-[\\w-]+"
)
_TAG = re.compile(
    rf"<(?P<end>/?)(?P<name>{_BLOCKS}|{_INLINES})"
    rf"(?P<attributes>(?:\s+(?:[a-z_:@][\w:.@-]*{_VALUE}|(?:{_FLAG})(?=[\s/>])))*)\s*/?>",
    re.IGNORECASE,
)
# Names that prompts give to their parts, as `<input>`: without an attribute they are tags in
# pages alone.
_ALSO_PROMPTS = re.compile(
    "article|aside|button|code|data|details|dialog|form|header|input|label|legend|main|map|mark|"
    "menu|meta|object|option|output|param|path|q|s|section|select|source|summary|symbol|template|"
    "text|time|title|track|u|use|var",
    re.IGNORECASE,
)
_ALT = re.compile(r"\salt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_BLOCK = re.compile(_BLOCKS, re.IGNORECASE)

# Each from its beginning to its end, and what its end looks like. One after a backtick is spoken of.
_COMMENT = re.compile(r"(?<!`)<!--.*?-->", re.DOTALL), re.compile(r"-->")
_DOCTYPE = re.compile(r"<!doctype\b[^<>]*>", re.IGNORECASE)
_SCRIPTS = [
    (
        re.compile(rf"(?<!`)<{name}(?=[\s>])[^>]*>.*?</{name}\s*>", re.DOTALL | re.IGNORECASE),
        re.compile(rf"</{name}\s*>", re.IGNORECASE),
    )
    for name in ("script", "style")
]

# Blank lines before an item or a row, as ends of tags leave them.
_BETWEEN_ROWS = re.compile(r"(?<!\n)\n+(?=- | \| )")

_REFERENCE = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)

_LINK = re.compile(
    r"(?<![\w\]])!?\[([^\[\]\n]*)\]\([ \t]*<?[^()\s<>]*>?(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'))?[ \t]*\)"
)
_BOLD = re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*\n]*[^\s*])\*\*(?![\w*])")
_ITALIC = re.compile(r"(?<![\w*])\*(?=\w)([^*\n]*\w)\*(?![\w*])")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(?=\S)", re.MULTILINE)
_QUOTE = re.compile(r"^ {0,3}(?!>>>)(?:>[ \t]?)+", re.MULTILINE)
_RULE = re.compile(
    r"^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|={3,}[ \t]*)$", re.MULTILINE
)
_TABLE_RULE = re.compile(
    r"^[ \t]*\|?(?:[ \t]*:?-+:?[ \t]*\|)+(?:[ \t]*:?-+:?[ \t]*)?$\n?", re.MULTILINE
)
_CODE_SPAN = re.compile(r"(`[^\n]*`)")


def undressed(text: str) -> str:
    """Return a text without its dressing, never longer; more may show once some of it is gone."""
    known = is_page(text)
    return changed(text, lambda piece, *_: _plain_markdown(_plain_html(piece, known_page=known)))


def _plain_html(text: str, *, known_page: bool) -> str:
    for pattern, end in (_COMMENT, *_SCRIPTS):
        text = _without(pattern, end, text)
    text = _DOCTYPE.sub("\n", text)
    text = _outside_code(
        text,
        lambda part: _REFERENCE.sub(
            _character, _TAG.sub(lambda tag: _instead(tag, known_page=known_page), part)
        ),
    )
    return _BETWEEN_ROWS.sub("\n", text) if known_page else text


def _without(pattern: re.Pattern[str], end: re.Pattern[str], text: str) -> str:
    """Leave out what a pattern finds before the last of its ends.

    Beyond that, each of many beginnings would look for an end up to the end of the text.
    """
    last = max((found.end() for found in end.finditer(text)), default=0)
    return pattern.sub("\n", text[:last]) + text[last:]


def _instead(tag: re.Match[str], *, known_page: bool) -> str:
    """Return what a tag is worth in plain text; it is shorter than the tag."""
    name = tag["name"].lower()
    if not known_page and not tag["attributes"] and _ALSO_PROMPTS.fullmatch(name):
        return tag[0]
    if _BLOCK.fullmatch(name) or name == "br":
        return "\n"
    if name == "li":
        return "\n" if tag["end"] else "\n- "
    if name in {"td", "th"}:
        return "" if tag["end"] else " | "
    alt = _ALT.search(tag["attributes"]) if name == "img" else None
    return (alt[1] or alt[2] or "") if alt else ""


def _character(reference: re.Match[str]) -> str:
    """Return what a reference stands for, unless that could be markup: `&lt;` stays as it is."""
    found = html.unescape(reference[0])
    if found == "\xa0":
        return " "
    return found if found in {"'", '"'} or (found > "\x9f" and "&" not in found) else reference[0]


def _plain_markdown(text: str) -> str:
    for pattern in (_RULE, _TABLE_RULE, _QUOTE, _HEADING):
        text = pattern.sub("", text)
    return _outside_code(text, _plain_spans)


def _plain_spans(text: str) -> str:
    for pattern in (_LINK, _BOLD, _ITALIC):
        text = pattern.sub(r"\1", text)
    return text


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change a text but for what stands between the first and the last backtick of a line."""
    spans = _CODE_SPAN.split(text)
    return "".join(span if i % 2 else change(span) for i, span in enumerate(spans))
