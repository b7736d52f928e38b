"""The server over real HTTP, with the real openai clients. Loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from starlette.requests import ClientDisconnect

from limiter.mock import MockConfig, background, create_app
from tests.mock.asking import HELLO, HELLO_BILLED, HELLO_TOKENS, ask, client_of, post, wait_until


@pytest.fixture(scope="module")
def server():
    with background(MockConfig(rpm=10_000, tpm=10_000_000)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as made:
        yield made


def test_chat_answers_with_usage(client):
    """An unmodified client gets a typed answer whose usage adds up, the same each time."""
    first, second = ask(client), ask(client)
    usage = first.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    words = first.choices[0].message.content
    assert len(words.split()) == usage.completion_tokens
    assert second.choices[0].message.content == words
    assert first._request_id != second._request_id


def test_a_cap_on_tokens_holds_and_is_told(client):
    """finish_reason is "length" where the cap cut the answer; every choice has it."""
    capped = ask(client, max_completion_tokens=2, n=3)
    assert [choice.finish_reason for choice in capped.choices] == ["length"] * 3
    assert capped.usage.completion_tokens == 6


def test_a_chat_stream_brings_the_same_text_and_usage(client):
    """The deltas join to the unstreamed text; the last chunk has usage only if it was asked for."""
    whole = ask(client)
    for wants in (True, False):
        chunks = list(ask(client, stream=True, stream_options={"include_usage": wants}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        assert [c.usage for c in chunks if c.usage] == ([whole.usage] if wants else [])


def test_responses_come_whole_and_streamed(client):
    """Both forms end in the same response, with usage."""
    whole = client.responses.create(model="gpt-4o", input="hello", instructions="be brief")
    assert whole.status == "completed"
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    with client.responses.stream(model="gpt-4o", input="hello", instructions="be brief") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert (final.output_text, final.usage) == (whole.output_text, whole.usage)


def test_a_capped_response_is_incomplete(client):
    """The reason is told in the body, and by the last event of a stream."""
    asked = {"model": "gpt-4o", "input": "hello", "max_output_tokens": 16, "temperature": 0.1}
    whole = client.responses.create(**asked)
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert list(client.responses.create(**asked, stream=True))[-1].type == "response.incomplete"


def test_embeddings_are_unit_vectors_that_follow_from_the_text(client):
    """Equal texts have equal vectors, of the asked size, in both encodings."""
    made = client.embeddings.create(model="e", input=["a", "b", "a"], dimensions=8)
    first, other, again = (one.embedding for one in made.data)
    assert first == again != other
    assert sum(x * x for x in first) == pytest.approx(1)
    plain = client.embeddings.create(
        model="e", input="a", dimensions=8, encoding_format="float"
    ).data[0]
    assert plain.embedding == pytest.approx(first)
    assert made.usage.prompt_tokens == 3


def test_azure_clients_find_their_paths(server):
    """Deployment paths and the v1 path serve the same quota as OpenAI's own."""
    azure = openai.AzureOpenAI(
        azure_endpoint=server.azure_endpoint, api_key="any", api_version="2024-10-21"
    )
    with azure:
        made = azure.chat.completions.create(model="my-deployment", messages=HELLO)
        assert made.model == "my-deployment"
        assert azure.embeddings.create(model="e", input="x").data
        assert azure.responses.create(model="gpt-4o", input="x").output_text
    with openai.OpenAI(base_url=f"{server.azure_endpoint}/openai/v1", api_key="any") as client:
        assert ask(client).choices
        assert client.models.list().data


@pytest.mark.asyncio
async def test_async_clients_run_side_by_side(server):
    """Concurrent calls are answered each with its own answer; all of them are counted."""
    before = server.stats()["accepted"]
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="any") as client:
        asked = [
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": str(number)}]
            )
            for number in range(20)
        ]
        answers = await asyncio.gather(*asked)
        stream = await client.responses.create(model="gpt-4o", input="x", stream=True)
        kinds = [event.type async for event in stream]
    assert len({answer.choices[0].message.content for answer in answers}) == 20
    assert kinds[-1] == "response.completed"
    assert server.stats()["accepted"] - before == 21


def test_headers_and_refusals_follow_the_bucket():
    """At a clock that stands still and then moves, every number is the bucket's."""
    now = [0]
    config = MockConfig(rpm=60, tpm=10 * HELLO_TOKENS)
    with background(config, clock_us=lambda: now[0]) as server, client_of(server) as client:
        for _ in range(9):
            ask(client)
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
        told = {k: v for k, v in raw.headers.items() if k.startswith("x-ratelimit")}
        assert told == {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "50",
            "x-ratelimit-reset-requests": "10s",
            "x-ratelimit-limit-tokens": "40",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "1m0s",
        }
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client)
        error = caught.value
        assert "Limit 40, Used 40, Requested 4. Please try again in 6s." in error.message
        assert (error.type, error.code) == ("tokens", "rate_limit_exceeded")
        assert error.response.headers["retry-after"] == "6"
        assert error.response.headers["retry-after-ms"] == "6000"
        assert error.response.headers["x-ratelimit-remaining-requests"] == "50"
        now[0] = 6_000_000
        ask(client)
        with pytest.raises(openai.RateLimitError, match="Request too large for gpt-4o") as caught:
            client.responses.create(model="gpt-4o", input="x" * 100)
        assert "retry-after" not in caught.value.response.headers


def test_usage_is_charged_at_completion():
    """The estimate is replaced by the usage; headers of an unstreamed call show that already."""
    now = [0]
    config = MockConfig(rpm=None, tpm=10_000, charge="usage")
    with background(config, clock_us=lambda: now[0]) as server, client_of(server) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
        total = raw.parse().usage.total_tokens
        assert int(raw.headers["x-ratelimit-remaining-tokens"]) == 10_000 - total
        assert "x-ratelimit-limit-requests" not in raw.headers
        list(ask(client, stream=True))
        stats = server.stats()
        assert stats["tokens_accepted"] == 2 * total
        assert stats["limits"]["tokens"]["remaining"] == 10_000 - 2 * total


@pytest.mark.parametrize(
    ("charge", "at_start", "at_end"),
    [
        ("admission", HELLO_TOKENS, HELLO_TOKENS),
        ("documented", 2 + 400, 2 + 400),
        ("usage", HELLO_TOKENS, HELLO_BILLED + 100),
        ("reserve", HELLO_BILLED + 400, HELLO_BILLED + 100),
    ],
)
def test_each_charge_takes_its_amount_at_the_start_and_at_the_end(charge, at_start, at_end):
    """Of a call with max_tokens=400 whose answer has 100: a stream's headers show the start."""
    config = MockConfig(rpm=None, tpm=10_000, charge=charge, answer_share=0.25)
    with background(config, clock_us=lambda: 0) as server, client_of(server) as client:
        with client.chat.completions.with_streaming_response.create(
            model="gpt-4o", messages=HELLO, max_tokens=400, stream=True
        ) as raw:
            told = int(raw.headers["x-ratelimit-remaining-tokens"])
            list(raw.parse())
        assert told == 10_000 - at_start
        wait_until(lambda: server.stats()["in_flight"] == 0)
        assert server.stats()["limits"]["tokens"]["level"] == 10_000 - at_end
        assert server.stats()["tokens_accepted"] == at_end


def test_usage_may_leave_debt_and_a_reservation_never_does():
    """A call that is charged afterwards gets in on its input, and overdraws what is left."""
    for charge, served in (("usage", True), ("reserve", False)):
        config = MockConfig(rpm=None, tpm=100, charge=charge, answer_share=0.25)
        with background(config, clock_us=lambda: 0) as server, client_of(server) as client:
            try:
                ask(client, max_tokens=1_000)
            except openai.RateLimitError:
                assert not served
            level = server.stats()["limits"]["tokens"]["level"]
            assert level == (100 - HELLO_BILLED - 250 if served else 100)


def test_a_failed_call_gives_back_what_was_reserved_for_its_answer():
    """It wrote nothing, so it keeps its input's cost alone."""
    config = MockConfig(rpm=None, tpm=10_000, charge="reserve", error_rate=1.0)
    with background(config, clock_us=lambda: 0) as server, client_of(server) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, max_tokens=400)
        left = caught.value.response.headers["x-ratelimit-remaining-tokens"]
        assert int(left) == 10_000 - HELLO_BILLED


def test_who_leaves_a_stream_pays_for_what_was_told():
    """A stream that is dropped early is charged prompt and the tokens so far, not the estimate."""
    config = MockConfig(charge="usage", token_latency_s=0.02, answer_tokens=400)
    with background(config) as server, client_of(server) as client:
        stream = ask(client, stream=True)
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        stream.close()
        wait_until(lambda: server.stats()["in_flight"] == 0)
        whole = ask_quickly(config)
        assert 0 < server.stats()["tokens_accepted"] < whole


@pytest.mark.asyncio
async def test_who_leaves_before_a_stream_begins_is_no_longer_in_flight():
    """A call whose answer cannot even start is over: it keeps no slot, and no reservation."""
    app = create_app(MockConfig(charge="usage"))
    body = json.dumps({"model": "gpt-4o", "messages": HELLO, "stream": True}).encode()
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def gone(_message):
        raise OSError

    async def keep(message):
        sent.append(message)

    call = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    with contextlib.suppress(OSError, ClientDisconnect):
        await app({**call, "asgi": {"spec_version": "2.4"}}, receive, gone)
    await app({"type": "http", "method": "GET", "path": "/stats", "headers": []}, receive, keep)
    stats = json.loads(sent[1]["body"])
    assert (stats["accepted"], stats["in_flight"], stats["max_in_flight"]) == (1, 0, 1)


def ask_quickly(config):
    fast = MockConfig(answer_tokens=config.answer_tokens)
    with background(fast) as server, client_of(server) as client:
        return ask(client).usage.total_tokens


def test_calls_in_flight_do_not_wait_for_each_other():
    """Calls that take some time are under way side by side."""
    config = MockConfig(latency_s=0.3)
    with background(config) as server, client_of(server) as client:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(client), range(8)))
        assert server.stats()["max_in_flight"] > 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error_rate", 500, None),
        ("overload_rate", 503, "server_is_overloaded"),
        ("slow_down_rate", 429, "slow_down"),
    ],
)
def test_faults_answer_with_their_status_and_keep_their_charge(fault, status, code):
    """A failed call has taken its cost, is counted as an error, and shows the headers."""
    with background(MockConfig(**{fault: 1.0})) as server, client_of(server) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client)
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert "retry-after" not in caught.value.response.headers
        stats = server.stats()
        assert (stats["errors"], stats["tokens_accepted"]) == (1, HELLO_TOKENS)


def test_faults_have_their_share_and_let_retries_through():
    """Faults are drawn by arrival, so the same body gets through when it is sent again."""
    with background(MockConfig(error_rate=0.5)) as server, client_of(server) as client:
        outcomes = []
        for _ in range(60):
            try:
                ask(client, max_tokens=1)
                outcomes.append(True)
            except openai.InternalServerError:
                outcomes.append(False)
        assert 15 <= sum(outcomes) <= 45
        assert server.stats()["errors"] == 60 - sum(outcomes)


def test_cut_connections_end_in_the_middle():
    """Whole or streamed, the client sees a connection that broke, after some of the answer."""
    with background(MockConfig(cut_rate=1.0)) as server, client_of(server) as client:
        with pytest.raises(openai.APIConnectionError):
            ask(client)
        stream = ask(client, stream=True)
        seen = []
        with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
            seen.extend(stream)
        assert seen
        assert all(chunk.choices[0].finish_reason is None for chunk in seen)
        wait_until(lambda: server.stats()["in_flight"] == 0)


def test_models_share_one_quota_unless_told_otherwise():
    """By default one model's calls close the other's; with per_model each has its own limits."""
    for per_model, refused in ((False, 1), (True, 0)):
        config = MockConfig(rpm=1, per_model=per_model)
        with background(config) as server, client_of(server) as client:
            client.embeddings.create(model="a", input="x")
            try:
                client.embeddings.create(model="b", input="x")
            except openai.RateLimitError:
                assert not per_model
            stats = server.stats()
            assert (stats["accepted"], stats["refused"]) == (2 - refused, refused)
            assert ("models" in stats) == per_model


@pytest.mark.parametrize(
    ("path", "data", "method", "status"),
    [
        ("/chat/completions", b"{", "POST", 400),
        ("/chat/completions", b"{}", "POST", 400),
        ("/nowhere", b"{}", "POST", 404),
        ("/chat/completions", None, "GET", 405),
    ],
)
def test_errors_have_openai_s_shape(server, path, data, method, status):
    """Malformed bodies, unknown paths and wrong methods are told as OpenAI does, uncharged."""
    before = server.stats()
    code, body, _ = post(server.base_url + path, data, method)
    assert code == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    after = server.stats()
    assert after["errors"] == before["errors"] + 1
    assert after["accepted"] == before["accepted"]


def test_threads_share_one_quota_exactly():
    """Many clients at once: the bucket admits its capacity and no more."""
    config = MockConfig(rpm=25, tpm=None)
    with background(config, clock_us=lambda: 0) as server, client_of(server) as client:
        refused = threading.Semaphore(0)

        def one(_):
            try:
                ask(client, max_tokens=1)
            except openai.RateLimitError:
                refused.release()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(60)))
        stats = server.stats()
        assert (stats["accepted"], stats["refused"]) == (25, 35)
