"""What a call asks its driver to do, one step at a time; nothing of it is done here."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from limiter.cache.flights import Flight
    from limiter.cache.looking import Found
    from limiter.cache.policy import Question
    from limiter.providers import Verdict
    from limiter.transport.attempt import Attempt

T = TypeVar("T")

# Httpx's requests, responses, streams and transports: two unrelated families of the same shape.
Http = Any

# An error says what it has to say in less; of a longer one the rest is passed on unread.
ERROR_MAX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Reserve:
    """Ask for a reservation; `asked` is what else the line is asked for."""

    attempt: Attempt
    asked: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request; the answer is its response."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read the body of an error into memory; the answer is a `Told`."""

    response: Http
    follow: Follow


@dataclass(frozen=True, slots=True)
class Report:
    """Let the fleet know what an answer means."""

    held: Any
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Settle:
    """End a reservation; None: nothing was used."""

    held: Any
    used: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the cache; the answer is what was found, and the flight of a call that is to be stored."""

    question: Question


@dataclass(frozen=True, slots=True)
class Serve:
    """Make a response of what was found."""

    found: Found


@dataclass(frozen=True, slots=True)
class Refresh:
    """Make the call of a flight beside the caller, who has an answer already."""

    flight: Flight
    attempt: Attempt | None


@dataclass(frozen=True, slots=True)
class Leave:
    """End a flight without an answer."""

    flight: Flight


class Told(NamedTuple):
    """Hold the body of an error.

    Attributes:
        content: without its coding; None: it cannot be read.
        is_whole: False: it is longer than was read, and the rest is still to come.
    """

    content: bytes | None
    is_whole: bool = True


class Follow(NamedTuple):
    """Hold what is left to do while the caller reads a response.

    Attributes:
        late: what is to be reported when the reservation was settled; None: nothing.
    """

    attempt: Attempt
    held: Any
    late: Verdict | None = None


OfLimiter = Reserve | Send | Read | Report | Settle | Pause
OfCache = Look | Serve | Refresh | Leave
Effect = OfLimiter | OfCache
Steps = Generator[Effect, Any, T]
