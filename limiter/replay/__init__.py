"""Turn stored answers into streams, and streams into answers: without loss, or not at all.

Pure: bytes and JSON in, bytes and JSON out, nothing does I/O or reads a clock. No function here
raises, whatever it is given; None says that the other form cannot be told, and the caller asks
the provider as if nothing were stored. Time is linear in the size of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from limiter.providers.endpoints import Endpoint
from limiter.replay import choices, messages, responses
from limiter.replay.chat import CHAT
from limiter.replay.completions import COMPLETIONS
from limiter.replay.frames import DONE, Frame, frames, written
from limiter.replay.loss import Loss, Payload, kind_of, storable

__all__ = ["as_asked", "assemble", "has_usage", "render"]


class _Form(NamedTuple):
    """Say how an API tells one answer in both ways.

    Attributes:
        ends: the types of the events that end a stream; without any, `[DONE]` does.
    """

    fold: Callable[[Sequence[Payload]], Payload]
    unfold: Callable[[Payload], Iterator[Payload]]
    ends: frozenset[str] = frozenset()


_FORMS: Mapping[Endpoint | None, _Form] = {
    "chat": _Form(partial(choices.fold, CHAT), partial(choices.unfold, CHAT)),
    "completions": _Form(partial(choices.fold, COMPLETIONS), partial(choices.unfold, COMPLETIONS)),
    "responses": _Form(responses.fold, responses.unfold, responses.ENDS),
    "messages": _Form(messages.fold, messages.unfold, messages.ENDS),
}


def assemble(endpoint: Endpoint | None, events: bytes) -> dict[str, Any] | None:
    """Return the answer that a stream's whole body amounts to, as the endpoint gives it unstreamed.

    It has what the stream told and nothing else: where no usage was asked for, it has none (see
    `has_usage`), and fields that streams leave out when empty are absent.

    Returns:
        None where the stream is cut, tells of an error, or could mean more than one answer.
    """
    form = _FORMS.get(endpoint)
    if form is None:
        return None
    try:
        payloads = [frame.payload for frame in _whole(form, events)]
        return storable(form.fold([told for told in payloads if told is not None]))
    except (Loss, RecursionError):
        return None


def render(
    endpoint: Endpoint | None, answer: Mapping[str, Any], *, include_usage: bool
) -> list[bytes] | None:
    """Return the events that a stream of an answer would be, the last one its end.

    What is returned was read back, and is the answer: field by field, but for a usage that was
    not asked for.

    Args:
        endpoint: of the call, as `limiter.providers.endpoints` names it.
        answer: the body of an unstreamed answer.
        include_usage: what the caller's `stream_options` say; means nothing where streams always
            tell their usage (Responses, Messages).

    Returns:
        None where that cannot be, and where a usage is asked for that the answer has not.
    """
    form = _FORMS.get(endpoint)
    if form is None:
        return None
    given = dict(answer)
    if not form.ends:
        if include_usage and not has_usage(endpoint, given):
            return None
        if not include_usage:
            given.pop("usage", None)
    try:
        payloads = list(form.unfold(storable(given)))
        if form.fold(payloads) != given:
            return None
        events = [written(payload, is_named=bool(form.ends)) for payload in payloads]
    except (Loss, RecursionError):
        return None
    return events if form.ends else [*events, DONE]


def as_asked(
    endpoint: Endpoint | None, events: bytes, *, include_usage: bool
) -> list[bytes] | None:
    """Return a recorded stream's events for a caller who wants the usage chunk, or does not.

    Each event keeps its bytes. Usage in a chunk that has choices, too, as some servers send it
    unasked, stays there.

    Returns:
        None where the stream is cut or tells of an error, and where the usage is asked for but
        not there.
    """
    form = _FORMS.get(endpoint)
    if form is None:
        return None
    try:
        told = _whole(form, events)
    except (Loss, RecursionError):
        return None
    if form.ends:
        return [frame.raw for frame in told]
    if include_usage and not any(_usage(frame) for frame in told):
        return None
    return [frame.raw for frame in told if include_usage or not (_usage(frame) and _is_bare(frame))]


def has_usage(endpoint: Endpoint | None, answer: Mapping[str, Any]) -> bool:
    """Say whether an answer tells its usage, so that it can serve a caller who reads it."""
    return endpoint in _FORMS and isinstance(answer.get("usage"), Mapping)


def _whole(form: _Form, events: bytes) -> list[Frame]:
    """Cut a stream into its events.

    Raises:
        Loss: its end is missing, is not at the end, or comes twice.
    """
    told = list(frames(events))
    ends = [at for at, frame in enumerate(told) if _is_end(form, frame)]
    # Some servers of OpenAI's shape end every stream by `[DONE]`, those of Responses, too.
    spare = 1 if form.ends and told and told[-1].payload is None else 0
    if ends != [len(told) - 1 - spare] or sum(frame.payload is None for frame in told) > 1:
        raise Loss
    return told


def _is_end(form: _Form, frame: Frame) -> bool:
    if frame.payload is None:
        return not form.ends
    return kind_of(frame.payload) in form.ends


def _usage(frame: Frame) -> bool:
    return frame.payload is not None and isinstance(frame.payload.get("usage"), dict)


def _is_bare(frame: Frame) -> bool:
    return frame.payload is not None and frame.payload.get("choices") == []
