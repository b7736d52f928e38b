"""Make answers that follow from a seed and the request alone. Pure.

The same body gets the same text, usage and service time, streamed or not, whenever it comes.
Lengths are lognormal; the spread is that of a production conversation trace (generated tokens:
median 129, 99th percentile 601 in Azure's LLM inference trace of 2023): ln(601/129)/2.326 = 0.66.
"""

from __future__ import annotations

import base64
import json
import math
from array import array
from dataclasses import dataclass
from hashlib import blake2b, shake_256
from random import Random
from typing import TYPE_CHECKING, Any

from limiter.mock.call import LONGEST_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limiter.mock.call import Call
    from limiter.mock.config import MockConfig

SPREAD = 0.66
EMBEDDING_DIMENSIONS = 1_536
CHUNK_TOKENS = 8

# A word and its space are four bytes, one token by the rule of a quarter.
_LETTERS = (
    "actaddageairallandanyarmartaskbadbagbaybedbigbitboxboybusbutbuycancarcatcupcutdaydigdogdry"
    "eareateggendeyefarfewfitflyforfungethatherhishothowiceinkitsjobkeylablawlegletlielotlowman"
    "mapmaymixnewnotnowodd"
)
WORDS = tuple(_LETTERS[at : at + 3] for at in range(0, len(_LETTERS), 3))


@dataclass(frozen=True, slots=True)
class Answer:
    """Be what the model would say.

    Attributes:
        choices: the words of each choice, one per token.
        is_cut: whether a choice ended at the caller's cap on tokens.
        wait_s: time to the first token. `token_s`: time for each token after that.
    """

    key: str
    prompt_tokens: int
    choices: tuple[tuple[str, ...], ...]
    is_cut: tuple[bool, ...]
    wait_s: float
    token_s: float

    @property
    def answer_tokens(self) -> int:
        """Count the tokens of all choices."""
        return sum(len(words) for words in self.choices)

    @property
    def total_tokens(self) -> int:
        """Count what is billed."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def rest_s(self) -> float:
        """Give the time from the first token to the last: choices are made side by side."""
        return self.token_s * max((len(words) for words in self.choices), default=0)


def make_answer(call: Call, config: MockConfig) -> Answer:
    """Draw lengths, words and times from the seed and from what the caller asked."""
    asked = {k: v for k, v in call.body.items() if k not in {"stream", "stream_options"}}
    text = json.dumps([config.seed, call.kind, call.model, asked], sort_keys=True)
    key = blake2b(text.encode(), digest_size=16).hexdigest()
    random = Random(key)
    vary = 1 + config.jitter * random.uniform(-1, 1)
    count = 0 if call.kind == "embeddings" else call.n
    wanted = [_length(random, call, config) for _ in range(count)]
    cap = call.max_tokens or LONGEST_TOKENS
    return Answer(
        key,
        call.prompt_tokens,
        tuple(tuple(random.choices(WORDS, k=min(length, cap))) for length in wanted),
        tuple(length > cap for length in wanted),
        config.latency_s * vary,
        config.token_latency_s * vary,
    )


def _length(random: Random, call: Call, config: MockConfig) -> int:
    if config.answer_share is not None and call.max_tokens:
        vary = 1 + config.jitter * random.uniform(-1, 1)
        length = config.answer_share * call.max_tokens * vary
    else:
        length = random.lognormvariate(math.log(config.answer_tokens), SPREAD)
    return min(LONGEST_TOKENS, max(1, round(length)))


def chunks(words: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Cut words into texts of a few tokens that join to the whole; give each with its tokens."""
    for at in range(0, len(words), CHUNK_TOKENS):
        piece = words[at : at + CHUNK_TOKENS]
        yield (" " if at else "") + " ".join(piece), len(piece)


def chat_usage(answer: Answer) -> dict[str, Any]:
    """Give `usage` as Chat Completions does."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.answer_tokens,
        "total_tokens": answer.total_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat_body(call: Call, answer: Answer, now_s: int) -> dict[str, Any]:
    """Give the body of a chat completion."""
    choices: list[dict[str, Any]] = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": " ".join(words),
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": _finish(answer, index),
        }
        for index, words in enumerate(answer.choices)
    ]
    head = _chat_head("chat.completion", call, answer, now_s)
    return {**head, "choices": choices, "usage": chat_usage(answer)}


def _chat_head(kind: str, call: Call, answer: Answer, now_s: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.key}",
        "object": kind,
        "created": now_s,
        "model": call.model,
        "service_tier": "default",
        "system_fingerprint": "fp_mock",
    }


def _finish(answer: Answer, index: int) -> str:
    return "length" if answer.is_cut[index] else "stop"


def chat_events(call: Call, answer: Answer, now_s: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Give the events of a streamed chat completion, each with the tokens it brings."""
    head = _chat_head("chat.completion.chunk", call, answer, now_s)
    if call.includes_usage:
        head["usage"] = None

    def event(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]}

    for index, words in enumerate(answer.choices):
        yield event(index, {"role": "assistant", "content": "", "refusal": None}), 0
        for text, tokens in chunks(words):
            yield event(index, {"content": text}), tokens
        yield event(index, {}, _finish(answer, index)), 0
    if call.includes_usage:
        yield {**head, "choices": [], "usage": chat_usage(answer)}, 0


def responses_body(call: Call, answer: Answer, now_s: int) -> dict[str, Any]:
    """Give the body of a finished response."""
    is_cut = answer.is_cut[0]
    usage = {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answer.answer_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.total_tokens,
    }
    return {
        **_responses_head(call, answer, now_s),
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": [_message(answer, " ".join(answer.choices[0]))],
        "usage": usage,
    }


def _responses_head(call: Call, answer: Answer, now_s: int) -> dict[str, Any]:
    asked = call.body
    return {
        "id": f"resp_{answer.key}",
        "object": "response",
        "created_at": now_s,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": call.max_tokens,
        "metadata": asked.get("metadata") or {},
        "model": call.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": asked.get("previous_response_id"),
        "service_tier": "default",
        "temperature": asked.get("temperature", 1.0),
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools") or [],
        "top_p": asked.get("top_p", 1.0),
        "usage": None,
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(answer: Answer, text: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.key}",
        "type": "message",
        "role": "assistant",
        "status": "in_progress" if text is None else "completed",
        "content": [] if text is None else [_part(text)],
    }


def responses_events(
    call: Call, answer: Answer, now_s: int
) -> Iterator[tuple[dict[str, Any], int]]:
    """Give the events of a streamed response, each with the tokens it brings."""
    for number, (event, tokens) in enumerate(_unnumbered(call, answer, now_s)):
        yield {**event, "sequence_number": number}, tokens


def _unnumbered(call: Call, answer: Answer, now_s: int) -> Iterator[tuple[dict[str, Any], int]]:
    head = _responses_head(call, answer, now_s)
    final = responses_body(call, answer, now_s)
    text = " ".join(answer.choices[0])
    item = {"output_index": 0, "item_id": f"msg_{answer.key}", "content_index": 0}
    yield {"type": "response.created", "response": head}, 0
    yield {"type": "response.in_progress", "response": head}, 0
    added = {"output_index": 0, "item": _message(answer, None)}
    yield {"type": "response.output_item.added", **added}, 0
    yield {"type": "response.content_part.added", **item, "part": _part("")}, 0
    for piece, tokens in chunks(answer.choices[0]):
        delta = {"delta": piece, "logprobs": []}
        yield {"type": "response.output_text.delta", **item, **delta}, tokens
    yield {"type": "response.output_text.done", **item, "text": text, "logprobs": []}, 0
    yield {"type": "response.content_part.done", **item, "part": _part(text)}, 0
    done = {"output_index": 0, "item": _message(answer, text)}
    yield {"type": "response.output_item.done", **done}, 0
    yield {"type": f"response.{final['status']}", "response": final}, 0


def embeddings_body(call: Call, answer: Answer, seed: int) -> dict[str, Any]:
    """Give one unit vector for each input; equal inputs have equal vectors."""
    size = call.body.get("dimensions") or EMBEDDING_DIMENSIONS
    packed = call.body.get("encoding_format") == "base64"
    given = call.body["input"]
    inputs = given if isinstance(given, list) and len(given) == len(call.texts) else [given]
    vectors = [_unit_vector(f"{seed} {call.model} {text}", size) for text in inputs]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(v).decode() if packed else v.tolist(),
        }
        for index, v in enumerate(vectors)
    ]
    usage = {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens}
    return {"object": "list", "data": data, "model": call.model, "usage": usage}


def _unit_vector(text: str, size: int) -> array[float]:
    """Hash a text to a vector of length 1, as little-endian float32 (on little-endian machines)."""
    numbers = array("h", shake_256(text.encode()).digest(2 * size))
    norm = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return array("f", [number / norm for number in numbers])
