"""`limiter optimize` and `limiter run --compact --fit`, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from limiter.cli.app import run_app
from limiter.prompts import compact
from tests.cli.home import Home
from tests.prompts.real import PAGE, STORED

OLD = [{"role": "user", "content": f"{i}  {('cat ' * 20).rstrip()}"} for i in range(4)]
TALK = {"model": "m", "messages": [*OLD, {"role": "user", "content": "last   one"}]}
BATCH = {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": TALK}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.html").write_text(PAGE)
    (tmp_path / "notes.md").write_text(f"a   b\n\n\n\n{STORED}")
    lines = [json.dumps(BATCH), "", json.dumps({"prompt": "p   q"}), '{"prompt":  "as it is"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_text_is_compacted_and_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result is what `compact` makes; each step and the total tell their savings."""
    assert run_app(["optimize", "page.html", "--compact", "3", "--fit", "60", "-o", "out.txt"]) == 0
    found = (folder / "out.txt").read_text()
    assert "[…]" in found
    assert found.startswith(compact(PAGE, 3).text[:40])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines[:3]] == ["compact 3", "fit 60", "total"]
    assert "-> 60 tokens" in lines[2] or "-> 59 tokens" in lines[2]
    assert lines[3].startswith("(counted with ")
    assert (folder / "page.html").read_text() == PAGE


def test_savings_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line; without -o nothing is written."""
    before = set(folder.iterdir())
    assert run_app(["optimize", "in.jsonl", "--fit", "50", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["step"] for each in told["steps"]] == ["compact 1", "fit 50"]
    assert told["steps"][0]["after"] == told["steps"][1]["before"]
    assert told["total"]["saved"] == sum(each["saved"] for each in told["steps"]) > 0
    assert told["total"]["dropped"] == 3
    assert set(folder.iterdir()) == before


def test_requests_keep_everything_but_their_prompt(folder: Path) -> None:
    """A batch line stays one; a line that does not change stays byte for byte."""
    assert run_app(["optimize", "in.jsonl", "--fit", "50", "-o", "out.jsonl"]) == 0
    one, blank, other, last, end = (folder / "out.jsonl").read_text().split("\n")
    kept = [
        {"role": "user", "content": f"3 {('cat ' * 20).rstrip()}"},
        {"role": "user", "content": "last one"},
    ]
    assert json.loads(one) == {**BATCH, "body": {**TALK, "messages": kept}}
    assert (blank, other, last, end) == ("", '{"prompt":"p q"}', '{"prompt":  "as it is"}', "")


def test_no_file_is_replaced_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the input nor another; with --force it is, as a whole, and keeps its permissions."""
    file = folder / "notes.md"
    before = file.read_text()
    file.chmod(0o640)
    assert run_app(["optimize", "notes.md", "-o", "notes.md"]) == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == before
    assert run_app(["optimize", "notes.md", "-o", "notes.md", "--force"]) == 0
    assert file.read_text() == compact(before).text + "\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        (b'{"prompt": "a"}\n{not json\n', [], "in.jsonl:2 "),
        (b"[1]\n", [], "in.jsonl:1 is not a JSON object but list"),
        (
            b'{"prompt": "%s"}\n' % (b"cat " * 99 + b"cat"),
            ["--fit", "50"],
            "in.jsonl:1 The prompt has 100 tokens",
        ),
        (b"", ["--compact", "0"], "nothing to do"),
        (b"{}", ["-o", "no/where/x"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes, more: list[str], says: str
) -> None:
    """With the line and the numbers; no output is left behind."""
    (folder / "in.jsonl").write_bytes(content)
    assert run_app(["optimize", "in.jsonl", "-o", "out.jsonl", *more]) == 2
    assert says in capsys.readouterr().err
    assert not (folder / "out.jsonl").exists()
    assert run_app(["optimize", "not-there.md"]) == 2


def test_a_file_that_is_no_text_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are no UTF-8 are not guessed at."""
    (folder / "x.md").write_bytes(b"a\xff")
    assert run_app(["optimize", "x.md"]) == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_a_run_sends_shorter_prompts(home: Home) -> None:
    """Each line is compacted and fitted before its call; the summary tells what that saved."""
    long = {"custom_id": "long", "model": "m", "prompt": "cat " * 1_000}
    home.write(json.dumps(BATCH), json.dumps(long))
    done = home.run("--compact", "1", "--fit", "50", "--processes", "1")
    assert done.returncode == 1
    (result,) = home.results()
    assert result["custom_id"] == "b"
    assert result["response"]["body"]["usage"]["prompt_tokens"] < 60
    assert "prompt_too_long" in done.stderr
    assert "3 messages left out" in done.stderr
    assert "saved (" in done.stderr
    assert done.stderr.count("tokens are estimated as bytes/4") <= 1
    assert "Warning" not in done.stderr
    assert home.server.stats()["accepted"] == 1


def test_commands_load_nothing_for_it(home: Home) -> None:
    """A program that shortens no prompt does not load what does."""
    code = "import limiter, sys; limiter.rate_limited; print('limiter.prompts' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=home.env, capture_output=True, text=True,
                          timeout=60, check=True)  # fmt: skip
    assert done.stdout == "False\n"
