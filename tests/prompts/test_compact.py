"""`compact`: what each level keeps, and that no text breaks it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limiter import ConfigError
from limiter.prompts import compact
from limiter.prompts.pieces import pieces
from tests.prompts.counting import by_bytes
from tests.prompts.real import PAGE, PAGE_CODE, PAGE_WORDS, README, STORED, problems

# What texts are made of where it gets difficult, next to any characters at all.
PARTS = [
    " ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\r", "\f", "\u2028", "\xa0", "a", "b c", "<", ">",
    "/", "```", "````", "~~~", "`", "<pre>", "</pre>", "<PRE class='x'>", "<p>", "</p>", "<b>", "</b>",
    "<div>", "<li>", "<td>", "<br/>", "<input>", '<a href="x">', "<img alt='i j'>", "<!--", "-->",
    "<script>", "</script>", "&amp;", "&nbsp;", "&quot;", "&#39;", "**", "*", "# ", "> ", "- ", "---",
    "[x](y)", "![", "](", "|", "|--|", "one two three four", "Accept all cookies", "&", "#110;", '"',
    "=", "{", "}",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=40).map("".join)
LEVELS = pytest.mark.parametrize("level", [0, 1, 2, 3])
REAL = [README, STORED, PAGE, "\n\n".join(problems())]

PROSE = st.text("ab .,\t\u00e9", min_size=1, max_size=30).filter(str.strip)
LINE = st.text("xy =(){}#<*`~\t", max_size=20)
FENCED = st.tuples(
    st.sampled_from(["```", "~~~~", "```py", "  ```"]), st.lists(LINE, max_size=5)
).map(
    lambda made: "\n".join(
        [made[0], *(f"|{line}" for line in made[1]), made[0].strip().rstrip("py")]
    )
)
INDENTED = st.lists(LINE, min_size=1, max_size=4).map(
    lambda lines: "\n\n".join(f"    |{line}" for line in lines)
)
PRE = st.lists(LINE, max_size=4).map(lambda lines: "<pre>" + "\n\n\n".join(lines) + "\n</pre>")


@given(TEXTS)
@example("```\na  b\n``` \n\n\nc  d")
@example("</pre>  x  <pre>  y  ")
def test_level_1_keeps_every_word_in_its_order(text: str) -> None:
    """Whatever the text, its words are the same before and after."""
    assert compact(text).text.split() == text.split()


@LEVELS
@given(TEXTS)
@example("<<b>b>x</b>")
@example('&&#110;bsp; <a b="x&quot;>')
@example("para\n\none two three four\n    one two three four\n")
def test_once_is_enough(level: int, text: str) -> None:
    """A compact text is not made more compact, and never longer, whatever it is."""
    found = compact(text, level).text
    assert compact(found, level).text == found
    assert len(found) <= len(text)


@given(st.text())
def test_no_string_makes_it_raise(text: str) -> None:
    """Any code points, lone surrogates with them, are a text."""
    for level in range(4):
        assert compact(text, level, count=by_bytes).report.saved >= 0


@pytest.mark.parametrize("level", [1, 2, 3])
@given(
    st.lists(
        st.tuples(
            st.one_of(FENCED, INDENTED, PRE).map(lambda code: (True, code))
            | PROSE.map(lambda prose: (False, prose)),
            st.integers(1, 4),
        ),
        max_size=8,
    )
)
def test_code_stays_byte_for_byte(level: int, parts: list[tuple[tuple[bool, str], int]]) -> None:
    """Fenced, indented and preformatted blocks are there as they were, in their order."""
    text = "".join(part + "\n" + " \n" * blank for (_, part), blank in parts)
    found, at = compact(text, level).text, 0
    for (is_code, part), _ in parts:
        if is_code:
            assert part in found[at:]
            at = found.index(part, at) + len(part)


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize(
    "code",
    [
        "````\n```\na  b\n```\n\n\n\nc  d\n````",
        "~~~\n```\na  b\n\n\n\n~~~",
        "- ```py\n  a  b\n\n\n  ```",
        "> ```\n> a  b\n> **c**\n> ```",
        "    a  b\n    c  d\n  \n\n\n    e  <b>f</b>",
        "\ta  b\n\t\tc  d",
        "    <pre>\na  b\n\n\nc  d\n</pre>",
        "<PRE\n class='x'>a  b\n\n\n\n</PRE >",
        "<pre>a  b</pre> <pre>c  d\n\n\n</pre>",
    ],
)
def test_code_in_its_odder_shapes(level: int, code: str) -> None:
    """Fences in fences, in lists and in quotes; indented blocks with blank lines; one in another."""
    for before, after in (("", ""), ("x  y\n\n\n\n", "\n\n\n\nz  z")):
        found = compact(f"{before}{code}{after}", level).text
        assert found == ("x y\n\n" if before else "") + code + ("\n\nz z" if after else "")


def test_an_open_block_is_code_to_the_end() -> None:
    """Where its end was cut off, nothing of it is shortened."""
    for text in ("```\na  b\n\n\n\nc  ", "<pre>\na  b\n\n\n\nc  "):
        assert compact(f"x  y\n{text}", 3).text == f"x y\n{text}"


@given(TEXTS)
def test_pieces_are_the_text(text: str) -> None:
    """What is told apart makes the text again, byte for byte."""
    assert "".join(piece.text for piece in pieces(text)) == text


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("<div>\n\n    <p>a\n  b</p>\n</div>\n", "<div>\n\n<p>a\nb</p>\n</div>"),
        ("<!-- x -->\n<!DOCTYPE html>\n\n    a", "<!-- x -->\n<!DOCTYPE html>\n\na"),
        ("<p>a</p>\n\n    code  x\n\nb", None),
        ("a\n<div>\n\n    code  x\n</div>", None),
        ("<document>\n\n    code  x\n</document>", None),
    ],
)
def test_indentation_goes_where_it_says_nothing(text: str, shorter: str | None) -> None:
    """In HTML from beginning to end; Markdown with a tag in it keeps its code."""
    assert compact(text).text == (shorter or text)


@pytest.mark.parametrize("text", REAL)
def test_real_texts_keep_their_words(text: str) -> None:
    """At level 1; and higher levels never save less."""
    assert compact(text).text.split() == text.split()
    sizes = [compact(text, level, count=by_bytes).report.after for level in range(4)]
    assert sizes == sorted(sizes, reverse=True)


def test_white_space_is_shortened() -> None:
    """Runs become one space, blank lines one; indentation and code between backticks stay."""
    text = "\n\n  a   b \t \n\n\n\n  c  `d   e`  f\r\n\tg \r\n\n"
    assert compact(text).text == "  a b\n\n  c `d   e` f\n\tg"


def test_level_2_leaves_out_what_came_before_and_tells() -> None:
    """A repeated line of three words and a notice go and are told; short lines and rows stay."""
    text = "The same old header\nyes\nyes\n| a | b | c\n| a | b | c\nThe  same old header\nPage 2 of 9\nend"
    found = compact(text, 2)
    assert found.text == "The same old header\nyes\nyes\n| a | b | c\n| a | b | c\nend"
    assert found.dropped == {"The same old header": 1, "Page 2 of 9": 1}
    assert compact(text, 1).dropped == {}
    beside = (
        "the very same words\n<pre>a</pre> the very same words\nthe very same words <pre>b</pre>"
    )
    assert compact(beside, 2).text == beside


def test_a_page_keeps_what_a_reader_sees() -> None:
    """Of HTML the visible words stay in their order, and so does the preformatted block."""
    found = compact(PAGE, 3, count=by_bytes)
    assert PAGE_CODE in found.text
    shown = [word for word in found.text.replace(PAGE_CODE, "").split() if word not in "-|"]
    is_repeat = PAGE_WORDS.index("Numbers") + 8
    assert shown == PAGE_WORDS[:is_repeat]
    assert set(found.dropped) == {
        "Numbers are checked by hand twice a day.", "Accept all cookies", "© 2024 River Service"
    }  # fmt: skip
    assert found.report.share > 0.5


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("# A *small* **title**", "A small title"),
        ('See [the guide](https://x.y/z "t") and ![a map](m.png)', "See the guide and a map"),
        ("> quoted\n\n---\n\n| a | b |\n|---|:-:|\n| 1 | 2 |", "quoted\n\n| a | b |\n| 1 | 2 |"),
        ("2 * 3 * 4, **kwargs, *args, __init__, snake_case_name, *.py,*.md, a[i](j)", None),
        ("if a<b and c>d: List<int>, <document>x</document>, <input>y</input>", None),
        ("Use `<b>` and `**x**` as they are; `&nbsp;` too", None),
        ("A<b>b</b>c &eacute; &lt;b&gt; <!-- gone -->", "Abc é &lt;b&gt;"),
        (">>> x = 1", None),
    ],
)
def test_level_3_takes_dressing_off(text: str, plain: str | None) -> None:
    """Only dressing goes; what merely looks like it stays (None: all of it)."""
    assert compact(text, 3).text == (plain or text)


def test_hostile_text_ends_soon() -> None:
    """Beginnings without ends, and tags in tags, are read in time that grows with their length."""
    for part in ("<!--", "<script>", "<a b='", "`", "[", "**", "<", " ", "&#", "<<b>b>"):
        compact(part * 100_000 + "x", 3)
    nested = "<b" * 5_000 + "<b>" + ">" * 5_000
    assert compact(nested, 3).text == nested


def test_tokens_are_counted_when_asked_for() -> None:
    """A report counts the text before and after, once; a text alone costs no count."""
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return len(text)

    found = compact("a  b", count=count)
    assert (str(found), asked) == ("a b", [])
    assert (found.report.saved, found.report.share) == (1, 0.25)
    assert found.report is found.report
    assert asked == ["a  b", "a b"]


@pytest.mark.parametrize("level", [-1, 4, True, "1", None])
def test_a_level_that_is_not_there(level: object) -> None:
    """Is named, with those that are."""
    with pytest.raises(ConfigError, match="0, 1, 2 or 3"):
        compact("x", level)
