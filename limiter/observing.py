"""What a program's own objects tell of a provider's answer: responses, exceptions, headers.

SDKs differ in their classes and agree in few attributes; these are read, nothing is imported, and
what is not understood says nothing. Nothing here raises, waits or reads from a connection: of a
body only what was read already counts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from limiter.errors import LimiterError
from limiter.providers import judge, no_answer
from limiter.providers.verdict import Verdict

# What the clients of HTTP raise when there is no answer: module and class, as far as the name alone
# would not do. openai's and anthropic's are called APIConnectionError alike.
_NO_ANSWER = frozenset({
    ("httpx", "TransportError"), ("httpx2", "TransportError"),
    ("requests", "ConnectionError"), ("requests", "Timeout"),
    ("aiohttp", "ClientConnectionError"), ("botocore", "HTTPClientError"),
    ("builtins", "ConnectionError"),
})  # fmt: skip
# Raised for reasons of the caller's own: a wrong URL, a pool that is too small.
_OWN = frozenset({"LocalProtocolError", "PoolTimeout", "UnsupportedProtocol"})
_CAUSES_MAX = 10


def verdict_of(answer: object, status: int = 200, provider: str = "openai") -> Verdict | None:
    """Say what an answer means; None: it says nothing.

    Args:
        answer: a response with headers, an exception, or headers alone.
        status: that headers alone came with.
        provider: whose they are.
    """
    try:
        if isinstance(answer, BaseException):
            return _of_error(answer, provider)
        if isinstance(answer, Verdict):
            return answer
        if isinstance(answer, Mapping) and type(status) is int:
            return judge(status, answer, provider=provider)
        return _of_response(answer, None, provider)
    except Exception:  # noqa: BLE001 - attributes are other people's code
        return None


def verdict_of_result(result: object, provider: str = "openai") -> Verdict | None:
    """Say what a response means that a call returned; None: it is none that carries headers."""
    try:
        return _of_response(result, None, provider)
    except Exception:  # noqa: BLE001 - as above
        return None


def _of_error(error: BaseException, provider: str) -> Verdict | None:
    if isinstance(error, LimiterError) or not isinstance(error, Exception):
        return None  # no provider was asked, or it was reported where it was asked
    response = getattr(error, "response", None)
    body = getattr(error, "body", None)
    if response is not None or hasattr(error, "headers"):
        return _of_response(error if response is None else response, body, provider)
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status < 600:
        return judge(status, {}, body, provider=provider)
    return no_answer(error) if is_unanswered(error) else None


def _of_response(response: object, body: object, provider: str) -> Verdict | None:
    headers, status = getattr(response, "headers", None), _status(response)
    if not isinstance(headers, Mapping) or status is None or 300 <= status < 400:
        return None
    if body is None and status >= 400:
        body = _body_read(response)
    return judge(status, headers, body, provider=provider, path=_path(response))


def _status(response: object) -> int | None:
    """Return the status of HTTP; aiohttp's word for it is another."""
    for name in ("status_code", "status"):
        status = getattr(response, name, None)
        if type(status) is int:
            return status
    return None


def _body_read(response: object) -> object:
    # httpx and requests keep a body that was read under one name; asking for `content` would read.
    return getattr(response, "content", None) if getattr(response, "_content", None) else None


def _path(response: object) -> str:
    try:
        url = getattr(response, "url", "")
        path = getattr(url, "path", None)
    except RuntimeError:  # httpx: a response that knows of no request
        return ""
    return path if isinstance(path, str) else str(url)


def is_unanswered(error: BaseException) -> bool:
    """Say whether an exception of a client of HTTP tells that there was no answer."""
    cause: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if cause is None:
            break
        if any(kind.__name__ in _OWN for kind in type(cause).__mro__):
            return False
        cause = cause.__cause__
    return any(
        kind.__name__ == "APIConnectionError"
        or (kind.__module__.partition(".")[0], kind.__name__) in _NO_ANSWER
        for kind in type(error).__mro__
    )


def was_repeated(error: BaseException) -> bool:
    """Say whether the SDK that raised this has repeated the call already, by what it sent last."""
    try:
        holder = getattr(error, "response", None) or error
        return is_repeat(getattr(getattr(holder, "request", None), "headers", None))
    except Exception:  # noqa: BLE001 - as above
        return False


def is_repeat(headers: object) -> bool:
    """Say whether a request is a repeat of an SDK: openai's and anthropic's count them."""
    if not isinstance(headers, Mapping):
        return False
    count = headers.get("x-stainless-retry-count")
    return isinstance(count, str) and count.isdecimal() and int(count) > 0


def payload_of(response: object) -> object:
    """Return what a raw response holds, where its body was read; else the response itself."""
    try:
        if isinstance(getattr(response, "headers", None), Mapping) and _is_read(response):
            for name in ("parse", "json"):
                read = getattr(response, name, None)
                if callable(read) and not inspect.iscoroutinefunction(read):
                    return read()
    except Exception:  # noqa: BLE001 - no JSON, or none that its model takes
        return response
    return response


def _is_read(response: object) -> bool:
    return bool(getattr(response, "is_closed", True))
