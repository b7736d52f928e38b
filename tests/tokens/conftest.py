"""Vocabularies for the tests: none, one of single bytes, or a real one where it is installed."""

from __future__ import annotations

import warnings

import pytest
import tiktoken

from limiter import tokens
from limiter.tokens import vocabulary


def bytes_encoding() -> tiktoken.Encoding:
    """Return an encoding in which each byte is a token, so that tokens are counted by hand."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    return tiktoken.Encoding("bytes", pat_str="(?s:.+)", mergeable_ranks=ranks, special_tokens={})


@pytest.fixture
def nothing_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Forget what was loaded and warned, and look for vocabularies in an empty place."""
    monkeypatch.setattr(vocabulary._loaded, "encodings", {})
    monkeypatch.setattr(vocabulary._loaded, "warned", set())
    monkeypatch.setattr(vocabulary, "_CARRIERS", {})
    monkeypatch.setattr(vocabulary.tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)


@pytest.fixture
def by_bytes(nothing_loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every encoding the vocabulary of single bytes."""
    found = dict.fromkeys(("o200k_base", "cl100k_base"), bytes_encoding())
    monkeypatch.setattr(vocabulary._loaded, "encodings", found)


@pytest.fixture
def real() -> None:
    """Skip where no wheel or cache of this machine has the vocabularies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if not all(map(tokens.encoding_for, ("gpt-4o", "gpt-4"))):
            pytest.skip("no vocabulary is installed: llm-limiter[tokens] has one")
