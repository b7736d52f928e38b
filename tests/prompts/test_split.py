"""`split_text`: every chunk fits, and nothing but white space is lost between them."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import ConfigError
from limiter.prompts import split_text
from tests.prompts.counting import by_bytes, by_length, by_parity, by_pieces
from tests.prompts.real import PAGE, README, STORED, problems

COUNTERS = pytest.mark.parametrize("count", [by_bytes, by_pieces, by_length])
ALPHABET = "ab. ,;\n\t-(\u00e9\u3000\U0001f600"


def check(text: str, most: int, overlap: int, count: object) -> None:
    found = split_text(text, most, overlap, count=count)
    assert [text[start:end] for start, end in found.spans] == list(found)
    assert all(count(chunk) <= most for chunk in found)
    assert all(chunk == chunk.strip() != "" for chunk in found)
    reached = 0
    for start, end in found.spans:
        assert not text[reached:start].strip()
        assert overlap or reached <= start
        reached = end
    assert not text[reached:].strip()
    for one, other in pairwise(found.spans):
        assert one[0] <= other[0]
        assert one[1] < other[1]
        assert count(text[other[0] : max(one[1], other[0])]) <= overlap


@COUNTERS
@settings(deadline=None)
@given(st.text(ALPHABET, max_size=150), st.integers(1, 30), st.integers(0, 8))
def test_every_chunk_fits_and_the_text_is_covered(
    count: object, text: str, most: int, overlap: int
) -> None:
    """Chunks are parts of the text, in its order; between them is white space alone."""
    check(text, most + overlap, overlap, count)


@COUNTERS
@pytest.mark.parametrize("text", [README, STORED, PAGE, "\n\n".join(problems()[:200])])
@pytest.mark.parametrize("overlap", [0, 40])
def test_real_texts(text: str, count: object, overlap: int) -> None:
    """The same, of texts as people have them."""
    check(text, 400, overlap, count)


@given(st.text("ab \n", max_size=150), st.integers(10, 30), st.integers(0, 20))
def test_chunks_fit_whatever_the_counter(text: str, most: int, overlap: int) -> None:
    """Also one to which a part of a text may be more than the whole."""
    check(text, most + overlap, overlap, by_parity)


def test_chunks_end_where_the_text_has_a_seam() -> None:
    """Paragraphs stay whole where they fit."""
    parts = [f"Paragraph {i} has a line.\nAnd another one." for i in range(6)]
    assert list(split_text("\n\n".join(parts), 12, count=by_bytes)) == parts


def test_neighbours_share_an_overlap() -> None:
    """Each chunk but the first begins with words that end the one before."""
    text = " ".join(f"w{i:03}" for i in range(200))
    found = split_text(text, 40, 10, count=by_bytes)
    assert len(found) > 3
    for (_, end), (start, _) in pairwise(found.spans):
        assert 0 < by_bytes(text[start:end]) <= 10
        assert text[start] == "w"
    assert found.report.saved < 0


def test_a_text_that_fits_is_one_chunk() -> None:
    """And one without a word is none."""
    found = split_text(" a b \n", 10, count=by_bytes)
    assert (list(found), found[0], len(found)) == (["a b"], "a b", 1)
    assert list(split_text(" \n", 10, count=by_bytes)) == []


def test_what_cannot_be_split_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character above the limit, an overlap that leaves nothing, a package that is not there."""
    with pytest.raises(ConfigError, match="alone has 2 tokens, and a chunk 1"):
        split_text("a\u00e9", 1, count=lambda text: len(text.encode()))
    with pytest.raises(ConfigError, match="leaves nothing"):
        split_text("a", 5, 5, count=len)
    monkeypatch.setitem(sys.modules, "semchunk.semchunk", None)
    with pytest.raises(ConfigError, match=r"pip install 'llm-limiter\[prompts\]'"):
        split_text("a", 5, count=len)
