"""From what was typed to what a run needs: the quotas, the store, and how many workers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from limiter import config
from limiter.core.quota import Burst, Quota
from limiter.errors import ConfigError

if TYPE_CHECKING:
    from limiter.bulk.settings import Settings
    from limiter.config import Config

OPENAI_URL = "https://api.openai.com/v1"

# Calls that a process makes per second without being the bottleneck, and how long a call may take
# while the rate is still reached: with these, 500 RPM get 125 calls at a time in each of 2 workers.
_PER_PROCESS_PER_S = 100
_CALL_S = 30
_LEAST_CALLS, _MOST_CALLS = 16, 512
# Without a limit on requests: a call's tokens, on the small side, so that there are calls enough.
_TOKENS_PER_CALL = 200
# Without any limit, until it is learned: 150 calls at a time, of which the line lets so many go as it may.
_LEARNED_PER_S = 10.0


def burst(text: str) -> Burst:
    """Read `--burst`.

    Raises:
        ConfigError: it is neither of the two words nor a number.
    """
    if text == "full":
        return "full"
    if text == "smooth":
        return "smooth"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"--burst is full, smooth, or seconds as 12.5; got {text!r:.40}."
        ) from None


def quotas(
    file: Path | None, *, rpm: int | None, tpm: int | None, burst_text: str | None, name: str
) -> tuple[Mapping[str, Quota], Config]:
    """Return the quotas of a run, and the configuration that they may come from.

    Numbers on the command line make one quota of the given name; else the file tells; without a
    file the quota is learned from the provider's answers.

    Raises:
        ConfigError: both are given, or the file has no quota.
    """
    numbers = rpm is not None or tpm is not None
    if numbers and file is not None:
        raise ConfigError("Give either --rpm and --tpm, or --quota FILE, not both.")
    if numbers:
        quota = Quota(name, rpm=rpm, tpm=tpm, burst=burst(burst_text or "full"))
        return {name: quota}, config.Config()
    found = config.load(file)
    if burst_text is not None:
        where = f"; write burst = … into {found.path}" if found.path else ""
        raise ConfigError(f"--burst goes with --rpm and --tpm{where}.")
    if found.path is None:
        return {name: Quota(name)}, found
    if not found.quotas:
        raise ConfigError(
            f"{found.path} has no [quotas.…]. Say what the provider grants: --rpm 500 --tpm 30000, "
            "or --quota FILE with [quotas.gpt-4o-mini] in it."
        )
    return found.quotas, found


def base_url(given: str | None) -> str:
    """Return where the API is: as given, else `OPENAI_BASE_URL`, else OpenAI.

    Raises:
        ConfigError: it is no URL, or it is OpenAI's and there is no key for it.
    """
    url = checked_url(given or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
    is_openai = urlsplit(url).hostname == urlsplit(OPENAI_URL).hostname
    if is_openai and not os.environ.get("OPENAI_API_KEY"):
        raise ConfigError(
            "OPENAI_API_KEY is not set: export it, or pass --base-url for a server without keys."
        )
    return url


def checked_url(given: str) -> str:
    """Return the address of an API, without a slash at its end.

    Raises:
        ConfigError: it is no URL.
    """
    url = given.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"--base-url is written http://host:port/v1, got {url!r:.100}.")
    return url


def quota_name(model: str | None, url: str) -> str:
    """Name the quota of `--rpm` and `--tpm`: the model, and whose it is if not OpenAI's.

    Runs of one model at one provider thereby share their line; a mock server does not take from
    the real quota.
    """
    name = (model or "default").translate({ord("{"): "(", ord("}"): ")"})[:120]
    host = urlsplit(url).netloc.rpartition("@")[2]
    return name if url == OPENAI_URL else f"{name}@{host[:79]}"


def calls_per_s(quota: Quota) -> float:
    """Guess how many calls per second a quota grants in the long run."""
    if quota.learns:
        return _LEARNED_PER_S
    rates = [
        float(limit.rate) * 1e6 / (1 if limit.dimension == "requests" else _TOKENS_PER_CALL)
        for limit in quota.limits
        if limit.per is not None and (limit.dimension == "requests" or "tokens" in limit.dimension)
    ]
    return min(rates, default=1.0)


def processes(given: int | None, per_s: float, *, shared: bool) -> int:
    """Return the number of workers: enough for the rate, two at least, no more than cores.

    Raises:
        ConfigError: several were asked for on a store that they cannot share.
    """
    if not shared and (given or 1) > 1:
        raise ConfigError(
            "memory:// is one process's own, so several would each use the whole quota: leave "
            "out --processes, or give a --url that they can share."
        )
    if not shared:
        return 1
    return given or max(2, min(os.cpu_count() or 2, math.ceil(per_s / _PER_PROCESS_PER_S)))


def concurrency(given: int | None, per_s: float, workers: int) -> int:
    """Return the calls under way in each worker: enough for slow calls at the full rate."""
    return given or min(_MOST_CALLS, max(_LEAST_CALLS, math.ceil(per_s * _CALL_S / workers)))


def check_cache(settings: Settings) -> None:
    """Check a run's cache before any worker opens it.

    Raises:
        ConfigError: its URL is wrong, or a library is missing.
    """
    if settings.cached:
        from limiter.cache import Cache

        Cache(settings.cache_url, ttl=settings.cache_ttl_s)
