"""The tokens of a request: a text, a chat prompt, or a whole body of any endpoint.

What is exact was seen to be billed so; the rest is an estimate that says what it assumes. Must
never open a connection, and never raise for what a body holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limiter.providers.content import as_json
from limiter.providers.endpoints import Endpoint, endpoint
from limiter.providers.routing import model_of
from limiter.tokens import tools as functions
from limiter.tokens.messages import Tally, add_prompt, listed
from limiter.tokens.text import plain, tokens_of
from limiter.tokens.vocabulary import encoding_for, known_encoding

DEFAULT_MODEL = "gpt-4o"

# Text-only prompts of these were billed as counted: on chat completions in 434 of 434 recordings,
# and in 11 of 11 from gpt-5 on; on /responses in 28 of 28 of gpt-4o and gpt-4.1, but in only 22 of
# 24 of gpt-5 models. gpt-3.5-turbo-0301 has other frames (OpenAI's cookbook).
_DATED = r"(-\d{4}(-\d\d-\d\d)?)?"
_BILLED_ALIKE: dict[Endpoint, re.Pattern[str]] = {
    "chat": re.compile(
        r"(gpt-3\.5-turbo(?!-0301)|gpt-4|gpt-4o(-mini)?|gpt-4\.1(-mini|-nano)?|o1-mini"
        rf"|gpt-5(-mini|-nano)?|gpt-5\.6-sol|o3-mini){_DATED}"
    ),
    "responses": re.compile(rf"(gpt-4o(-mini)?|gpt-4\.1(-mini|-nano)?){_DATED}"),
}

# Fields that say how to answer, not what to read, and those that are counted.
_HARMLESS = frozenset({
    "model", "stream", "stream_options", "temperature", "top_p", "n", "stop", "seed",
    "max_tokens", "max_completion_tokens", "max_output_tokens", "presence_penalty",
    "frequency_penalty", "logprobs", "top_logprobs", "logit_bias", "user", "metadata", "store",
    "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
})  # fmt: skip
_INSTRUCTIONS = ("instructions", "system", "systemInstruction", "system_instruction")
_MESSAGES = ("messages", "input", "contents", "prompt")
_TOOLS = ("tools", "functions")
_FORMATS = ("response_format", "text")


@dataclass(frozen=True, slots=True)
class Count:
    """Hold the input tokens of a request, by what they are for.

    Attributes:
        text: what the messages say, tool calls and their results included.
        framing: what stands around each message (its role and name too), and starts the reply.
        tools: definitions of tools, and the schema of the answer.
        images: what images are billed.
        assumptions: why the bill may differ; none where the count is exact.
    """

    text: int
    framing: int = 0
    tools: int = 0
    images: int = 0
    assumptions: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Return all input tokens."""
        return self.text + self.framing + self.tools + self.images

    @property
    def exact(self) -> bool:
        """Say whether requests of this kind were seen to be billed exactly as counted."""
        return not self.assumptions


def count(content: object, model: str = DEFAULT_MODEL) -> int:
    """Return the tokens of a text, or the prompt tokens of a list of chat messages.

    Messages: 3 + for each 3 + role + content (+ 1 + name); exact against billed usage on 434 of
    434 recorded text-only calls of gpt-3.5-turbo to gpt-4.1, one less from gpt-5 on. Tool calls and
    their results are estimated; images and tools are not counted (`count_request` does). The first
    call of a process parses the vocabulary (0.5 s, 70 MB); later ones take about 0.3 ms for 1,000
    tokens.

    Warns:
        RuntimeWarning: once, when there is no vocabulary and bytes/4 is the answer.
    """
    encoding = encoding_for(model)
    if isinstance(content, str):
        return tokens_of(encoding, content)
    tally = Tally(model, encoding)
    messages = plain(content)
    add_prompt(tally, None, messages if isinstance(messages, (dict, list)) else [])
    return tally.text + tally.framing


def count_request(body: object, path: str | None = None, model: str | None = None) -> Count:
    """Return the input tokens of a request, part by part, and what is assumed of them.

    Tools are counted by the formula of OpenAI's cookbook, images by OpenAI's guide, from their
    sizes where they are inline; files, audio and hosted tools are not counted. None of these, nor
    a tool call, is exact. A text-only prompt is, with a vocabulary and a model that was recorded.

    Args:
        body: a request body as a mapping or pydantic object; a list of messages; or a text, which
            has no frames.
        path: of the endpoint; None tells it by the body's fields.
        model: stands in where the body names none; then gpt-4o.

    Warns:
        RuntimeWarning: once, when there is no vocabulary and bytes/4 is the answer.
    """
    if isinstance(body, str):
        return _closed(_tally_for(model or DEFAULT_MODEL), text=body)
    found = plain(body)
    fields = found if isinstance(found, dict) else {"messages": listed(found)}
    named = model_of(path or "", fields) or model
    kind = endpoint(path or "") or _kind(fields, named or "")
    tally = _tally_for(named or DEFAULT_MODEL)
    if not named and isinstance(found, dict):
        tally.assume(f"no model is named: counted as {DEFAULT_MODEL}")
    if not isinstance(found, (dict, list)):
        tally.assume("the body is not readable as JSON")
    _add_body(tally, kind, fields)
    return _closed(tally)


def _kind(fields: Mapping[str, Any], model: str) -> Endpoint:
    if "messages" in fields:
        return "chat"
    if "input" in fields:
        return "embeddings" if "embedding" in model else "responses"
    return "completions" if "prompt" in fields else "request"


def _tally_for(model: str) -> Tally:
    tally = Tally(model, encoding_for(model))
    if tally.encoding is None:
        tally.assume("without a vocabulary a token is taken for 4 bytes of UTF-8")
    if known_encoding(model) is None:
        tally.assume(f"the encoding of {model!r:.80} is not known, and taken for o200k_base")
    return tally


def _closed(tally: Tally, text: str | None = None) -> Count:
    if text is not None:
        tally.text += tally.tokens(text)
    return Count(tally.text, tally.framing, tally.tools, tally.images, tuple(tally.assumptions))


def _add_body(tally: Tally, kind: Endpoint, fields: Mapping[str, Any]) -> None:
    billed_alike = _BILLED_ALIKE.get(kind)
    if billed_alike is None or not billed_alike.fullmatch(tally.model):
        tally.assume(f"bills of {tally.model:.80} for {kind} were not compared, or differed")
    given, system = _first(fields, _MESSAGES), _first(fields, _INSTRUCTIONS)
    read = {given, system, *_HARMLESS}
    if not given:
        tally.assume("there are no messages in it")
    if kind in {"completions", "embeddings"}:
        _add_plain(tally, fields.get(given))
    else:
        add_prompt(tally, fields.get(system), fields.get(given))
        _add_tools(tally, kind, fields)
        _add_format(tally, fields)
        read.update(_TOOLS, _FORMATS)
    for name, value in fields.items():
        if value and name not in read:
            tally.assume(f"what the field {name!r:.40} adds is not known")


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((name for name in names if fields.get(name)), "")


def _add_plain(tally: Tally, given: object) -> None:
    """Add texts without frames, and token ids, in lists of either."""
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, str):
            tally.text += tally.tokens(item)
        elif isinstance(item, list):
            tally.text += len(item)
        else:
            tally.text += isinstance(item, int)


def _add_tools(tally: Tally, kind: Endpoint, fields: Mapping[str, Any]) -> None:
    tools = [each for name in _TOOLS for each in listed(fields.get(name))]
    tally.tools += functions.tool_tokens(tools, tally.model, tally.tokens, chat=kind == "chat")
    tally.assume(*functions.doubts(tools))


def _add_format(tally: Tally, fields: Mapping[str, Any]) -> None:
    """Add the schema of a structured answer, as the JSON that it is: an estimate."""
    text = fields.get("text")
    text = text if isinstance(text, Mapping) else {}
    wanted = fields.get("response_format") or text.get("format")
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        tally.tools += tally.tokens(as_json(wanted.get("json_schema") or wanted.get("schema")))
        tally.assume("the schema of the answer is counted as JSON")
    elif wanted and not (isinstance(wanted, Mapping) and wanted.get("type") == "text"):
        tally.assume("what the format of the answer adds is not known")
    for name in text:
        if text[name] and name != "format":
            tally.assume(f"what the field {name!r:.40} of 'text' adds is not known")
