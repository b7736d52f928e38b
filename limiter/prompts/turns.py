"""Which messages of a chat belong together: calls of tools and their results, above all.

Pure. Reads chat completions, items of the Responses API, Anthropic's and Bedrock's blocks; what
it does not know is a turn by itself. Never parts what shares an id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from limiter.prompts.counting import as_mapping

_STANDING = frozenset({"system", "developer"})
_RESULTS = frozenset({"tool", "function"})

# An id is that of a call of a tool where it stands under one of these names, in a message, an
# item, or a block of its content.
_IDS = ("tool_call_id", "call_id", "tool_use_id", "toolUseId", "approval_request_id")


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold what goes or stays together: messages `start` to `end`, the end not with them.

    Attributes:
        is_standing: it tells the model what to be.
        is_question: it begins with a user's message that is no tool's result.
    """

    start: int
    end: int
    is_standing: bool
    is_question: bool


def turns(messages: Sequence[object]) -> list[Turn]:
    """Split a chat into what belongs together, in its order."""
    read = [as_mapping(each) for each in messages]
    ends = _ends(read)
    found, start = [], 0
    while start < len(read):
        end = start + 1
        at = start
        while at < end:
            end = max(end, ends[at])
            at += 1
        found.append(_turn(read, start, end))
        start = end
    return found


def _turn(read: Sequence[Mapping[str, object]], start: int, end: int) -> Turn:
    first = read[start]
    is_standing = any(str(each.get("role")) in _STANDING for each in read[start:end])
    is_question = first.get("role") == "user" and not any(True for _ in _ids(first))
    return Turn(start, end, is_standing, is_question)


def _ends(read: Sequence[Mapping[str, object]]) -> list[int]:
    """Return, for each message, the end of what belongs to it at least."""
    last: dict[str, int] = {}
    for at, message in enumerate(read):
        last.update(dict.fromkeys(_ids(message), at))
    ends = []
    for at, message in enumerate(read):
        end = max((last[name] for name in _ids(message)), default=at) + 1
        follows = at + 1 < len(read) and _needs_what_is_before(read[at + 1])
        # Reasoning alone, without the item that it led to, is refused.
        is_opening = message.get("type") == "reasoning" and at + 1 < len(read)
        ends.append(max(end, at + 2) if follows or is_opening else end)
    return ends


def _needs_what_is_before(message: Mapping[str, object]) -> bool:
    """Say whether it is a result, whose call is before it even if no id says so."""
    if str(message.get("role")) in _RESULTS or str(message.get("type")).endswith("_output"):
        return True
    return any("tool_use_id" in b or "toolResult" in b for b in _blocks(message))


def _ids(message: Mapping[str, object]) -> Iterator[str]:
    """Yield the ids of the calls that a message makes, or has the results of."""
    yield from _under(message, _IDS)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, Sequence) and not isinstance(calls, str) else ():
        yield from _under(as_mapping(call), ("id",))
    if message.get("type") == "mcp_approval_request":
        yield from _under(message, ("id",))
    for block in _blocks(message):
        yield from _under(block, _IDS)
        if str(block.get("type")).endswith("tool_use"):
            yield from _under(block, ("id",))
        for name in ("toolUse", "toolResult"):
            yield from _under(as_mapping(block.get(name)), _IDS)


def _under(message: Mapping[str, object], names: Sequence[str]) -> Iterator[str]:
    yield from (found for name in names if isinstance(found := message.get(name), str))


def _blocks(message: Mapping[str, object]) -> list[Mapping[str, object]]:
    content = message.get("content")
    if isinstance(content, str) or not isinstance(content, Sequence):
        return []
    return [as_mapping(block) for block in content]
