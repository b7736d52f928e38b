"""What a mock server does, as one value. The command line's flags are made from its fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limiter.errors import ConfigError
from limiter.mock.call import CHARGES
from limiter.mock.headers import FAMILIES
from limiter.mock.meters import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = ("auto", "yes", "no")

# The first field of each group of flags, with the group's title.
GROUPS = {
    "rpm": "limits",
    "latency_s": "answers",
    "error_rate": "faults, at random",
    "host": "address",
}


def _number_or_none(text: str) -> int | None:
    return None if text == "none" else int(text)


def _share_or_none(text: str) -> float | None:
    return None if text == "none" else float(text)


def _option(default: Any, parse: Callable[[str], Any], about: str) -> Any:
    return field(default=default, metadata={"parse": parse, "about": about})


@dataclass(frozen=True, slots=True)
class MockConfig:
    """Say what the mock server enforces, how it charges, how fast and how well it answers.

    Raises:
        ConfigError: a value makes no sense; the message says which would.
    """

    rpm: int | None = _option(500, _number_or_none, "requests per period, or none")
    tpm: int | None = _option(30_000, _number_or_none, "tokens per period, or none")
    period_s: float = _option(60.0, float, "the period of rpm and tpm, in seconds")
    model: str = _option("bucket", str, f"how limits are enforced: {', '.join(MODELS)}")
    charge: str = _option(
        "admission",
        str,
        "what a call costs: " + ", ".join(f"{name} ({about})" for name, about in CHARGES.items()),
    )
    charge_refusals: bool = _option(default=False, parse=bool, about="a 429 costs one request")
    headers: str = _option(
        "openai", str, f"whose headers tell of the limits: {', '.join(FAMILIES)}"
    )
    message: str = _option(
        "auto",
        str,
        f"whether a 429's message has limit, use and wait: {', '.join(MESSAGES)}; "
        "auto is no with headers none, else yes",
    )
    per_model: bool = _option(default=False, parse=bool, about="limits hold for each model")
    max_concurrency: int | None = _option(
        None, _number_or_none, "calls at once, or none; what is above gets a 429 without a hint"
    )
    latency_s: float = _option(0.0, float, "mean time to the first token, in seconds")
    token_latency_s: float = _option(0.0, float, "time for each token of the answer, in seconds")
    jitter: float = _option(
        0.0, float, "share by which latencies, and answers by answer-share, vary up and down"
    )
    answer_tokens: int = _option(129, int, "median length of an answer")
    answer_share: float | None = _option(
        None, _share_or_none, "length of an answer as a share of max_tokens, where a call sets that"
    )
    seed: int = _option(0, int, "answers, latencies and faults follow from it")
    error_rate: float = _option(0.0, float, "share of admitted calls that get a 500")
    overload_rate: float = _option(0.0, float, "share of admitted calls that get a 503")
    slow_down_rate: float = _option(0.0, float, "share of admitted calls that get a slow_down 429")
    cut_rate: float = _option(0.0, float, "share of admitted calls whose connection is cut")
    host: str = _option("127.0.0.1", str, "address to listen on")
    port: int = _option(0, int, "port to listen on; 0 is any free one")
    uds: str | None = _option(None, str, "unix socket to listen on, instead of a port")

    def __post_init__(self) -> None:
        _check_choice("model", self.model, tuple(MODELS))
        _check_choice("charge", self.charge, tuple(CHARGES))
        _check_choice("headers", self.headers, tuple(FAMILIES))
        _check_choice("message", self.message, MESSAGES)
        for name in ("rpm", "tpm", "max_concurrency"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ConfigError(f"{name}={limit} admits nothing: give 1 or more, or None")
        if self.period_s < 0.001:
            raise ConfigError(f"period_s={self.period_s} is too short: give 0.001 or more")
        if self.answer_tokens < 1:
            raise ConfigError(f"answer_tokens={self.answer_tokens} must be 1 or more")
        for name in ("latency_s", "token_latency_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} is negative: give 0 or more")
        if self.answer_share is not None and not 0 < self.answer_share <= 1:
            raise ConfigError(f"answer_share={self.answer_share} is no share: give above 0, to 1")
        self._check_shares()

    def _check_shares(self) -> None:
        names = ("error_rate", "overload_rate", "slow_down_rate", "cut_rate")
        for name in (*names, "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} is no share: give 0 to 1")
        if sum(getattr(self, name) for name in names) > 1:
            raise ConfigError(f"{', '.join(names)} add up to more than 1: lower one of them")

    @property
    def limits(self) -> dict[str, int]:
        """Give dimension to amount per period, without those that are not limited."""
        both = {"requests": self.rpm, "tokens": self.tpm}
        return {name: limit for name, limit in both.items() if limit is not None}

    @property
    def tells_numbers(self) -> bool:
        """Say whether the message of a 429 has limit, use and wait."""
        return self.message == "yes" or (self.message == "auto" and self.headers != "none")

    @property
    def period_us(self) -> int:
        """Give the period in microseconds."""
        return round(self.period_s * 1_000_000)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value!r} is not known: use one of {', '.join(choices)}")
