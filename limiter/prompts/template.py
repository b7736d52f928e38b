"""A prompt with variables: the fixed part first, each variable within its budget.

Never renders with a variable missing or empty: an f-string would send it so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import NamedTuple

from limiter.errors import ConfigError
from limiter.prompts.counting import DEFAULT_MODEL, Count, check_tokens, counter
from limiter.prompts.cutting import Rule, check_rule, cut_text
from limiter.prompts.savings import Savings

# `{{name}}`, which stands for the text {name}, or `{name}`. All other braces are text.
_FIELD = re.compile(r"\{\{([^\W\d]\w*)\}\}|\{([^\W\d]\w*)\}")

Message = dict[str, str]


class Budget(NamedTuple):
    """Say how many tokens a variable may take, and which part of more is cut; see `cut_text`."""

    tokens: int
    cut: Rule = "error"


class PromptTemplate:
    """Fill variables into a prompt whose fixed part stands first.

    `instruction` is sent as it stands, so it is the same from call to call, and a provider that
    caches prompts finds it in its cache. `body` follows, with its variables written `{name}`.

    Braces are text wherever they are not exactly `{name}`: JSON needs no escapes. For the text
    {name} itself write `{{name}}`.

    Args:
        instruction: what the model is told each time; it has no variables.
        body: what is different each time.
        budgets: by variable, `Budget(2_000, "middle")`, or a number of tokens that is an error to
            pass. Each is of the variable alone.
        optional: variables that may be missing, None or empty.
        model: whose tokens are counted.
        count: counts them instead.

    Raises:
        ConfigError: the instruction has a variable, or a budget is none or of no variable.
    """

    def __init__(
        self,
        instruction: str,
        body: str,
        *,
        budgets: Mapping[str, Budget | tuple[int, Rule] | int] | None = None,
        optional: Collection[str] = (),
        model: str = DEFAULT_MODEL,
        count: Count | None = None,
    ) -> None:
        if found := _names(instruction):
            raise ConfigError(
                f"The instruction holds {_listed(found)}, and would differ from call to call: move "
                f"that to the body, or write {{{{{found[0]}}}}} for the text {{{found[0]}}}."
            )
        self.instruction = _FIELD.sub(r"{\1}", instruction)
        self._body = body
        self.variables = _names(body)
        self._optional = {optional} if isinstance(optional, str) else set(optional)
        self._budgets = {name: _budget(name, each) for name, each in (budgets or {}).items()}
        if strange := (self._optional | self._budgets.keys()) - set(self.variables):
            raise ConfigError(f"The body has no {_listed(sorted(strange))}; {self._has()}.")
        self._count = counter(model, count)

    def _has(self) -> str:
        return f"it has {_listed(self.variables)}" if self.variables else "it has no variables"

    @cached_property
    def fixed_tokens(self) -> int:
        """Return the tokens of what is the same in each call; counted once."""
        return self._count(self._joined(self._filled(dict.fromkeys(self.variables, ""))))

    def render(self, /, **values: object) -> str:
        """Return the prompt as one text.

        Raises:
            ConfigError: a variable is missing, empty or not there, or above a budget that says
                so; the message names it.
        """
        return self._joined(self._filled(self._cut(self._checked(values))))

    def messages(self, /, **values: object) -> list[Message]:
        """Return the prompt as a system message and a user's; see `render`."""
        body = self._filled(self._cut(self._checked(values)))
        told = [("system", self.instruction), ("user", body)]
        return [{"role": role, "content": text} for role, text in told if text]

    def report(self, /, **values: object) -> Savings:
        """Return the tokens of the prompt without its budgets and with them; see `render`."""
        given = self._checked(values)
        before, after = (self._joined(self._filled(each)) for each in (given, self._cut(given)))
        return Savings(self._count(before), self._count(after))

    def _checked(self, values: Mapping[str, object]) -> dict[str, str]:
        """Return each variable's text, once all of them are there and no others."""
        empty = [n for n in self.variables if _is_empty(values.get(n)) and n not in self._optional]
        if empty:
            raise ConfigError(
                f"{_listed(empty)} is missing or empty: pass it, or name it in optional=.",
                missing=empty,
            )
        if extra := sorted(values.keys() - set(self.variables)):
            raise ConfigError(
                f"There is no {_listed(extra)} in the body; {self._has()}. Remove it, or write "
                f"{{{extra[0]}}} where it goes.",
                extra=extra,
            )
        given = {name: values.get(name) for name in self.variables}
        return {name: "" if each is None else str(each) for name, each in given.items()}

    def _cut(self, given: Mapping[str, str]) -> dict[str, str]:
        return {name: self._within_budget(name, text) for name, text in given.items()}

    def _within_budget(self, name: str, text: str) -> str:
        budget = self._budgets.get(name)
        if budget is None:
            return text
        try:
            return cut_text(text, budget.tokens, budget.cut, count=self._count).text
        except ConfigError as exc:
            raise ConfigError(f"{{{name}}}: {exc}", **exc.numbers) from exc

    def _filled(self, texts: Mapping[str, str]) -> str:
        return _FIELD.sub(lambda m: f"{{{m[1]}}}" if m[1] else texts[m[2]], self._body)

    def _joined(self, body: str) -> str:
        return f"{self.instruction}\n\n{body}" if self.instruction and body else (
            self.instruction or body
        )  # fmt: skip


def _names(text: str) -> list[str]:
    """Return the variables of a text, in the order in which they come first."""
    return list(dict.fromkeys(m[2] for m in _FIELD.finditer(text) if m[2]))


def _budget(name: str, budget: Budget | tuple[int, Rule] | int) -> Budget:
    made = Budget(*budget) if isinstance(budget, tuple) else Budget(budget)
    check_tokens(made.tokens, f"The budget of {{{name}}}")
    check_rule(made.cut)
    return made


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
