"""`limiter tokens`: files of texts, bodies and batches, as a table and as JSON."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest

from limiter.cli import main
from limiter.tokens import count_request, vocabulary

HI = [{"role": "user", "content": "hello there"}]
BODY = {"model": "gpt-4o", "messages": HI}
BATCH = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"input": "hello"}}


@pytest.fixture(autouse=True)
def no_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every vocabulary be absent: a token is four bytes, and counts are known by hand."""
    found = dict.fromkeys(("o200k_base", "cl100k_base"))
    monkeypatch.setattr(vocabulary._loaded, "encodings", found)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["tokens", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    code, out, err = run(capsys, "--json", *arguments)
    assert (code, err, out.count("\n")) == (0, "", 1)
    return json.loads(out)


def test_a_text_file_is_its_tokens(folder, capsys):
    """Text and Markdown are counted as they are, with their characters, and no requests."""
    (folder / "a.md").write_text("# Hé\n" * 4, encoding="utf-8")
    code, out, err = run(capsys, "a.md")
    assert (code, err) == (0, "")
    head, row, *notes = out.splitlines()
    assert head.split() == [
        "file",
        "kind",
        "tokens",
        "characters",
        "requests",
        "min",
        "median",
        "max",
    ]
    assert row.split() == ["a.md", "text", "6", "20", "-", "-", "-", "-", "estimated"]
    assert notes == [
        "texts are counted for gpt-4o",
        "estimated: without a vocabulary a token is taken for 4 bytes of UTF-8",
    ]


def test_lines_are_counted_one_by_one(folder, capsys):
    """Batch lines, bare bodies and bare prompts, with their sum and their spread."""
    lines = [BATCH, BODY, {"prompt": "hello there", "custom_id": "c"}, BODY | {"stream": True}]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (folder / "a.jsonl").write_text("\ufeff" + text + "\n", encoding="utf-8")
    (row,) = found(capsys, "a.jsonl", "--model", "gpt-4o")
    chat, response = count_request(BODY), count_request(BATCH["body"], None, "gpt-4o")
    each = [response.total, *[chat.total] * 3]
    assert (row["kind"], row["requests"], row["tokens"]) == ("requests", 4, sum(each))
    assert (row["min"], row["median"], row["max"]) == (min(each), each[1], max(each))
    assert row["tokens"] == row["text"] + row["framing"] + row["tools"] + row["images"]


def test_a_line_end_of_unicode_ends_no_line(folder, capsys):
    """U+2028 may stand in JSON as it is."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "a\u2028b"}]}
    (folder / "a.jsonl").write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")
    assert found(capsys, "a.jsonl")[0]["requests"] == 1


@pytest.mark.parametrize(
    ("content", "kind", "requests"),
    [
        (BODY, "request", 1),
        (BATCH, "request", 1),
        (HI, "messages", 1),
        ([BODY, BATCH], "requests", 2),
        ({"a": 1}, "text", None),
        ([1, 2], "text", None),
    ],
    ids=str,
)
def test_a_json_file_is_what_is_in_it(folder, capsys, content, kind, requests):
    """A body, a Batch line, messages, several bodies; other JSON is a text."""
    (folder / "a.json").write_text(json.dumps(content))
    (row,) = found(capsys, "a.json")
    assert (row["kind"], row["requests"]) == (kind, requests)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hello\n", "text"),
        (json.dumps(BODY, indent=2), "request"),
        (json.dumps(BODY) + "\n" + json.dumps(BATCH), "requests"),
        (json.dumps(BODY) + "\n", "request"),
        ("", "text"),
    ],
)
def test_the_input_is_told_by_its_content(monkeypatch, capsys, text, kind):
    """`-` is lines, a body or a text, by what comes."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    (row,) = found(capsys, "-")
    assert (row["file"], row["kind"]) == ("-", kind)


def test_several_files_have_a_sum(folder, capsys):
    """A row for each file, in their order, then all of them."""
    (folder / "a.txt").write_text("abcd" * 300)
    (folder / "b.txt").write_text("abcd" * 1000)
    rows = run(capsys, "a.txt", "b.txt")[1].splitlines()
    assert [row.split()[0] for row in rows[1:3]] == ["a.txt", "b.txt"]
    assert rows[3].split() == ["in", "all", "1,300", "5,200"]


def test_the_model_decides(folder, capsys):
    """`--model` is of texts and of requests that name none; an unknown one is said, not warned."""
    (folder / "a.txt").write_text("abcd")
    out = run(capsys, "a.txt", "--model", "llama-9")
    assert out[0] == 0
    assert out[2] == ""
    assert "texts are counted for llama-9" in out[1]
    assert "the encoding of 'llama-9' is not known" in out[1]


@pytest.mark.parametrize(
    ("data", "characters", "doubted"),
    [
        ("héllo".encode("utf-8-sig"), 5, False),
        ("héllo".encode("utf-16"), 5, False),
        ("héllo".encode("utf-32"), 5, False),
        ("héllo".encode("cp1252"), 5, True),
        (b"\x1b[31mred\x1b[0m\n", 13, False),
        (b"", 0, False),
    ],
)
def test_odd_encodings_are_read(folder, capsys, data, characters, doubted):
    """Marked UTF-8, UTF-16 and UTF-32 are text; what is no UTF-8 is taken for Windows-1252."""
    (folder / "a.txt").write_bytes(data)
    (row,) = found(capsys, "a.txt")
    assert row["characters"] == characters
    assert any("Windows-1252" in why for why in row["assumptions"]) == doubted


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("none.txt", None, "none.txt: cannot be read (No such file or directory)"),
        (".", None, ".: cannot be read (Is a directory)"),
        ("a.txt", b"\x7fELF\0\0", "a.txt: is binary"),
        ("a.txt", b"words " * 99 + b"\0", "a.txt: is binary"),
        ("a.gz", bytes(i * 97 % 255 + 1 for i in range(2000)), "a.gz: is binary"),
        ("a.json", b'{"a": ', "a.json: is not JSON"),
        ("a.jsonl", json.dumps(BODY).encode() + b"\n\n{oops\n", "a.jsonl:3: is not JSON"),
        ("a.jsonl", b'{"question": "a"}\n', "a.jsonl:1: is no request"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: is no request"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: is not JSON"),
    ],
)
def test_what_cannot_be_counted_is_named(folder, capsys, name, data, says):
    """A missing file, a binary one and a bad line end the command with 2, and say where."""
    if data is not None:
        (folder / name).write_bytes(data)
    code, out, err = run(capsys, name)
    assert (code, out) == (2, "")
    assert err.startswith(f"limiter: {says}")


def test_a_name_need_not_be_text(folder, capsys):
    """A file name that is no UTF-8 is shown with escapes."""
    name = b"\xff.txt".decode(errors="surrogateescape")
    (folder / name).write_text("abcd")
    assert run(capsys, name)[1].splitlines()[1].startswith(r"\udcff.txt  text")


def test_the_estimate_is_by_bytes(folder, capsys):
    """Without a vocabulary the tokens of a text are its bytes / 4, rounded up."""
    for size in (1, 4, 5, 1001):
        (folder / "a.txt").write_text("x" * size)
        assert found(capsys, "a.txt")[0]["tokens"] == math.ceil(size / 4)
