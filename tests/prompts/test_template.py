"""`PromptTemplate` and `cut_text`: nothing is missing unsaid, and budgets hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter import ConfigError
from limiter.prompts import Budget, PromptTemplate, cut_text
from limiter.prompts.cutting import MARK
from tests.prompts.counting import by_bytes, by_parity, by_pieces

COUNTERS = pytest.mark.parametrize("count", [by_bytes, by_pieces, len])
SHAPE = '{"label": {"of": "bug|wish"}, "sure": 0.9}'
TICKET = PromptTemplate(
    f"Answer as JSON: {SHAPE}", "Product: {product}\n\n{ticket}", count=by_bytes
)


def test_the_fixed_part_is_first_and_the_same() -> None:
    """The instruction, JSON and all, begins each prompt as it stands; variables come after it."""
    one, other = (TICKET.render(product=name, ticket="It broke.") for name in ("A", "B"))
    assert one == f"Answer as JSON: {SHAPE}\n\nProduct: A\n\nIt broke."
    assert other == one.replace("Product: A", "Product: B")
    assert TICKET.variables == ["product", "ticket"]


def test_a_prompt_as_messages() -> None:
    """The instruction is the system's message, the rest is the user's."""
    assert TICKET.messages(product="A", ticket="x") == [
        {"role": "system", "content": f"Answer as JSON: {SHAPE}"},
        {"role": "user", "content": "Product: A\n\nx"},
    ]


@pytest.mark.parametrize("empty", [None, "", " \n"])
def test_no_variable_is_left_empty(empty: str | None) -> None:
    """A variable that is missing, None or blank is an error that names it and says what to do."""
    for values in ({"product": "A"}, {"product": "A", "ticket": empty}):
        for render in (TICKET.render, TICKET.messages, TICKET.report):
            with pytest.raises(
                ConfigError, match=r"\{ticket\} is missing or empty: pass it"
            ) as caught:
                render(**values)
            assert caught.value.missing == ["ticket"]
    lenient = PromptTemplate("Hi", "a{x}b", optional=["x"], count=by_bytes)
    assert lenient.render() == lenient.render(x=empty if empty is None else "") == "Hi\n\nab"


def test_no_variable_is_ignored() -> None:
    """One that the body does not have is an error, too, as is one of the instruction."""
    with pytest.raises(
        ConfigError, match=r"no \{tikcet\} in the body; it has \{product\}, \{ticket\}"
    ):
        TICKET.render(product="A", ticket="x", tikcet="y")
    with pytest.raises(ConfigError, match=r"The instruction holds \{name\}.*\{\{name\}\}"):
        PromptTemplate("Hello {name}", "{x}")
    for wrong in ({"budgets": {"y": 5}}, {"optional": ["y"]}):
        with pytest.raises(ConfigError, match=r"The body has no \{y\}"):
            PromptTemplate("", "{x}", **wrong)


def test_braces_are_text() -> None:
    """JSON needs no escape, a doubled name is the name, and a value is never read as a template."""
    template = PromptTemplate(
        "", '{"q": "{q}", "n": {}, "m": {1}, "o": { q }} {{q}}', count=by_bytes
    )
    assert template.render(q="{q} {x}") == '{"q": "{q} {x}", "n": {}, "m": {1}, "o": { q }} {q}'


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_value_arrives(instruction: str, value: str) -> None:
    """Whatever a value holds, braces and backslashes too, is what is rendered."""
    template = PromptTemplate(json.dumps([instruction]), "<{x}>", optional=["x"], count=by_bytes)
    assert template.render(x=value).endswith(f"\n\n<{value}>")


def test_the_fixed_part_is_counted_once() -> None:
    """Its tokens are those of a prompt without values; asking again counts nothing."""
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return by_bytes(text)

    template = PromptTemplate("Say it in French.", "Text: {text}", count=count)
    assert template.fixed_tokens == template.fixed_tokens == by_bytes("Say it in French.\n\nText: ")
    assert len(asked) == 1


def test_a_budget_holds_for_its_variable() -> None:
    """More is cut as was said, or is an error that names the variable; a report tells the savings."""
    words = " ".join(f"word{i}" for i in range(100))
    template = PromptTemplate(
        "Go.", "{a}|{b}", budgets={"a": Budget(20, "middle"), "b": 5}, count=by_bytes
    )
    a, b = template.render(a=words, b="short").removeprefix("Go.\n\n").split("|")
    assert by_bytes(a) <= 20
    assert a.startswith("word0 word1")
    assert a.endswith("word98 word99")
    assert b == "short"
    report = template.report(a=words, b="short")
    assert (report.before, report.after) == (
        by_bytes(f"Go.\n\n{words}|short"), by_bytes(f"Go.\n\n{a}|short")
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"\{b\}: The text has 173 tokens, 5 may be") as caught:
        template.render(a="x", b=words)
    assert (caught.value.needed, caught.value.budget) == (by_bytes(words), 5)


@COUNTERS
@pytest.mark.parametrize("cut", ["head", "middle", "tail"])
@given(st.text("ab c\n\u00e9", max_size=200), st.integers(6, 60))
def test_a_cut_text_fits_and_is_marked(cut: str, count: object, text: str, most: int) -> None:
    """It is the text, or ends of it around a mark, within the tokens that it may have."""
    found = cut_text(text, most, cut, count=count)
    assert count(found.text) == found.report.after <= most
    assert found.report.before == count(text)
    if found.text == text:
        return
    assert found.text.count(MARK) == 1
    head, tail = (part.strip() for part in found.text.split(MARK))
    assert text.strip().startswith(head)
    assert text.strip().endswith(tail)
    assert not (head if cut == "head" else tail if cut == "tail" else "")


def test_a_cut_fits_whatever_the_counter() -> None:
    """Also one to which less text may be more tokens."""
    for most in range(10, 40):
        assert by_parity(str(cut_text("ab" * 40, most, "tail", count=by_parity))) <= most


def test_words_are_not_cut_in_two() -> None:
    """A word goes as a whole, unless it is no word but a long string."""
    text = "alpha beta gamma delta epsilon"
    assert cut_text(text, 14, "tail", count=len).text == f"alpha beta {MARK}"
    assert cut_text(text, 13, "tail", count=len).text == f"alpha {MARK}"
    assert cut_text("x" * 100, 50, "head", count=len).text == f"{MARK} " + "x" * 46


@pytest.mark.parametrize(
    ("most", "cut", "says"),
    [
        (5, "error", "10 tokens, 5 may be"),
        (2, "tail", r"do not even hold the mark .*allow 3"),
        (0, "tail", "from 1 on"),
        (5, "front", "head, middle, tail, error"),
    ],
)
def test_a_wrong_cut_is_said(most: int, cut: str, says: str) -> None:
    """With the numbers, or with what may be written."""
    with pytest.raises(ConfigError, match=says):
        cut_text("x" * 10, most, cut, count=len)
