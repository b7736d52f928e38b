"""A limited client with a cache: what was answered is not asked again, and nothing is stored that is not whole."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import time
import uuid

import httpx
import httpx2
import openai
import pytest

import limiter
from limiter.cache import Cache, cache_control
from limiter.cache.flights import Flight
from limiter.providers import profile
from limiter.transport.recording import Recorder
from tests.transport.callers import HELLO, TOKENS
from tests.transport.scripted import completion, cut, streamed, whole
from tests.transport.stored import NOT_STORED, Gate, chat_stream, unfinished


def text(answer) -> str:
    return answer.choices[0].message.content


# --- hits -------------------------------------------------------------------------------------


def test_what_was_answered_is_not_asked_again(caller, scripted, real):
    """The same question has the same answer, and takes nothing from any limit."""
    server = scripted(whole(completion(20), x_request_id="req_1"), cut)
    client = caller.client(server.base_url, cache=real)
    first = caller.chat(client)
    used = caller.used()
    assert caller.chat(client) == first
    raw = caller.run(
        client.chat.completions.with_raw_response.create(model=caller.model, messages=HELLO)
    )
    assert raw.headers["x-limiter-cache"] == "hit"
    assert raw.headers["x-request-id"] == "req_1"
    assert caller.used() == used
    assert len(server.requests) == 1


def test_a_hit_needs_no_room(caller, scripted, cache):
    """Where nothing is left of the quota, what was answered is answered still."""
    server = scripted(whole(completion(20)), cut)
    client = caller.client(server.base_url, cache=cache, timeout=0)
    first = caller.chat(client)
    held = caller.limiter.as_sync().acquire(caller.model, tokens=TOKENS - caller.used()["tokens"])
    with pytest.raises(limiter.WaitTimeout):
        caller.chat(client, temperature=0.5)
    assert caller.chat(client) == first
    held.cancel()


def test_another_question_has_another_answer(caller, scripted, cache):
    """What determines the answer is asked anew; what does not is not."""
    server = scripted(whole(completion(20)), whole(completion(21)), cut)
    client = caller.client(server.base_url, cache=cache)
    first = caller.chat(client)
    assert caller.chat(client, temperature=0.1) != first
    assert caller.chat(client, user="somebody", metadata={"a": "b"}) == first
    assert len(server.requests) == 2


def test_one_credential_never_reads_the_answers_of_another(caller, scripted, cache):
    """Two keys, the same prompt: two requests; shared, it is one."""
    server = scripted(whole(completion(20)), whole(completion(21)), cut)
    one = caller.chat(caller.client(server.base_url, cache=cache, api_key="one"))
    other = caller.chat(caller.client(server.base_url, cache=cache, api_key="other"))
    assert one != other
    assert len(server.requests) == 2


def test_shared_answers_are_everybody_s(caller, scripted):
    """`shared=True` says that the credential does not matter."""
    common = Cache(f"memory://{uuid.uuid4()}", shared=True)
    server = scripted(whole(completion(20)), cut)
    one = caller.chat(caller.client(server.base_url, cache=common, api_key="one"))
    assert caller.chat(caller.client(server.base_url, cache=common, api_key="other")) == one


# --- streams ----------------------------------------------------------------------------------


def test_a_stream_comes_back_as_a_stream_chunk_by_chunk(caller, scripted, real):
    """Every chunk as it was recorded, though the caller stopped reading at `[DONE]`."""
    server = scripted(streamed(chat_stream("one", " two", " three"), end="wait"), cut)
    client = caller.client(server.base_url, cache=real)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    first = caller.take(caller.chat(client, **options))
    assert len(first) == 5
    assert caller.take(caller.chat(client, **options)) == first
    plain = caller.take(caller.chat(client, stream=True))
    assert plain == first[:-1]


def test_a_recorded_stream_serves_those_who_want_none(caller, scripted, cache):
    """… with the usage that it told."""
    server = scripted(streamed(chat_stream("one", " two")), cut)
    client = caller.client(server.base_url, cache=cache)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    caller.take(caller.chat(client, **options))
    answer = caller.chat(client)
    assert text(answer) == "one two"
    assert answer.usage.total_tokens == 20


def test_a_stream_that_told_no_usage_is_not_enough_for_those_who_get_it(caller, scripted, cache):
    """They ask anew, and from then on their answer serves everybody."""
    answers = [streamed(chat_stream("one", usage=False)), whole(completion(20)), cut]
    server = scripted(*answers)
    client = caller.client(server.base_url, cache=cache)
    caller.take(caller.chat(client, stream=True))
    answer = caller.chat(client)
    assert answer.usage.total_tokens == 20
    chunks = caller.take(caller.chat(client, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == text(answer)
    assert len(server.requests) == 2


def test_a_stored_answer_serves_a_stream(caller, scripted, cache):
    """… with its usage where that is asked for."""
    server = scripted(whole(completion(20)), cut)
    client = caller.client(server.base_url, cache=cache)
    answer = caller.chat(client)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = caller.take(caller.chat(client, **options))
    words = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(words) == text(answer)
    assert chunks[-1].usage == answer.usage


def test_a_compressed_answer_is_stored_as_it_reads(caller, scripted, cache):
    """The coding of the wire is not the caller's."""
    data = gzip.compress(json.dumps(completion(20)).encode())
    server = scripted(whole(data, content_encoding="gzip"), cut)
    client = caller.client(server.base_url, cache=cache)
    assert caller.chat(client) == caller.chat(client)


# --- what is not stored -----------------------------------------------------------------------


# What the openai client, and those below it, make of answers that are none.
SDK_ERRORS = (openai.OpenAIError, httpx.HTTPError, httpx2.HTTPError, ValueError, AttributeError)


@pytest.mark.parametrize("kind", sorted(NOT_STORED))
def test_what_is_not_whole_is_not_stored(caller, scripted, cache, kind):
    """Errors, broken lines, filtered and cut answers, what is no answer at all."""
    server = scripted(NOT_STORED[kind], whole(completion(20)), cut)
    client = caller.client(server.base_url, cache=cache)
    is_stream = kind in ("broken_line", "error_inside")
    with contextlib.suppress(*SDK_ERRORS):
        first = caller.chat(client, stream=is_stream)
        if is_stream:
            caller.take(first)
    assert caller.chat(client).usage.total_tokens == 20
    caller.chat(client)
    assert len(server.requests) == 2


def test_an_answer_that_the_caller_bounds_is_whole_at_its_bound(caller, scripted, cache):
    """`length` is what was asked for, where `max_tokens` was."""
    server = scripted(whole(unfinished("length")), cut)
    client = caller.client(server.base_url, cache=cache)
    assert caller.chat(client, max_tokens=9) == caller.chat(client, max_tokens=9)


def test_a_stream_that_is_left_early_is_not_stored(caller, scripted, cache):
    """The next one asks, and waits for nobody."""
    server = scripted(streamed(chat_stream("one", " two"), end="wait"))
    client = caller.client(server.base_url, cache=cache)
    for _ in range(2):
        stream = caller.chat(client, stream=True)
        caller.take(stream, 1)
        caller.run(stream.close())
    assert len(server.requests) == 2


def test_the_policy_of_the_caller_decides(caller, scripted):
    """It is asked before the call with None, and with the answer after it."""
    seen = []

    def policy(request, answer):
        seen.append((request["messages"], answer and answer["usage"]["total_tokens"]))
        return not answer or answer["usage"]["total_tokens"] > 20

    own = Cache(f"memory://{uuid.uuid4()}", cacheable=policy)
    server = scripted(whole(completion(20)), whole(completion(21)), cut)
    client = caller.client(server.base_url, cache=own)
    totals = [caller.chat(client).usage.total_tokens for _ in range(3)]
    assert totals == [20, 21, 21]
    assert seen == [(HELLO, None), (HELLO, 20), (HELLO, None), (HELLO, 21), (HELLO, None)]


def test_a_policy_that_raises_costs_nobody_an_answer(caller, scripted, caplog):
    """It is logged, and nothing is cached."""
    own = Cache(f"memory://{uuid.uuid4()}", cacheable=lambda *_: 1 / 0)
    server = scripted(whole(completion(20)))
    client = caller.client(server.base_url, cache=own)
    assert caller.chat(client) == caller.chat(client)
    assert len(server.requests) == 2
    assert "cacheable= raised" in caplog.text


def test_only_what_is_asked_to_be_the_same_where_that_is_wanted(caller, scripted):
    """`deterministic=True`: temperature 0, or a seed."""
    own = Cache(f"memory://{uuid.uuid4()}", deterministic=True)
    server = scripted(*[whole(completion(20))] * 4, cut)
    client = caller.client(server.base_url, cache=own)
    for _ in range(2):
        caller.chat(client)
        caller.chat(client, temperature=0)
        caller.chat(client, seed=7)
    assert len(server.requests) == 4


def test_a_recorder_holds_no_more_than_may_be_stored():
    """A body that is too large is passed on, and not kept meanwhile."""
    settings = Cache(f"memory://{uuid.uuid4()}", entry_bytes=1000).settings
    question = settings.question(
        "POST", "http://x/v1/chat/completions", "/v1/chat/completions", {}, {}
    )
    flight = Flight(question, "id", leads=False)
    recorder = Recorder(flight, settings, profile("openai"), {"content-type": "application/json"})
    for _ in range(100):
        recorder.saw(b"x" * 500)
        assert len(recorder._body) <= 1500
    assert recorder.kept() is None


# --- control ----------------------------------------------------------------------------------


def asked(told):
    return {"extra_headers": {"x-limiter-cache": told}}


def test_a_call_s_own_word_goes_before_the_settings(caller, scripted, cache):
    """`no-store` neither reads nor stores, `refresh` asks anew and stores, seconds bound the age."""
    server = scripted(*(whole(completion(20 + i)) for i in range(4)), cut)
    client = caller.client(server.base_url, cache=cache)
    told = [{}, asked("no-store"), {}, asked("refresh"), {}, asked("3600"), asked("0.0000001")]
    totals = []
    for options in told:
        totals.append(caller.chat(client, **options).usage.total_tokens)
        time.sleep(0.002)  # so that the last one finds an answer that is older than it wants
    assert totals == [20, 21, 20, 22, 22, 22, 23]
    assert not any("x-limiter-cache" in each.headers for each in server.requests)


def test_a_block_s_word_goes_before_the_settings(caller, scripted, cache):
    """… and after the call's own."""
    server = scripted(*(whole(completion(20 + i)) for i in range(3)), cut)
    client = caller.client(server.base_url, cache=cache)
    caller.chat(client)
    with cache_control("refresh"):
        assert caller.chat(client).usage.total_tokens == 21
        assert caller.chat(client, **asked("no-store")).usage.total_tokens == 22
    assert caller.chat(client).usage.total_tokens == 21


def test_a_control_that_is_none_is_an_error(caller, scripted, cache):
    """It says what there is."""
    server = scripted(whole(completion(20)))
    client = caller.client(server.base_url, cache=cache)
    with pytest.raises(limiter.ConfigError, match="no-store"):
        caller.chat(client, **asked("sometimes"))
    assert not server.requests


# --- stale answers, and stores that are away ------------------------------------------------------


def test_a_stale_answer_is_served_and_got_anew_once(caller, scripted, url):
    """Nobody waits for it, and one call sees to it, under the limit like any other."""
    own = Cache(url, namespace=uuid.uuid4().hex, ttl=0.001, stale=600)
    gate = Gate(whole(completion(21)))
    server = scripted(whole(completion(20)), gate, cut)
    client = caller.client(server.base_url, cache=own)
    caller.chat(client)
    time.sleep(0.005)  # past its millisecond
    assert [caller.chat(client).usage.total_tokens for _ in range(5)] == [20] * 5
    caller.until(gate.asked.is_set)
    gate.open.set()
    caller.until(lambda: caller.used()["requests"] == 2)
    caller.until(lambda: caller.chat(client).usage.total_tokens == 21)
    assert len(server.requests) >= 2
    caller.run(own.as_async().aclose()) if caller.is_async else own.close()


def test_without_its_store_calls_go_as_if_there_were_none(caller, scripted, caplog):
    """No exception, one line in the log."""
    away = Cache("redis://127.0.0.1:1/0", timeout=0.2)
    server = scripted(whole(completion(20)))
    client = caller.client(server.base_url, cache=away)
    with caplog.at_level(logging.WARNING, logger="limiter"):
        for _ in range(5):
            assert caller.chat(client).usage.total_tokens == 20
    assert len(server.requests) == 5
    assert [record.message for record in caplog.records if "cache is away" in record.message]
    assert len(caplog.records) == 1
    caller.run(away.as_async().aclose()) if caller.is_async else away.close()


def test_what_the_client_alone_knows_goes_past_the_cache(caller, scripted, cache):
    """Other methods and endpoints, and bodies that cannot be read, are passed on each time."""
    server = scripted(whole({"object": "list", "data": []}))
    client = caller.client(server.base_url, cache=cache, unmatched="pass")
    for _ in range(2):
        caller.run(client.models.list())
        caller.run(client.moderations.create(input="x"))
    assert len(server.requests) == 4


def test_a_cache_is_a_cache(caller):
    """A URL in its place is an error that says what to write."""
    with pytest.raises(limiter.ConfigError, match="Cache\\('redis"):
        caller.limiter.http_client(cache="redis://localhost")
