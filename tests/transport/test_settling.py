"""What is left of each limit after a call has ended, in every way that it can end."""

from __future__ import annotations

import gc
import gzip
import json
import zlib

import httpx
import openai
import pytest

from limiter.mock import MockConfig, background
from limiter.providers.openai import response_tokens
from tests.transport.callers import HELLO, HELLO_TOKENS
from tests.transport.scripted import DONE, completion, cut, event, streamed, whole

ONE = {"requests": 1, "tokens": HELLO_TOKENS, "concurrency": 0}
NOTHING = {"requests": 0, "tokens": 0, "concurrency": 0}


def test_a_chat_completion_takes_what_the_provider_charges(caller, mock):
    """One call takes exactly what the provider's own bucket lost, and its slot comes back."""
    before = mock.stats()["tokens_accepted"]
    answer = caller.chat(caller.client(mock.base_url))
    assert answer.choices[0].message.content
    assert caller.used() == ONE
    assert mock.stats()["tokens_accepted"] - before == HELLO_TOKENS


def test_a_stream_takes_the_same_and_is_settled_when_it_is_done(caller, mock):
    """The slot is back as soon as `[DONE]` was read, with the same text as unstreamed."""
    client = caller.client(mock.base_url)
    words = caller.chat(client).choices[0].message.content
    stream = caller.chat(client, stream=True)
    assert caller.used()["concurrency"] == 1
    chunks = caller.take(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == words
    assert caller.used() == {"requests": 2, "tokens": 2 * HELLO_TOKENS, "concurrency": 0}


def test_a_stream_is_settled_at_done_though_the_line_stays_open(caller, scripted):
    """What a provider sends, or fails to send, after `[DONE]` matters to nobody."""
    server = scripted(streamed([event("hi"), DONE], end="wait"))
    stream = caller.chat(caller.client(server.base_url), stream=True)
    assert [chunk.choices[0].delta.content for chunk in caller.take(stream)] == ["hi"]
    assert caller.used() == ONE


def test_a_stream_gives_its_slot_back_before_it_is_closed(caller, scripted):
    """The last event is enough: a caller who is slow to close holds up nobody."""
    last = b'data: {"type": "response.completed", "response": {"id": "r"}}\n\n'
    server = scripted(streamed([b'data: {"type": "response.created"}\n\n', last], end="wait"))
    client = caller.client(server.base_url)
    stream = caller.run(client.responses.create(model=caller.model, input="hello", stream=True))
    caller.take(stream, 1)
    assert caller.used()["concurrency"] == 1
    caller.take(stream, 1)
    assert caller.used()["concurrency"] == 0
    caller.run(stream.close())


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_response_is_settled_to_its_usage(caller, mock, is_streamed):
    """Responses are charged the input, the scaffold, and the output beyond the scaffold."""
    client = caller.client(mock.base_url)
    asked = {"model": caller.model, "input": "hello", "instructions": "be brief"}
    answer = caller.run(client.responses.create(**asked, stream=is_streamed))
    if is_streamed:
        answer = caller.take(answer)[-1].response
    usage = answer.usage
    charged = response_tokens(usage.input_tokens, usage.output_tokens, 19)
    assert charged > usage.input_tokens + 19  # else this proves nothing
    assert caller.used() == {"requests": 1, "tokens": charged, "concurrency": 0}


def test_embeddings_take_their_estimate(caller, mock):
    """They are charged at admission, and their long answers pass unread."""
    client = caller.client(mock.base_url)
    caller.run(client.embeddings.create(model=caller.model, input=["hello", "you"]))
    assert caller.used() == {"requests": 1, "tokens": 2, "concurrency": 0}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_by_usage_a_call_takes_what_its_usage_says(caller, mock, is_streamed):
    """Under the rule "usage" the estimate, however wrong, is replaced by the answer's total."""
    client = caller.client(mock.base_url, rule="usage")
    if is_streamed:
        stream = caller.chat(client, stream=True, stream_options={"include_usage": True})
        total = caller.take(stream)[-1].usage.total_tokens
    else:
        total = caller.chat(client).usage.total_tokens
    assert caller.used() == {"requests": 1, "tokens": total, "concurrency": 0}


def early_close(caller, stream):
    caller.take(stream, 2)
    caller.run(stream.close())


def broken_line(caller, stream):
    # openai 2 lets the error of httpx through.
    with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
        caller.take(stream)


@pytest.mark.parametrize(("leave", "end"), [(early_close, "wait"), (broken_line, "cut")])
def test_a_stream_that_ends_early_is_settled_by_what_was_seen(caller, scripted, leave, end):
    """Closed by the caller or broken by the line: prompt and answer as far as they came."""
    server = scripted(streamed([event("12345678"), event("1234")], end=end))
    stream = caller.chat(caller.client(server.base_url, rule="usage"), stream=True)
    leave(caller, stream)
    prompt = 3 + 4 + 2
    assert caller.used() == {"requests": 1, "tokens": prompt + 3, "concurrency": 0}


def test_a_stream_that_is_left_by_a_break_is_settled(caller, scripted):
    """`with stream: for …: break` closes it; the slot is back when the block is left."""
    server = scripted(streamed([event("1234")], end="wait"))
    stream = caller.chat(caller.client(server.base_url), stream=True)
    if caller.is_async:

        async def leave():
            async with stream:
                async for _ in stream:
                    break

        caller.run(leave())
    else:
        with stream:
            for _ in stream:
                break
    assert caller.used() == ONE


def test_a_stream_that_nobody_reads_or_closes_is_settled(caller, scripted):
    """Dropped on the floor: its slot comes back all the same."""
    server = scripted(streamed([event("1234")], end="wait"))
    stream = caller.chat(caller.client(server.base_url), stream=True)
    assert caller.used()["concurrency"] == 1
    del stream
    gc.collect()
    caller.until(lambda: caller.used() == ONE)


def test_a_refusal_gives_the_tokens_back(caller):
    """A 429 has cost a request and no tokens."""
    with background(MockConfig(rpm=1, tpm=None), clock_us=lambda: 0) as server:
        # Without a word about waiting, so that our own levels are not brought down to theirs.
        server.refuse(count=1)
        client = caller.client(server.base_url, retry=None)
        with pytest.raises(openai.RateLimitError):
            caller.chat(client)
        caller.chat(client)
    assert caller.used() == {**ONE, "requests": 2}


def test_each_attempt_of_the_client_s_own_retries_is_reserved(caller, scripted):
    """The provider counts attempts, so the limiter does: a 500 stands, a 429 costs a request."""
    soon = {"retry_after_ms": "1"}  # not beside the 429: it would bring our levels down
    server = scripted(whole({}, 500, **soon), whole({}, 429), whole(completion(20)))
    caller.chat(caller.client(server.base_url, max_retries=2, retry=None))
    assert len(server.requests) == 3
    assert caller.used() == {"requests": 3, "tokens": 2 * HELLO_TOKENS, "concurrency": 0}


@pytest.mark.parametrize("fault", ["error_rate", "overload_rate"])
def test_an_error_of_the_provider_has_cost_the_call(caller, fault):
    """What was admitted is charged, as the provider's bucket says too."""
    with background(MockConfig(**{fault: 1.0})) as server:
        with pytest.raises(openai.InternalServerError):
            caller.chat(caller.client(server.base_url, retry=None))
        assert server.stats()["tokens_accepted"] == HELLO_TOKENS
    assert caller.used() == ONE


def test_a_call_that_was_never_sent_takes_nothing(caller, scripted):
    """A refused connection gives back all, the request too."""
    server = scripted(whole({}))
    address = server.base_url
    server.close()
    with pytest.raises(openai.APIConnectionError):
        caller.chat(caller.client(address, retry=None))
    assert caller.used() == NOTHING


def test_a_call_whose_fate_is_unknown_has_cost_its_estimate(caller, scripted):
    """A line that breaks before the answer, or a timeout after sending, may have been charged."""
    server = scripted(cut)
    with pytest.raises(openai.APIConnectionError):
        caller.chat(caller.client(server.base_url, retry=None))
    assert caller.used() == ONE
    server = scripted(lambda handler: handler.scripted.leave.wait(60))
    with pytest.raises(openai.APITimeoutError):
        caller.chat(caller.client(server.base_url, retry=None).with_options(timeout=0.1))
    assert caller.used() == {"requests": 2, "tokens": 2 * HELLO_TOKENS, "concurrency": 0}


def test_a_redirect_costs_nothing_of_its_own(caller, scripted):
    """The call is the one that follows; the first hop gives its cost back."""
    server = scripted(whole({}, 307, location="/v2/chat/completions"), whole(completion(20)))
    caller.chat(caller.client(server.base_url))
    assert [r.path for r in server.requests] == ["/v1/chat/completions", "/v2/chat/completions"]
    assert caller.used() == ONE


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": raw_deflate}


@pytest.mark.parametrize("packer", PACKERS)
def test_compressed_answers_are_read_too(caller, scripted, packer):
    """Usage is found in a body, and the end in a stream, that went packed over the wire."""
    pack, coding = PACKERS[packer], {"content_encoding": packer.replace("raw", "deflate")}
    usage = {"prompt_tokens": 10, "completion_tokens": 30, "total_tokens": 40}
    packed = pack(event("hi") + event(usage=usage) + DONE)
    pieces = [packed[at : at + 7] for at in range(0, len(packed), 7)]
    server = scripted(
        whole(pack(json.dumps(completion(20)).encode()), **coding),
        streamed(pieces, end="whole", **coding),
    )
    client = caller.client(server.base_url, rule="usage")
    assert caller.chat(client).usage.total_tokens == 20
    assert caller.used()["tokens"] == 20
    assert [c.usage for c in caller.take(caller.chat(client, stream=True))][-1].total_tokens == 40
    assert caller.used() == {"requests": 2, "tokens": 60, "concurrency": 0}


def test_only_codings_that_can_be_read_are_asked_for(caller, scripted):
    """A caller who takes brotli gets gzip or deflate for limited calls; others are left alone."""
    server = scripted(whole(completion(20)))
    client = caller.client(server.base_url, default_headers={"accept-encoding": "br, gzip;q=0.5"})
    caller.chat(client)
    caller.run(client.models.list())
    asked = [request.headers["accept-encoding"] for request in server.requests]
    assert asked == ["gzip, deflate", "br, gzip;q=0.5"]


def test_a_packed_request_is_read(caller, scripted):
    """A gzipped body costs what its text costs; a coding that is not ours costs one request."""
    body = json.dumps({"model": caller.model, "messages": HELLO}).encode()
    server = scripted(whole(completion(20)))
    http = caller.limiter.http_client(family=caller.family, quota=caller.model)
    url = f"{server.base_url}/chat/completions"
    for coding, data in (("gzip", gzip.compress(body)), ("br", b"\x00\x01")):
        caller.run(http.post(url, content=data, headers={"content-encoding": coding}))
    caller.run(http.aclose() if caller.is_async else http.close())
    assert caller.used() == {**ONE, "requests": 2}


def test_uploads_are_sent_whole_and_cost_one_request(caller, scripted):
    """A form is not read, but its model is known; the file arrives as it was given."""
    server = scripted(whole({"text": "hi", "usage": {"type": "tokens", "total_tokens": 99}}))
    client = caller.client(server.base_url)
    file = ("a.wav", b"RIFF" * 10_000, "audio/wav")
    caller.run(client.audio.transcriptions.create(model=caller.model, file=file))
    assert file[1] in server.requests[0].content
    assert caller.used() == {**NOTHING, "requests": 1}


def test_bodies_that_are_read_once_are_left_to_the_sender(caller, scripted):
    """An iterator as a body is not touched before it is sent."""
    server = scripted(whole(completion(20)))

    def pieces():
        yield b'{"model": "m", '
        yield b'"messages": []}'

    async def async_pieces():
        for piece in pieces():
            yield piece

    http = caller.limiter.http_client(family=caller.family, quota=caller.model)
    content = async_pieces() if caller.is_async else pieces()
    caller.run(http.post(f"{server.base_url}/chat/completions", content=content))
    caller.run(http.aclose() if caller.is_async else http.close())
    assert server.requests[0].content == b'{"model": "m", "messages": []}'
    assert caller.used() == {**NOTHING, "requests": 1}


def test_a_body_that_is_no_text_passes_untouched(caller, scripted):
    """Speech is bytes: one request, the same bytes, the slot back at their end."""
    sound = bytes(range(256)) * 1000
    server = scripted(whole(sound, kind="audio/mpeg"))
    client = caller.client(server.base_url)
    asked = {"model": caller.model, "input": "hello", "voice": "alloy"}
    answer = caller.run(client.audio.speech.create(**asked))
    assert answer.content == sound
    assert caller.used() == {**NOTHING, "requests": 1}


def test_calls_that_cost_nothing_pass(caller, mock):
    """Listing the models asks no quota, and needs none."""
    client = caller.client(mock.base_url)
    assert caller.run(client.models.list()).data
    assert caller.used() == NOTHING


def test_raw_and_streaming_responses_are_untouched(caller, mock):
    """Headers, ids and bytes are what the provider sent, however the caller reads them."""
    client = caller.client(mock.base_url)
    asked = {"model": caller.model, "messages": HELLO}
    raw = caller.run(client.chat.completions.with_raw_response.create(**asked))
    assert raw.headers["x-ratelimit-limit-requests"] == "100000"
    assert raw.http_response.extensions["http_version"] == b"HTTP/1.1"
    assert json.loads(raw.content)["usage"]["total_tokens"] == raw.parse().usage.total_tokens
    assert caller.used() == ONE
