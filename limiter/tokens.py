"""How many tokens a text or a chat prompt is, with tiktoken, and never over the network.

tiktoken carries no vocabulary: it downloads one at first use, without a timeout, and deletes a
cached file that does not match. So the file is looked up, checked and parsed here, and tiktoken
only gets the result. Where no vocabulary is found, a token is taken for 4 bytes of UTF-8.
Admission needs none of this: OpenAI itself counts bytes/4 there (`limiter.providers`).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limiter.providers.content import SPOKEN, measure, texts

if TYPE_CHECKING:
    import tiktoken

DEFAULT_ENCODING = "o200k_base"

# Wheels that carry tiktoken's cache files, as folders below their top package.
_CARRIERS = {
    "llama_index": "core/_static/tiktoken_cache",
    "litellm": "litellm_core_utils/tokenizers",
}

# Families newer than the installed tiktoken's table, all on o200k_base.
_KNOWN_O200K = re.compile(r"(ft:)?(gpt-(4\.\d|[5-9]|realtime|audio|image)|o\d|codex|chatgpt)")

# Their prompts are billed one token less than the formula of the others says: 2 instead of 3
# for the reply's start (11 of 11 recordings of gpt-5*, gpt-5.6 and o3-mini; o3, o4 and gpt-6 are
# taken to be alike).
_SHORT_PRIMING = re.compile(r"(ft:)?(gpt-[5-9]|o[3-9])")

_lock = threading.Lock()
_encodings: dict[str, tiktoken.Encoding | None] = {}
_warned: set[str] = set()


def count(content: str | Sequence[Any], model: str = "gpt-4o") -> int:
    """Return the tokens of a text, or the prompt tokens of a list of chat messages.

    Messages: 3 + for each 3 + role + content (+ 1 + name); exact against billed usage on 434 of
    434 recorded text-only calls of gpt-3.5-turbo to gpt-4.1, one less from gpt-5 on. Images, tools
    and tool calls are not counted. The first call of a process parses the vocabulary (0.5 s,
    70 MB); later ones take about 0.3 ms for 1,000 tokens.

    Warns:
        RuntimeWarning: once, when there is no vocabulary and bytes/4 is the answer.
    """
    encoding = encoding_for(model)
    if isinstance(content, str):
        return _tokens(encoding, content)
    priming = 2 if _SHORT_PRIMING.match(model) else 3
    return priming + sum(_message_tokens(encoding, message) for message in content)


def _message_tokens(encoding: tiktoken.Encoding | None, message: object) -> int:
    if not isinstance(message, Mapping):
        return 3 + sum(_tokens(encoding, text) for text in texts(message, SPOKEN))
    tokens = 3 + _tokens(encoding, str(message.get("role") or ""))
    tokens += sum(_tokens(encoding, text) for text in texts(message.get("content"), SPOKEN))
    name = message.get("name")
    return tokens + (1 + _tokens(encoding, name) if isinstance(name, str) else 0)


def _tokens(encoding: tiktoken.Encoding | None, text: str) -> int:
    if encoding is None:
        return -(-measure(text).text_bytes // 4)
    return len(encoding.encode_ordinary(text))


def encoding_for(model: str) -> tiktoken.Encoding | None:
    """Return the encoding of a model, loaded once; None (with one warning) without vocabulary.

    Never opens a connection, whatever is missing or broken on disk.
    """
    name = encoding_name(model)
    with _lock:
        if name not in _encodings:
            _encodings[name] = _load(name)
    encoding = _encodings[name]
    if encoding is None:
        _warn_once(
            "vocabulary",
            f"No vocabulary file of {name} was found, so tokens are estimated as bytes/4: install "
            "llm-limiter[tokens], or point TIKTOKEN_CACHE_DIR to tiktoken's cache files.",
            frames=4,
        )
    return encoding


def encoding_name(model: str) -> str:
    """Return the name of a model's encoding; o200k_base, with one warning, for unknown models."""
    import tiktoken.model

    try:
        return str(tiktoken.model.encoding_name_for_model(model))
    except KeyError:
        pass
    if not _KNOWN_O200K.match(model):
        _warn_once(
            f"model {model}",
            f"The encoding of the model {model!r:.80} is unknown: {DEFAULT_ENCODING} is used.",
            frames=5,
        )
    return DEFAULT_ENCODING


def _warn_once(key: str, message: str, *, frames: int) -> None:
    with _lock:
        is_new = key not in _warned and len(_warned) < 100
        if is_new:
            _warned.add(key)
    if is_new:
        warnings.warn(message, RuntimeWarning, stacklevel=frames)


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
    file_name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    for directory in vocabulary_dirs():
        data = _bytes(directory / file_name)
        if data is not None and hashlib.sha256(data).hexdigest() == expected_hash:
            lines = (line.split() for line in data.splitlines() if line)
            return {base64.b64decode(token): int(rank) for token, rank in lines}
    raise FileNotFoundError(f"No directory holds {file_name}, the vocabulary of {url}.")


def _bytes(path: Path) -> bytes | None:
    try:  # a FIFO of that name would block for ever
        return path.read_bytes() if path.is_file() else None
    except OSError:
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
