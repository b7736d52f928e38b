"""The accounting that most providers share, and the base of your own: by usage, with few settings.

Pure. A call is reserved with what it is expected to take and settled to what its answer says that it
took. Whoever counts otherwise (OpenAI and Azure, at admission) overrides the two steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from limiter.core.exact import SCALED_MAX
from limiter.providers.bodies import (
    answers,
    expected_output,
    guessed_input,
    longest_answer,
    mapping,
)
from limiter.providers.endpoints import WRITING, Endpoint, endpoint
from limiter.providers.profile import (
    Body,
    Rule,
    Usage,
    bounded,
    charged_by_failure,
    check_rule,
    usage_of,
)
from limiter.providers.routing import model_of

_ONE_REQUEST: Mapping[str, int] = MappingProxyType({"requests": 1})


class Call(NamedTuple):
    """Hold what is known of a call whose tokens count."""

    kind: Endpoint
    model: str
    body: Body
    rule: Rule


class Accounting:
    """Count by usage; inherit from it where a provider is missing, or counts you otherwise.

        from limiter import Limiter, Quota
        from limiter.providers import Accounting

        class Acme(Accounting):
            name = "acme"
            cached_is_free = True

            def counted(self, given, cached, written, model):
                return {"tokens": given - cached + 3 * written}

        limiter = Limiter(quotas=[Quota("acme-large", rpm=60, tpm=50_000)])
        http = limiter.http_client(provider=Acme())  # OpenAI(base_url=…, http_client=http)

    Attributes:
        name: what `profile()` and messages call it.
        per_call: what every call takes, whatever its endpoint.
        cached_is_free: input from the provider's prompt cache is not counted.
        longest_under: the rules under which the body's own maximum is reserved for an answer, as the
            provider does it. Under the others, and where there is no maximum, it is the expected.
        longest_tokens: the maximum of an answer whose body sets none; None: not known.
        errors_cost_no_output: a call that is refused with a 4xx is not charged for an answer.
    """

    name: str = "custom"
    per_call: ClassVar[Mapping[str, int]] = _ONE_REQUEST
    cached_is_free: bool = False
    longest_under: ClassVar[tuple[Rule, ...]] = ()
    longest_tokens: int | None = None
    errors_cost_no_output: bool = False

    def counted(self, given: int, cached: int, written: int, model: str) -> Mapping[str, float]:
        """Say what a call counts for, by dimension; the one method to override.

        Args:
            given: tokens of all its input.
            cached: the part of them that came from the provider's prompt cache; 0 before the call.
            written: tokens of its answers, reasoning too; before the call as expected.
            model: as path or body name it; "" where they do not.

        Returns:
            Amounts, fractions are rounded up; dimensions that nobody limits do no harm.
        """
        del model  # most count all models alike
        fresh = given - cached if self.cached_is_free else given
        return {"tokens": fresh + written, "input_tokens": fresh, "output_tokens": written}

    def held(self, given: int, longest: int, model: str) -> Mapping[str, float]:
        """Say what the provider itself holds for a call whose answers may be `longest` tokens."""
        return self.counted(given, 0, longest, model)

    def estimate(
        self,
        path: str,
        body: Body,
        *,
        rule: Rule = "admission",
        output_tokens: int | None = None,
    ) -> dict[str, int] | None:
        """See `Profile.estimate`."""
        check_rule(rule)
        kind, body = endpoint(path), mapping(body)
        match kind:
            case None:
                return None
            case "request":
                cost: Mapping[str, float] = {}
            case "images":
                cost = {"images": answers(body)}
            case _:
                call = Call(kind, model_of(path, body) or "", body, rule)
                cost = self._before(call, output_tokens)
        return bounded({**self.per_call, **cost})

    def settled(
        self,
        path: str,
        estimate: Mapping[str, int],
        usage: Usage | None,
        *,
        rule: Rule = "admission",
        body: Body | None = None,
    ) -> dict[str, int]:
        """See `Profile.settled`."""
        check_rule(rule)
        kind, cost = endpoint(path), dict(estimate)
        if usage is None or kind is None:
            return cost
        if body is not None:
            usage = usage.completed_by(guessed_input(kind, mapping(body)))
        call = Call(kind, model_of(path, body) or "", mapping(body), rule)
        charged = self._after(call, cost, usage)
        return cost | bounded({name: n for name, n in charged.items() if name in cost})

    def failure(self, status: int | None, estimate: Mapping[str, int]) -> dict[str, int]:
        """See `Profile.failure`."""
        charged = charged_by_failure(status, estimate)
        if self.errors_cost_no_output and status is not None and 400 <= status < 500:
            return unanswered(charged)
        return charged

    def usage(self, payload: object) -> Usage | None:
        """See `Profile.usage`."""
        return usage_of(payload)

    def output_counts(self, path: str, body: Body, rule: Rule) -> bool:
        """See `Profile.output_counts`: where the expected answer is reserved, and counts."""
        check_rule(rule)
        body = mapping(body)
        if endpoint(path) not in WRITING or self._longest(body, rule) is not None:
            return False
        model = model_of(path, body) or ""
        return self.counted(0, 0, 1, model) != self.counted(0, 0, 0, model)

    def _longest(self, body: Body, rule: Rule) -> int | None:
        """Return what is reserved in full for one answer; None: what is expected of it."""
        if rule not in self.longest_under:
            return None
        longest = longest_answer(body)
        return self.longest_tokens if longest is None else longest

    def _before(self, call: Call, output_tokens: int | None) -> Mapping[str, float]:
        """Return what a call takes before it, beside `per_call`."""
        given = guessed_input(call.kind, call.body)
        if call.kind not in WRITING:
            return self.counted(given, 0, 0, call.model)
        longest = self._longest(call.body, call.rule)
        if longest is not None:
            return self.held(given, min(answers(call.body) * longest, SCALED_MAX), call.model)
        expected = min(expected_output(call.body, output_tokens), SCALED_MAX)
        return self.counted(given, 0, expected, call.model)

    def _after(
        self,
        call: Call,
        estimate: Mapping[str, int],  # noqa: ARG002 - those who count at admission need it
        usage: Usage,
    ) -> Mapping[str, float]:
        """Return what a call took in all, for the dimensions that its usage decides."""
        if usage.sides is not None:
            given, cached, written = (min(n, SCALED_MAX) for n in usage.sides)
            return self.counted(given, cached, written, call.model)
        if usage.total is None:
            return {}
        # Nobody knows how much of it was written: it counts as read.
        total = min(usage.total, SCALED_MAX)
        counted = self.counted(total, min(usage.cached_tokens, total), 0, call.model)
        return {"tokens": counted["tokens"]} if "tokens" in counted else {}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


def unanswered(cost: Mapping[str, int]) -> dict[str, int]:
    """Return a cost without the part for an answer, as far as it tells its parts apart."""
    changed = {"output_tokens": 0, "tokens": cost.get("input_tokens", cost.get("tokens", 0))}
    return {name: min(amount, changed.get(name, amount)) for name, amount in cost.items()}
