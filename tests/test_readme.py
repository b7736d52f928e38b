"""The README: its snippets compile, what they name is there, and those of one section run."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.core
import typer.main

import limiter
from limiter import Limiter, errors, testing
from limiter.cli.app import app
from limiter.config import load
from limiter.tokens import encoding_for
from tests.prompts.real import PAGE

README = (Path(limiter.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
RUNS = "Who goes first"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str, text: str = README) -> list[str]:
    return [body for found, body in _BLOCK.findall(text) if found == language]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def calls_of_the_limiter(code: str) -> Iterator[tuple[str, set[str]]]:
    """Find what is called on `limiter`, and with which keywords."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("limiter"), attr=verb)):
                yield verb, {each.arg for each in node.keywords if each.arg}


@pytest.mark.parametrize("code", blocks("python"))
def test_snippets_name_what_is_there(code: str) -> None:
    """Each one compiles; what it imports exists; verbs take the arguments that it gives them."""
    compile(code, "README.md", "exec")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), name.name
    dims = {"tokens"}
    for verb, keywords in calls_of_the_limiter(code):
        takes = inspect.signature(getattr(Limiter, verb)).parameters
        open_ended = {"settings"} & set(takes)
        assert open_ended or keywords <= set(takes) | dims, verb


def test_verbs_of_the_text_are_there() -> None:
    """What the text calls on a limiter in passing is one of its verbs, too."""
    named = set(re.findall(r"`limiter\.([a-z_]+)\(", README))
    assert {"set_quota", "avoid", "instrument"} <= named
    for verb in named:
        assert hasattr(Limiter, verb), verb


class Provider:
    """Answer any call of a client with a usage."""

    def __getattr__(self, name: str) -> Provider:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 700, "completion_tokens": 112, "total_tokens": 812}}


def test_the_snippets_of_a_section_run() -> None:
    """One after the other, as a reader would try them, they do what the text says."""
    names: dict[str, Any] = {"client": Provider(), "clients": defaultdict(Provider)}
    with testing.no_waiting():
        for code in blocks("python", section(RUNS)):
            exec(compile(code, "README.md", "exec"), names)
        assert names["r"].state == "settled"
        assert names["r"].quota == "east"
        assert names["ticket"].granted
        names["limiter"].close()


def test_the_snippets_of_prompts_run() -> None:
    """They do what they say beside them, and one says what the page of the tests saves."""
    summaries: list[str] = []
    names: dict[str, Any] = {
        "ticket": "word " * 4_000,
        "html": PAGE,
        "messages": [{"role": "user", "content": "cat " * 5_000}, {"role": "user", "content": "y"}]
        * 2,
        "book": README,
        "summarise": lambda text: summaries.append(text) or "A summary.",
    }
    (code,) = blocks("python", section("Shorter prompts"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        exec(compile(code, "README.md", "exec"), names)
    assert names["prompt"].count("[…]") == 1
    assert len(names["chat"].dropped) == 1
    assert names["notes"].calls == len(summaries) > 1
    if encoding_for("gpt-4o") is None:
        assert f"# {names['page'].report}\n" in code


def test_the_toml_is_read_as_it_stands(tmp_path: Path) -> None:
    """The example of a file declares what the text says."""
    (file,) = blocks("toml")
    (tmp_path / "limiter.toml").write_text(file)
    quota = load(tmp_path / "limiter.toml").quotas["gpt-4o"]
    assert [each.name for each in quota.priorities] == ["batch"]
    assert dict(quota.tenants) == {"search": 2.0}


def test_commands_have_the_options_that_are_typed() -> None:
    """Every `limiter …` line of a shell block is one that the command line reads."""
    commands: Any = typer.main.get_command(app)
    typed = [line for block in blocks("sh") for line in block.splitlines()]
    typed = [shlex.split(line) for line in typed if line.startswith("limiter ")]
    assert len(typed) >= 2
    for _, name, *arguments in typed:
        command = commands.commands[name]
        while isinstance(command, typer.core.TyperGroup):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        with command.make_context(name, arguments) as context:
            assert context.params


def test_the_tree_of_errors_is_whole() -> None:
    """The README and the module's docstring draw the tree that there is."""
    kinds = {
        name for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.LimiterError)
    }  # fmt: skip
    drawn = section("Errors").split("```")[1]
    for text in (drawn, textwrap.dedent(errors.__doc__ or "")):
        assert set(re.findall(r"^[│├└─ ]*(\w+)", text, re.MULTILINE)) >= kinds
