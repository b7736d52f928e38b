"""The process-wide default limiter: `LIMITER_URL`, and the quotas of `limiter.toml`."""

from __future__ import annotations

import atexit
import os
import threading

from limiter.api import Limiter

_lock = threading.Lock()
_default: Limiter | None = None
_pid = 0


def default_limiter() -> Limiter:
    """Return the limiter that is used where none is named; made when first asked for.

    Raises:
        ConfigError: `limiter.toml` or `LIMITER_URL` is wrong.
    """
    global _default, _pid
    with _lock:
        if _default is None:
            from limiter import config

            settings = config.load()
            url = os.environ.get("LIMITER_URL") or settings.url
            _default, _pid = Limiter(url, quotas=settings.quotas.values()), os.getpid()
            atexit.register(close_default)
        return _default


def close_default() -> None:
    """Close the default limiter; the next use makes a new one."""
    global _default  # noqa: PLW0603
    with _lock:
        if _default is not None and _pid == os.getpid():
            _default.close()
        _default = None
