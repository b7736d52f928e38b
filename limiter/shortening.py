"""What `@rate_limited(compact=, fit=)` does to a call's arguments before anything else.

Loads `limiter.prompts` only where one of them is asked for. Never changes what the caller holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Shorten = Callable[[tuple[Any, ...], dict[str, Any]], Arguments]

_PROMPTS = ("messages", "input", "prompt")


def shortening(function: Callable[..., Any], compact: int, fit: int | None) -> Shorten:
    """Return what makes the arguments of a function's call shorter.

    The tokens are those of the argument `model`, where there is one.

    Raises:
        ConfigError: there is no such level, or `fit` is no number of tokens. A call raises it
            where what must stay does not fit.
    """
    if compact == 0 and fit is None:
        return _as_they_are
    from limiter.prompts.body import check_options, optimize_body

    check_options(compact, fit)
    signature = inspect.signature(function)

    def shorten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        bound = signature.bind(*args, **kwargs)
        given = {name: bound.arguments[name] for name in _PROMPTS if name in bound.arguments}
        model = bound.arguments.get("model")
        named = model if isinstance(model, str) else None
        shorter, _ = optimize_body(given, compact=compact, fit=fit, model=named)
        bound.arguments.update(shorter)
        return bound.args, bound.kwargs

    return shorten


def _as_they_are(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return args, kwargs
