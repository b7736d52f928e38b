"""Make a chat fit a number of tokens: the oldest goes, or becomes a summary.

Never parts a tool's result from its call, and never drops what the model is told to be, the
question that it works on, or the newest message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from limiter.errors import ConfigError
from limiter.prompts.counting import (
    DEFAULT_MODEL,
    Count,
    as_mapping,
    check_tokens,
    counter,
    message_tokens,
    prompt_tokens,
)
from limiter.prompts.cutting import cut_text
from limiter.prompts.savings import Savings
from limiter.prompts.turns import Turn, turns

Summarise = Callable[[list[Any]], Any]

# A fifth of the budget tells what the rest no longer can; below 16 tokens nothing can be told.
_SUMMARY_PART = 5
_LEAST_SUMMARY = 16
_HEADLINE = "Summary of the conversation so far:\n"


@dataclass(frozen=True, slots=True)
class Fitted:
    """Hold messages that fit.

    Attributes:
        messages: those kept, in their order, and the summary, if there is one.
        dropped: those left out, in their order.
        report: tokens before and after.
    """

    messages: list[Any]
    dropped: list[Any]
    report: Savings

    def __str__(self) -> str:
        return str(self.report)


def fit_messages(
    messages: Sequence[Any],
    budget: int,
    *,
    summarise: Summarise | None = None,
    summary_tokens: int | None = None,
    model: str = DEFAULT_MODEL,
    count: Count | None = None,
) -> Fitted:
    """Drop the oldest messages of a chat until it has `budget` tokens at most.

    What stays for sure: system and developer messages, the newest message, and the user's newest
    one, which a tool loop works on. What belongs together stays or goes together: a call of a
    tool and its result, reasoning and what came of it. What is kept of the past begins with a
    user's message. Messages are those of chat completions, items of the Responses API, or
    Anthropic's, as mappings or as an SDK's objects; none of them is changed.

    Args:
        messages: the oldest first.
        budget: tokens of the prompt, as `limiter.tokens.count` has them, and those of tool calls
            with their results; 765 for an image. Tools that are declared, audio and files are not
            counted.
        summarise: called once with the messages that are dropped; its text stands in their place,
            as a user's message. Raises what it raises.
        summary_tokens: what is kept free for the summary, 16 at least; what is longer than there
            is room is cut. None: a fifth of the budget. Where what must stay leaves less than 16,
            there is no summary.
        model: whose tokens are counted.
        count: counts a text's tokens instead.

    Raises:
        ConfigError: not even what must stay fits (`needed`, `budget`).
    """
    check_tokens(budget, "budget")
    chat = _Chat(messages, budget, counter(model, count))
    if chat.tokens <= budget:
        return Fitted(list(messages), [], Savings(chat.tokens, chat.tokens))
    if summarise is None:
        return chat.fitted(chat.dropped(budget))
    reserve = budget // _SUMMARY_PART
    if summary_tokens is not None:
        reserve = check_tokens(summary_tokens, "summary_tokens", _LEAST_SUMMARY)
    return chat.fitted(chat.dropped(budget - reserve - chat.summary_frame), summarise)


class _Chat:
    """Hold a chat's turns and what each of them takes."""

    def __init__(self, messages: Sequence[Any], budget: int, count: Count) -> None:
        self._messages = messages
        self._budget = budget
        self._count = count
        self._costs = [message_tokens(each, count) for each in messages]
        self._frame = prompt_tokens((), count)
        self.tokens = self._frame + sum(self._costs)
        self._turns = turns(messages)
        self._anchor = max((i for i, t in enumerate(self._turns) if t.is_question), default=-1)

    @property
    def summary_frame(self) -> int:
        """Return what a summary takes beside its own tokens.

        One of these is for the seam: joined, two texts may have one more than they had apart.
        """
        return message_tokens(_told(""), self._count) + 1

    def _droppable(self) -> list[Turn]:
        last = len(self._turns) - 1
        return [
            turn
            for i, turn in enumerate(self._turns)
            if i not in {self._anchor, last} and not turn.is_standing
        ]

    def _cost(self, turn: Turn) -> int:
        return sum(self._costs[turn.start : turn.end])

    def dropped(self, limit: int) -> set[int]:
        """Return the indices of what goes, the oldest first, so that the rest fits.

        Raises:
            ConfigError: what must stay does not fit.
        """
        tokens, gone = self.tokens, set[int]()
        for turn in self._droppable():
            if tokens <= limit and self._begins_well(turn):
                break
            tokens -= self._cost(turn)
            gone.update(range(turn.start, turn.end))
        if tokens > self._budget:
            raise ConfigError(
                f"What must stay of the chat (system and developer messages, the user's newest "
                f"message and the last one) has {tokens:,} tokens, {self._budget:,} may be: raise "
                "the budget, or shorten them (split_text, cut_text).",
                needed=tokens,
                budget=self._budget,
            )
        return gone

    def _begins_well(self, turn: Turn) -> bool:
        """Say whether what is kept may begin here: with a question, or after the newest one."""
        return turn.is_question or self._anchor < 0 or turn.start > self._turns[self._anchor].start

    def fitted(self, gone: Collection[int], summarise: Summarise | None = None) -> Fitted:
        """Return what is left, with a summary of the rest if there is room for one."""
        kept = [i for i in range(len(self._messages)) if i not in gone]
        dropped = [self._messages[i] for i in sorted(gone)]
        after = self._frame + sum(self._costs[i] for i in kept)
        found = [self._messages[i] for i in kept]
        summary = self._summary(dropped, after, summarise) if summarise and dropped else None
        if summary is not None:
            after += message_tokens(summary, self._count)
            first = min(gone)
            found.insert(sum(1 for i in kept if i < first), summary)
        return Fitted(found, dropped, Savings(self.tokens, after, len(dropped)))

    def _summary(
        self, dropped: list[Any], after: int, summarise: Summarise
    ) -> dict[str, str] | None:
        room = self._budget - after - self.summary_frame
        if room < _LEAST_SUMMARY:
            return None
        text = summarise(dropped)
        text = as_mapping(text).get("content", text)
        if not isinstance(text, str):
            raise ConfigError(
                f"summarise= returns a text, got {text!r:.60}; one that is async is awaited "
                "before, by you."
            )
        if not text.strip():
            return None
        return _told(cut_text(text, room, "tail", count=self._count).text)


def _told(summary: str) -> dict[str, str]:
    return {"role": "user", "content": f"{_HEADLINE}{summary}"}
