"""Draw answers as the four endpoints give them unstreamed, and whatever JSON there is."""

from __future__ import annotations

import json

from hypothesis import strategies as st

texts = st.text(max_size=200) | st.sampled_from(
    ["", "né 🧑‍🚀\u2028\r\n", "x" * 500, "data: [DONE]\n\n"]
)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
counts = st.integers(0, 10**6)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-9e9, 9e9) | texts
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names, anything, max_size=4)
# What a model writes as arguments: mostly JSON, cut anywhere where it came to its limit.
arguments = objects.map(json.dumps) | texts


def some(required, **optional):
    """Draw objects that have the required fields and any of the others."""
    return st.fixed_dictionaries(required, optional=optional)


def usage(*keys):
    return some(
        dict.fromkeys(keys, counts), details=st.none() | st.dictionaries(names, counts, max_size=3)
    )


def indexed(entries, low=0):
    """Draw lists whose entries have their place as their index."""

    def numbered(drawn):
        return [{**entry, "index": at} for at, entry in enumerate(drawn)]

    return st.lists(entries, min_size=low, max_size=3).map(numbered)


def logprob(token):
    return {"token": token, "logprob": -0.5, "bytes": [*token.encode()], "top_logprobs": []}


def extras(known):
    """Draw fields that the API does not know, as compatible servers add them."""
    return st.dictionaries(names.filter(lambda name: name not in known), anything, max_size=2)


KNOWN = {"delta", "message", "text", "logprobs", "finish_reason", "index", "error", "audio", "usage",
         "choices", "object", "obfuscation", "content", "refusal", "reasoning", "role", "tool_calls",
         "reasoning_content", "function_call", "id", "created", "model", "function", "custom",
         "input", "arguments", "type"}  # fmt: skip


def with_extras(drawn):
    return st.tuples(drawn, extras(KNOWN)).map(lambda pair: {**pair[1], **pair[0]})


CALLS = with_extras(
    st.fixed_dictionaries(
        {
            "id": names,
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": names, "arguments": arguments}),
        }
    )
)
MESSAGES = with_extras(
    some(
        {"role": st.just("assistant"), "content": st.none() | texts},
        refusal=st.none() | texts,
        reasoning_content=st.none() | texts,
        reasoning=st.none() | texts,
        tool_calls=st.none() | st.lists(CALLS, max_size=3),
        function_call=st.none() | st.fixed_dictionaries({"name": names, "arguments": arguments}),
        annotations=st.lists(objects, max_size=2),
        audio=st.none(),
    )
)
REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "function_call"])
HEAD = {
    "id": names,
    "created": counts,
    "model": names,
}  # fmt: skip


@st.composite
def chat_choices(draw):
    message = draw(MESSAGES)
    words = draw(st.lists(texts.filter(bool), max_size=20))
    entries = [logprob(word) for word in words]
    if draw(st.booleans()) and words:
        message["content"] = "".join(words)
    told = st.none() | st.fixed_dictionaries(
        {"content": st.none() | st.just(entries), "refusal": st.none() | st.just(entries)}
    )
    choice = {"message": message, "finish_reason": draw(REASONS)}
    choice |= draw(some({}, logprobs=told))
    return {**draw(extras(KNOWN)), **choice}


@st.composite
def text_choices(draw):
    words = draw(st.lists(texts.filter(bool), max_size=20))
    whole = "".join(words) if draw(st.booleans()) else draw(texts)
    told = {
        "tokens": words,
        "token_logprobs": [-0.5] * len(words),
        "top_logprobs": draw(st.none() | st.just([{"a": -1.0}] * len(words))),
        "text_offset": draw(st.just([*range(len(words))]) | st.lists(counts, max_size=3)),
    }
    choice = {"text": whole, "finish_reason": draw(REASONS)}
    return {**choice, **draw(some({}, logprobs=st.none() | st.just(told)))}


def of_choices(kind, choices):
    return with_extras(
        some(
            {**HEAD, "object": st.just(kind), "choices": indexed(choices, 1)},
            usage=usage("prompt_tokens", "completion_tokens", "total_tokens"),
            service_tier=st.none() | names,
            system_fingerprint=st.none() | names,
        )
    )


def item(kind, **fields):
    return some({"id": names, "type": st.just(kind), **fields}, status=st.just("completed"))


PARTS = (
    some(
        {
            "type": st.just("output_text"),
            "text": texts,
            "annotations": st.lists(objects, max_size=2),
        },
        logprobs=st.lists(st.builds(logprob, texts), max_size=2),
    )
    | st.fixed_dictionaries({"type": st.just("refusal"), "refusal": texts})
    | st.fixed_dictionaries({"type": st.just("other_part"), "data": anything})
)
SUMMARIES = st.fixed_dictionaries({"type": st.just("summary_text"), "text": texts})
REASONED = st.fixed_dictionaries({"type": st.just("reasoning_text"), "text": texts})
ITEMS = (
    item("message", role=st.just("assistant"), content=st.lists(PARTS, max_size=3))
    | item("function_call", name=names, call_id=names, arguments=arguments)
    | item("custom_tool_call", name=names, call_id=names, input=texts)
    | item(
        "reasoning",
        summary=st.lists(SUMMARIES, max_size=2),
        content=st.none() | st.lists(REASONED, max_size=2),
        encrypted_content=st.none() | texts,
    )
    | item("web_search_call", action=objects)
)
RESPONSES = some(
    {
        "id": names,
        "object": st.just("response"),
        "created_at": counts,
        "model": names,
        "status": st.sampled_from(["completed", "incomplete"]),
        "output": st.lists(ITEMS, max_size=4, unique_by=lambda one: one["id"]),
        "tools": st.lists(objects, max_size=1),
    },
    usage=usage("input_tokens", "output_tokens", "total_tokens"),
    error=st.none(),
    incomplete_details=st.none() | objects,
    completed_at=counts,
    metadata=objects,
)
BLOCKS = (
    some(
        {"type": st.just("text"), "text": texts},
        citations=st.none() | st.lists(objects, max_size=2),
    )
    | some({"type": st.just("thinking"), "thinking": texts}, signature=texts)
    | st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": texts})
    | st.fixed_dictionaries(
        {
            "type": st.sampled_from(["tool_use", "server_tool_use"]),
            "id": names,
            "name": names,
            "input": objects,
        }
    )
    | st.fixed_dictionaries({"type": st.just("web_search_tool_result"), "content": anything})
)
ANTHROPIC = some(
    {
        "id": names,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": names,
        "content": st.lists(BLOCKS, max_size=4),
        "stop_reason": st.sampled_from(["end_turn", "max_tokens", "tool_use", "stop_sequence"]),
        "stop_sequence": st.none() | texts,
    },
    usage=usage("input_tokens", "output_tokens"),
    container=st.none() | objects,
)
ANSWERS = {
    "chat": of_choices("chat.completion", chat_choices()),
    "completions": of_choices("text_completion", text_choices()),
    "responses": RESPONSES,
    "messages": ANTHROPIC,
}
# An endpoint with one of its answers.
asked = st.one_of(*(st.tuples(st.just(name), drawn) for name, drawn in ANSWERS.items()))
