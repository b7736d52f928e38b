"""Headers, messages and charges against what OpenAI really sent, and answers against their seed."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.mock import MockConfig
from limiter.mock.answer import chat_body, chat_events, make_answer, responses_events
from limiter.mock.call import BadBodyError, chat_tokens, read_call
from limiter.mock.enforce import Enforcer, Refusal
from limiter.mock.headers import Told, openai_limits, openai_wait
from limiter.mock.meters import View
from limiter.mock.wire import go_duration, refusal_body

# (text bytes, messages, images) and what the headers said was used: a few of the recorded
# exchanges, kept here for when the whole file is not at hand.
RECORDED = [
    (30, 1, 0, 10),
    (47, 2, 0, 16),
    (332, 10, 0, 95),
    (4273, 10, 0, 1080),
    (16511, 2, 0, 4133),
    (23, 1, 1, 773),
]


def shared_exchanges():
    root = os.environ.get("LIMITER_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
    path = Path(root) / "recorded_exchanges.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(
    ("span_us", "text"),
    [
        (0, "0s"),
        (999, "0s"),
        (6_000, "6ms"),
        (120_999, "120ms"),
        (1_000_000, "1s"),
        (8_640_000, "8.64s"),
        (12_967_400, "12.967s"),
        (60_000_000, "1m0s"),
        (73_588_000, "1m13.588s"),
        (360_000_000, "6m0s"),
        (1_252_666_000, "20m52.666s"),
        (3_600_000_000, "1h0m0s"),
    ],
)
def test_durations_read_as_in_recorded_headers(span_us, text):
    """Go's notation, floored to the millisecond."""
    assert go_duration(span_us) == text


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (
            Refusal("tokens", 500_000, 461_092, 200_268, 19_363_200),
            (
                "on tokens per min (TPM): Limit 500000, Used 461092, Requested 200268. "
                "Please try again in 19.363s."
            ),
        ),
        (
            Refusal("requests", 500, 500, 1, 120_000),
            (
                "on requests per min (RPM): Limit 500, Used 500, Requested 1. "
                "Please try again in 120ms."
            ),
        ),
        (
            Refusal("tokens", 30_000, 0, 37_313, None),
            (
                "on tokens per min (TPM): Limit 30000, Requested 37313. "
                "The input or output tokens must be reduced"
            ),
        ),
    ],
)
def test_refusals_say_what_openai_s_do(refusal, sentence):
    """The numbers, the wait and the type are those of messages that OpenAI sent."""
    error = refusal_body(refusal, "gpt-4o")["error"]
    assert sentence in error["message"]
    assert (error["type"], error["code"]) == (refusal.dimension, "rate_limit_exceeded")
    assert error["param"] is None
    assert ("try again in" in error["message"]) == (refusal.wait_us is not None)


def test_retry_headers_round_seconds_up_and_milliseconds_down():
    """19.3632 s is retry-after 20 and retry-after-ms 19363; no wait is no header."""
    assert openai_wait(19_363_200, "tokens") == {"retry-after": "20", "retry-after-ms": "19363"}
    assert openai_wait(None, "tokens") == {}


@given(st.integers(1, 10**8), st.integers(0, 10**8))
def test_a_bucket_s_reset_is_used_times_window_over_limit(limit, used):
    """reset = (limit - remaining) x 60 s / limit, as in 1,165 of 1,175 recorded responses."""
    enforcer = Enforcer("bucket", {"tokens": limit})
    enforcer.meters["tokens"].take(used := min(used, limit), 0)
    assert openai_limits(Told(enforcer.view(0), 60_000_000, 0)) == {
        "x-ratelimit-limit-tokens": str(limit),
        "x-ratelimit-remaining-tokens": str(limit - used),
        "x-ratelimit-reset-tokens": go_duration(used * 60_000_000 // limit),
    }


def test_debt_shows_as_nothing_remaining():
    """A header never shows a negative number."""
    assert View(10, 0, 90_000_000) == _debt_view()


def _debt_view():
    enforcer = Enforcer("bucket", {"tokens": 10})
    enforcer.meters["tokens"].take(15, 0)
    return enforcer.view(0)["tokens"]


@pytest.mark.parametrize(("text_bytes", "messages", "images", "used"), RECORDED)
def test_chat_is_charged_a_quarter_of_its_bytes(text_bytes, messages, images, used):
    """ceil(bytes / 4) + messages + 1 + 765 per image, within the 2 that recordings vary by."""
    assert abs(chat_tokens(-(-text_bytes // 4), messages, images) - used) <= 2


def test_chat_charges_agree_with_recorded_headers():
    """Every recorded chat completion since 2025-03-18 that met an idle bucket agrees within 2."""
    since = datetime(2025, 3, 18, tzinfo=UTC)
    off = []
    for one in shared_exchanges():
        headers, path = one["headers"], one["path"]
        if one["provider"] != "openai" or path != "/v1/chat/completions" or one["status"] != 200:
            continue
        if "x-ratelimit-limit-tokens" not in headers or "date" not in headers:
            continue
        if parsedate_to_datetime(headers["date"]) < since:
            continue
        used = int(headers["x-ratelimit-limit-tokens"]) - int(
            headers["x-ratelimit-remaining-tokens"]
        )
        text = -(-one["text_utf8_bytes"] // 4)
        off.append(chat_tokens(text, one["n_messages"], one["n_images"]) - used)
    assert all(abs(difference) <= 2 for difference in off)


def chat(**body):
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "€€"}], **body}
    return read_call("chat", json.dumps(asked).encode(), None)


def test_admission_counts_bytes_images_and_messages_only():
    """Neither max_tokens, tools nor n are in what chat takes; images and bytes are."""
    parts = [{"type": "text", "text": "abcd"}, {"type": "image_url", "image_url": {"url": "x"}}]
    plain = chat()
    assert plain.admission_tokens("admission") == 2 + 1 + 1
    assert plain.admission_tokens("usage") == 4
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert chat(max_tokens=900, n=3, tools=tools).admission_tokens("admission") == 4
    assert chat(messages=[{"content": parts}] * 2).admission_tokens("admission") == 2 + 3 + 1530


def test_documented_charges_add_every_choice_s_cap():
    """bytes / 4 + n x max_tokens, and 16 where no cap is set."""
    assert chat().admission_tokens("documented") == 2 + 16
    assert chat(max_tokens=100, n=3).admission_tokens("documented") == 2 + 300
    assert chat(max_completion_tokens=50, max_tokens=9).admission_tokens("documented") == 2 + 50


def test_a_reservation_covers_whatever_the_call_can_be_billed():
    """Billed input, and the cap of every choice; the longest answer there is where no cap is set."""
    capped = chat(max_tokens=100, n=3)
    assert capped.admission_tokens("reserve") == capped.prompt_tokens + 300
    for body in ({"user": str(number)} for number in range(50)):
        call = chat(**body, n=2)
        answer = make_answer(call, MockConfig(answer_tokens=2_000))
        assert answer.total_tokens <= call.admission_tokens("reserve")


def test_responses_are_charged_their_input_and_a_scaffold():
    """Billed input + 19, or + 217 with a function tool."""
    asked = {"model": "gpt-4o", "input": "abcd", "instructions": "efgh"}
    plain = read_call("responses", json.dumps(asked).encode(), None)
    assert plain.admission_tokens("admission") == plain.prompt_tokens + 19
    asked["tools"] = [{"type": "function", "name": "f"}]
    with_tool = read_call("responses", json.dumps(asked).encode(), None)
    assert with_tool.admission_tokens("admission") == with_tool.prompt_tokens + 217


@pytest.mark.parametrize(
    ("given_input", "tokens"),
    [("abcde", 2), (["abcd", "abcde"], 3), ([5, 6, 7], 3), ([[5, 6], [7]], 3)],
)
def test_embeddings_are_charged_by_input(given_input, tokens):
    """A quarter of the bytes of each text; the number of ready-made tokens."""
    body = json.dumps({"model": "e", "input": given_input}).encode()
    assert read_call("embeddings", body, None).admission_tokens("admission") == tokens


@pytest.mark.parametrize(
    ("kind", "raw", "param"),
    [
        ("chat", b"{", None),
        ("chat", b"\xff", None),
        ("chat", b"[]", None),
        ("chat", b'{"messages": [{}]}', "model"),
        ("chat", b'{"model": "m"}', "messages"),
        ("chat", b'{"model": "m", "messages": ["x"]}', "messages"),
        ("chat", b'{"model": "m", "messages": [{}], "n": 0}', "n"),
        ("chat", b'{"model": "m", "messages": [{}], "max_tokens": "x"}', "max_tokens"),
        ("responses", b'{"model": "m"}', "input"),
        ("embeddings", b'{"model": "m", "input": []}', "input"),
        ("embeddings", b'{"model": "m", "input": [{}]}', "input"),
    ],
)
def test_a_bad_body_names_its_culprit(kind, raw, param):
    """Whatever cannot be a request is refused with the parameter at fault."""
    with pytest.raises(BadBodyError) as caught:
        read_call(kind, raw, None)
    assert caught.value.param == param


def test_the_same_body_gets_the_same_answer():
    """Streamed or not, words, usage and times follow from seed and body; another seed differs."""
    config = MockConfig(latency_s=1, jitter=0.5)
    answer = make_answer(chat(), config)
    assert make_answer(chat(), config) == answer
    assert make_answer(chat(stream=True, stream_options={"include_usage": True}), config) == answer
    assert make_answer(chat(), MockConfig(seed=1)).key != answer.key
    assert make_answer(chat(temperature=0.5), config).key != answer.key


def test_answers_are_as_long_as_a_production_trace_s():
    """Median 129 and 99th percentile about 601 tokens; a cap cuts, and says so."""
    answers = [make_answer(chat(user=str(i)), MockConfig()) for i in range(2_000)]
    lengths = sorted(answer.answer_tokens for answer in answers)
    assert lengths[1_000] == pytest.approx(129, rel=0.1)
    assert lengths[1_980] == pytest.approx(601, rel=0.2)
    capped = make_answer(chat(max_tokens=3, n=2), MockConfig())
    assert [len(words) for words in capped.choices] == [3, 3]
    assert capped.is_cut == (True, True)


def test_answers_by_share_follow_max_tokens_and_not_answer_tokens():
    """Exactly the share without jitter, around it with jitter, and never above the cap."""
    exact = MockConfig(answer_share=0.25, answer_tokens=3)
    assert make_answer(chat(max_tokens=400, n=2), exact).answer_tokens == 2 * 100
    assert make_answer(chat(max_tokens=1), exact).answer_tokens == 1
    varied = MockConfig(answer_share=0.25, jitter=0.5)
    calls = [chat(max_tokens=400, user=str(i)) for i in range(500)]
    lengths = [make_answer(call, varied).answer_tokens for call in calls]
    assert len(set(lengths)) > 50
    assert min(lengths) >= 50
    assert max(lengths) <= 150
    assert sum(lengths) / len(lengths) == pytest.approx(100, rel=0.05)
    most = make_answer(calls[0], MockConfig(answer_share=1.0, jitter=1.0, seed=3))
    assert most.answer_tokens <= 400
    uncapped = make_answer(chat(), exact)
    assert uncapped.answer_tokens == make_answer(chat(), MockConfig(answer_tokens=3)).answer_tokens


def test_events_join_to_the_whole_answer():
    """The deltas of a stream are the text of the unstreamed answer, token for token."""
    call, asked = chat(n=2), json.dumps({"model": "gpt-4o", "input": "hi"}).encode()
    answer = make_answer(call, MockConfig())
    texts, tokens = ["", ""], 0
    for event, brought in chat_events(call, answer, 0):
        choice = event["choices"][0]
        texts[choice["index"]] += choice["delta"].get("content", "")
        tokens += brought
    whole = chat_body(call, answer, 0)
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]
    assert tokens == whole["usage"]["completion_tokens"]
    call = read_call("responses", asked, None)
    answer = make_answer(call, MockConfig())
    events = [event for event, _ in responses_events(call, answer, 0)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "".join(event.get("delta", "") for event in events) == " ".join(answer.choices[0])
