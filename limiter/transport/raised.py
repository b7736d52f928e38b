"""The limiter's errors as the openai client lets them through: as they are, after one attempt.

openai 2.x retries and wraps whatever a transport raises, unless it is an `OpenAIError`; 3.x passes
foreign exceptions on. So each error has here a class that is both, and bears the same name. They
are made when first needed, and only where openai is in use.
"""

from __future__ import annotations

import sys
from typing import Any

from limiter import errors
from limiter.errors import LimiterError


def _kinds() -> dict[str, type[LimiterError]]:
    found = vars(errors).values()
    return {
        kind.__name__: kind
        for kind in found
        if isinstance(kind, type) and issubclass(kind, LimiterError)
    }


def __getattr__(name: str) -> Any:
    """Make a class when it is first asked for, so that pickles find it in another process."""
    kind = _kinds().get(name)
    if kind is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from openai import OpenAIError

    made = type(name, (kind, OpenAIError), {"__module__": __name__, "__doc__": kind.__doc__})
    return globals().setdefault(name, made)


def through_openai(error: LimiterError) -> LimiterError:
    """Return `error` as a class that `except limiter.…` and `except openai.OpenAIError` catch."""
    name = type(error).__name__
    if "openai" not in sys.modules or name not in _kinds():
        return error
    kind: type[LimiterError] = getattr(sys.modules[__name__], name)
    return kind(error.args[0], **error.numbers)
