"""The limiter's errors as the openai client lets them through: as they are, after one attempt.

openai 2.x retries and wraps whatever a transport raises, unless it is an `OpenAIError`; 3.x passes
foreign exceptions on. So each error has here a class that is both, and bears the same name. A call
that failed for good is also what openai's own retries would have ended in: `CallFailed` and
`openai.RateLimitError`. The classes are made when first needed, and only where openai is in use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from limiter import errors
from limiter.errors import CallFailed, LimiterError

# What openai makes of a status (its client's `_make_status_error`, 2.54 and 3.57); of others an
# APIStatusError, from 500 on an InternalServerError.
_BY_STATUS = {
    400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError",
    404: "NotFoundError", 409: "ConflictError", 422: "UnprocessableEntityError",
    429: "RateLimitError",
}  # fmt: skip
_UNANSWERED = ("APIConnectionError", "APITimeoutError")
_FAILED_AS = frozenset({
    *_BY_STATUS.values(), *_UNANSWERED, "APIStatusError", "InternalServerError",
})  # fmt: skip
_AS = "CallFailed_"


def _kinds() -> dict[str, type[LimiterError]]:
    found = vars(errors).values()
    return {
        kind.__name__: kind
        for kind in found
        if isinstance(kind, type) and issubclass(kind, LimiterError)
    }


def __getattr__(name: str) -> Any:
    """Make a class when it is first asked for, so that pickles find it in another process."""
    if name.removeprefix(_AS) in _FAILED_AS and name.startswith(_AS):
        return globals().setdefault(name, _failed_as(name))
    kind = _kinds().get(name)
    if kind is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from openai import OpenAIError

    made = type(name, (kind, OpenAIError), {"__module__": __name__, "__doc__": kind.__doc__})
    return globals().setdefault(name, made)


def _failed_as(name: str) -> type[CallFailed]:
    """Make a class that is `CallFailed` and one of openai's."""
    import openai

    names = {"__module__": __name__, "__doc__": CallFailed.__doc__, "__init__": _init}
    return type(name, (CallFailed, getattr(openai, name.removeprefix(_AS))), names)


def _init(self: Any, message: str, **numbers: Any) -> None:
    """Set what both parents promise; openai's own `__init__` wants a response, which may be gone."""
    Exception.__init__(self, message)
    self.numbers, self.message = numbers, message
    # Those of openai that are defaults of its classes would hide our numbers.
    self.code = numbers.get("code")
    if status := numbers.get("status"):
        self.status_code = status
    response = self.response = numbers.get("response")
    self.request_id = None if response is None else response.headers.get("x-request-id")
    self.body = _body(response)
    told = self.body if isinstance(self.body, Mapping) else {}
    self.param, self.type = told.get("param"), told.get("type")
    if response is not None:
        self.request = response.request


def _body(response: Any) -> Any:
    """Return what openai's errors call their body: the error itself, or the text."""
    if response is None or not hasattr(response, "_content"):
        return None
    try:
        body = json.loads(response.text)
    except (ValueError, RecursionError):
        return response.text
    return body.get("error", body) if isinstance(body, Mapping) else body


def is_openai(headers: Mapping[str, str]) -> bool:
    """Say whether a request was made by openai's client; its generator makes others, too."""
    is_stainless = "x-stainless-lang" in headers
    return is_stainless and "openai" in sys.modules and "anthropic-version" not in headers


def is_other_sdk(headers: Mapping[str, str]) -> bool:
    """Say whether a request was made by a client that repeats calls, and is not openai's."""
    return "x-stainless-lang" in headers and not is_openai(headers)


def through_openai(error: LimiterError, request: Any = None) -> LimiterError:
    """Return `error` as a class that `except limiter.…` and `except openai.OpenAIError` catch."""
    name = type(error).__name__
    if "openai" not in sys.modules or name not in _kinds():
        return error
    if isinstance(error, CallFailed):
        if request is None or not is_openai(request.headers):
            return error
        name = _AS + _failure_of(error)
    kind: type[LimiterError] = getattr(sys.modules[__name__], name)
    made = kind(error.args[0], **error.numbers)
    if isinstance(error, CallFailed):
        made.request = request  # type: ignore[attr-defined]  # of openai's errors
    return made


def _failure_of(error: CallFailed) -> str:
    if not error.status:
        return _UNANSWERED["Timeout" in error.code]
    other = "InternalServerError" if error.status >= 500 else "APIStatusError"
    return _BY_STATUS.get(error.status, other)
