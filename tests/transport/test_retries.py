"""What becomes of a call that failed: whether it is repeated, for how long, and who is told."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
import pickle
import threading

import openai
import pytest

import limiter
from limiter import AsyncLimiter, CallFailed, Limiter, Quota, Retry
from limiter.mock import MockConfig, background
from limiter.providers.profile import EXPECTED_OUTPUT_TOKENS
from limiter.transport import raised
from tests.transport.callers import HELLO, HELLO_TOKENS, still
from tests.transport.scripted import DONE, completion, cut, event, streamed, whole
from tests.transport.test_errors import cancel, chat, left, levels, until
from tests.transport.test_settling import NOTHING, ONE

SOON = Retry(attempts=3, backoff=0.001)
OK = whole(completion(20))


def failing(status, code="x", **headers):
    return whole({"error": {"message": "No.", "code": code, "type": "t"}}, status, **headers)


def failures(caller):
    """Return how many calls in a row the fleet knows to have failed."""
    return caller.limiter.as_sync().peek(caller.model).failures


def brake_s(caller):
    return caller.limiter.as_sync().peek(caller.model).brake_s


def http_of(caller, **settings):
    return caller.limiter.http_client(family=caller.family, **settings)


def post(caller, http, server, **options):
    body = {"model": caller.model, "messages": HELLO}
    return caller.run(http.post(f"{server.base_url}/chat/completions", json=body, **options))


def close(caller, http):
    caller.run(http.aclose() if caller.is_async else http.close())


# --- what is repeated ---------------------------------------------------------------------------

REPEATED = {
    "refused": failing(429, "rate_limit_exceeded"),
    "slow down": failing(429, "slow_down"),
    "overloaded": failing(503, "server_is_overloaded"),
    "failed": failing(500),
    "timeout of the server": failing(408),
    "conflict": failing(409),
    "by the server's own word": failing(400, x_should_retry="true"),
    "no answer": cut,
}


@pytest.mark.parametrize("what", REPEATED)
def test_what_another_attempt_may_mend_is_repeated(caller, scripted, what):
    """Here, and not by the SDK: it hears of the last answer alone; the provider sees the count."""
    server = scripted(REPEATED[what], OK)
    name = (
        f"{caller.model}-live"  # after a refusal or `slow_down` only what is refilled may be used
    )
    caller.limiter.declare(Quota(name, rpm=60_000, tpm=6_000_000))
    client = caller.client(server.base_url, retry=SOON, max_retries=0)
    assert caller.chat(client, model=name).usage.total_tokens == 20
    counts = [request.headers["x-stainless-retry-count"] for request in server.requests]
    assert counts == ["0", "1"]
    assert server.requests[0].content == server.requests[1].content


FINAL = {
    "no money": (failing(429, "insufficient_quota"), openai.RateLimitError),
    "no money, by its new name": (failing(429, "credit_balance_exhausted"), openai.RateLimitError),
    "a mistake": (failing(400), openai.BadRequestError),
    "no key": (failing(401), openai.AuthenticationError),
    "no access": (failing(403), openai.PermissionDeniedError),
    "no such model": (failing(404), openai.NotFoundError),
    "the server's own word": (failing(500, x_should_retry="false"), openai.InternalServerError),
}


@pytest.mark.parametrize("what", FINAL)
def test_what_no_attempt_mends_is_passed_on_once(caller, scripted, what):
    """As the error that it always was; nobody repeats it, the SDK neither."""
    answer, kind = FINAL[what]
    server = scripted(answer, OK)
    with pytest.raises(kind) as caught:
        caller.chat(caller.client(server.base_url, retry=SOON, max_retries=2))
    assert not isinstance(caught.value, CallFailed)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(server.requests) == 1


def test_each_attempt_is_settled_by_how_it_ended(caller, scripted):
    """Law 3: a 500 stands, a 429 costs its request, a lost answer its estimate; slots come back."""
    server = scripted(failing(500), failing(429), cut, OK)
    retry = Retry(attempts=4, backoff=0.001)
    caller.chat(caller.client(server.base_url, retry=retry, rule="usage"))
    tokens = 2 * (HELLO_TOKENS + EXPECTED_OUTPUT_TOKENS) + 20
    assert caller.used() == {"requests": 4, "tokens": tokens, "concurrency": 0}


def test_an_attempt_that_was_never_sent_gives_all_back(caller, scripted):
    """And is repeated: nothing of it is charged when the last one failed like the first."""
    server = scripted(OK)
    address = server.base_url
    server.close()
    with pytest.raises(CallFailed) as caught:
        caller.chat(caller.client(address, retry=SOON))
    assert (caught.value.attempts, caught.value.status, caught.value.response) == (3, 0, None)
    assert isinstance(caught.value, openai.APIConnectionError)
    assert caller.used() == NOTHING


def test_a_stream_that_has_not_begun_is_repeated(caller, scripted):
    """An error in its place is no part of it."""
    server = scripted(failing(500), streamed([event("hi"), DONE]))
    stream = caller.chat(caller.client(server.base_url, retry=SOON), stream=True)
    assert [chunk.choices[0].delta.content for chunk in caller.take(stream)] == ["hi"]
    assert len(server.requests) == 2


@pytest.mark.parametrize("pieces", [[], [event("hi")]])
def test_a_stream_that_has_begun_is_never_repeated(caller, scripted, pieces):
    """Law: nothing that was delivered, be it only the head, is delivered again."""
    server = scripted(streamed(pieces, end="cut"), OK)
    stream = caller.chat(caller.client(server.base_url, retry=SOON), stream=True)
    with pytest.raises(Exception, match=r"Connection error|peer closed"):
        caller.take(stream)
    assert len(server.requests) == 1


def test_uploads_are_left_to_the_sdk(caller, scripted):
    """What cannot be sent again from here is not; the SDK, which can, is not told otherwise."""
    server = scripted(failing(500, retry_after_ms="1"))
    client = caller.client(server.base_url, retry=SOON)
    asked = {"model": caller.model, "file": ("a.wav", b"RIFF" * 1_000, "audio/wav")}
    for tries in (1, 2):
        mine = client.with_options(max_retries=tries - 1)
        with pytest.raises(openai.InternalServerError) as caught:
            caller.run(mine.audio.transcriptions.create(**asked))
        assert not isinstance(caught.value, CallFailed)
    counts = [request.headers["x-stainless-retry-count"] for request in server.requests]
    assert counts == ["0", "0", "1"]
    assert server.requests[2].content.count(b"RIFF") == 1_000


def test_a_body_that_is_read_once_is_sent_once(caller, scripted):
    """Its answer is passed on as it came."""
    server = scripted(failing(500))

    def pieces():
        yield b'{"model": "m"}'

    async def async_pieces():
        yield b'{"model": "m"}'

    http = http_of(caller, quota=caller.model, retry=SOON)
    content = async_pieces() if caller.is_async else pieces()
    answer = caller.run(http.post(f"{server.base_url}/chat/completions", content=content))
    close(caller, http)
    assert (answer.status_code, len(server.requests)) == (500, 1)
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize("off", [None, False])
def test_retries_can_be_left_to_the_sdk(caller, scripted, off):
    """Then answers are reported all the same, and pass as they came."""
    server = scripted(failing(500, retry_after_ms="1"))
    with pytest.raises(openai.InternalServerError) as caught:
        caller.chat(caller.client(server.base_url, retry=off, max_retries=1))
    assert "x-should-retry" not in caught.value.response.headers
    assert not isinstance(caught.value, CallFailed)
    assert len(server.requests) == failures(caller) == 2


def test_what_takes_nothing_from_a_quota_is_not_judged(caller, scripted):
    """Listing the models fails as ever, and says nothing of the quota."""
    server = scripted(failing(500))
    with pytest.raises(openai.InternalServerError):
        caller.run(caller.client(server.base_url, retry=SOON).models.list())
    assert (len(server.requests), failures(caller)) == (1, 0)


# --- for how long -------------------------------------------------------------------------------


def test_attempts_are_counted(caller, scripted):
    """The last answer arrives as openai's own class and as ours, with all that either promises."""
    server = scripted(failing(500, "boom", x_request_id="r7"))
    with pytest.raises(
        CallFailed, match=r"500 boom: No\. It was tried 3 times.*attempts=3"
    ) as caught:
        caller.chat(caller.client(server.base_url, retry=SOON, max_retries=2))
    error = caught.value
    assert len(server.requests) == error.attempts == 3
    assert len(error.waits_s) == 2
    assert (error.status, error.code, error.verdict.outcome.name) == (500, "boom", "FAILED")
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.request_id) == (500, "r7")
    assert error.body == {"message": "No.", "code": "boom", "type": "t"}
    assert error.response.json() == {"error": error.body}
    assert error.request is error.response.request
    assert error.request.url.path == "/v1/chat/completions"


CLASSES = {
    429: (failing(429, "rate_limit_exceeded"), openai.RateLimitError),
    503: (failing(503), openai.InternalServerError),
    409: (failing(409), openai.ConflictError),
    408: (failing(408), openai.APIStatusError),
    0: (cut, openai.APIConnectionError),
}


@pytest.mark.parametrize("status", CLASSES)
def test_a_failure_is_what_openai_would_have_raised(caller, scripted, status):
    """Programs that catch openai's errors need not know of ours; unretried, and pickled."""
    answer, kind = CLASSES[status]
    server = scripted(answer)
    retry = Retry(attempts=2, backoff=0)
    with pytest.raises(kind) as caught:
        caller.chat(caller.client(server.base_url, retry=retry, max_retries=2))
    error = caught.value
    assert isinstance(error, CallFailed)
    assert (error.status, len(server.requests)) == (status, 2)
    assert type(error.__cause__) is CallFailed
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) is getattr(raised, type(error).__name__)
    assert (str(again), again.attempts, again.verdict) == (str(error), 2, error.verdict)
    assert again.response is None


def test_a_timeout_is_openai_s_timeout(caller, scripted):
    """An answer that does not come in time is repeated, and in the end an APITimeoutError."""
    server = scripted(lambda handler: handler.scripted.leave.wait(60))
    client = caller.client(server.base_url, retry=Retry(attempts=2, backoff=0))
    with pytest.raises(openai.APITimeoutError) as caught:
        caller.chat(client.with_options(timeout=0.1))
    assert (caught.value.attempts, caught.value.code) == (2, "ReadTimeout")
    assert caller.used() == {"requests": 2, "tokens": 2 * HELLO_TOKENS, "concurrency": 0}


@pytest.mark.parametrize("answer", [failing(429, retry_after="60"), failing(503, retry_after="60")])
def test_a_wait_beyond_the_time_is_not_begun(caller, scripted, answer):
    """`within=` bounds the whole: what would end after it fails now, with the numbers."""
    server = scripted(answer)
    with pytest.raises(CallFailed, match=r"wait 60 s, longer than the .*within=5\)") as caught:
        caller.chat(caller.client(server.base_url, retry=Retry(within=5)))
    assert (caught.value.attempts, caught.value.waits_s) == (1, ())
    assert caught.value.response.headers["retry-after"] == "60"


def test_a_call_s_own_patience_bounds_its_repeats(caller, scripted):
    """`timeout=0`: no attempt waits in line, so one behind a brake ends the call."""
    server = scripted(failing(429, retry_after_ms="2000"))
    with pytest.raises(CallFailed) as caught:
        caller.chat(caller.client(server.base_url, retry=True, timeout=0))
    assert isinstance(caught.value.__cause__.__cause__, limiter.WaitTimeout)
    assert len(server.requests) == 1


def test_the_fleet_s_budget_bounds_all(caller, scripted):
    """Law: of calls that only fail, ten are repeated, then one a second, whatever each may do."""
    server = scripted(failing(500))
    retry = Retry(attempts=500, backoff=0.001, backoff_max=0.002)
    with pytest.raises(CallFailed, match="a fifth of the fleet's calls") as caught:
        caller.chat(caller.client(server.base_url, retry=retry))
    assert isinstance(caught.value.__cause__.__cause__, limiter.RetriesSpent)
    assert isinstance(caught.value, openai.InternalServerError)
    assert 11 <= caught.value.attempts == len(server.requests) < 500


def deny(caller, times=5):
    """Let the fleet hear that nobody is served any more, from another process."""
    with Limiter(caller.limiter._settings.url, quotas=[still(caller.model)]) as other:
        for _ in range(times):
            held = other.acquire(caller.model, requests=0)
            held.observe({}, status=401)
            held.cancel()


def test_an_open_circuit_ends_the_repeats(caller, scripted):
    """What opened while the call was under way: it ends in its own failure, and says why."""

    def answer(handler):
        deny(caller)
        failing(500)(handler)

    server = scripted(answer)
    with pytest.raises(CallFailed, match="are denied") as caught:
        caller.chat(caller.client(server.base_url, retry=SOON))
    assert isinstance(caught.value.__cause__.__cause__, limiter.CircuitOpen)
    assert (caught.value.status, len(server.requests)) == (500, 1)


def test_a_wrong_key_opens_the_circuit(caller, scripted):
    """After five refusals of the key nothing is sent any more, by nobody, for a while."""
    server = scripted(failing(401))
    client = caller.client(server.base_url, max_retries=2)
    for _ in range(5):
        with pytest.raises(openai.AuthenticationError):
            caller.chat(client)
    with pytest.raises(limiter.CircuitOpen) as caught:
        caller.chat(client)
    assert isinstance(caught.value, openai.OpenAIError)
    assert 0 < caught.value.wait_s <= 10
    assert len(server.requests) == 5


def test_one_attempt_is_what_it_always_was(caller, scripted):
    """`attempts=1`: openai's own exception, once; a lost answer is ours too, or it were repeated."""
    server = scripted(failing(500), cut)
    client = caller.client(server.base_url, retry=Retry(attempts=1), max_retries=2)
    with pytest.raises(openai.InternalServerError) as caught:
        caller.chat(client)
    assert not isinstance(caught.value, CallFailed)
    with pytest.raises(openai.APIConnectionError):
        caller.chat(client)
    assert len(server.requests) == 2


# --- other clients ------------------------------------------------------------------------------


def test_a_plain_client_gets_our_error_alone(caller, scripted):
    """It is no error of an SDK that is not there; with one attempt everything is as it was."""
    server = scripted(failing(500), failing(500), failing(500), failing(500), cut)
    http = http_of(caller, retry=SOON)
    with pytest.raises(CallFailed) as caught:
        post(caller, http, server)
    assert type(caught.value) is CallFailed
    assert caught.value.response.status_code == 500
    close(caller, http)
    http = http_of(caller, retry=Retry(attempts=1))
    assert post(caller, http, server).headers["x-should-retry"] == "false"
    with pytest.raises(importlib.import_module(caller.family).RemoteProtocolError):
        post(caller, http, server)
    close(caller, http)
    assert len(server.requests) == 5


def test_another_sdk_gets_the_answer(caller, scripted):
    """It would take an error of ours for a lost connection, and begin anew: it is told not to."""
    server = scripted(failing(529))
    theirs = {"x-stainless-lang": "python", "anthropic-version": "2023-06-01"}
    http = http_of(caller, retry=SOON)
    answer = post(caller, http, server, headers=theirs)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (529, "false")
    again = {**theirs, "x-stainless-retry-count": "1"}
    assert "x-should-retry" not in post(caller, http, server, headers=again).headers
    close(caller, http)
    assert len(server.requests) == 3 + 1


def test_a_defect_of_the_caller_s_is_neither_repeated_nor_reported(caller, scripted):
    """A URL that is none says nothing of the provider."""
    http = http_of(caller, quota=caller.model, retry=SOON)
    with pytest.raises(importlib.import_module(caller.family).UnsupportedProtocol):
        caller.run(http.post("ftp://127.0.0.1/v1/chat/completions", json={"messages": HELLO}))
    close(caller, http)
    assert failures(caller) == 0
    assert caller.used() == NOTHING


# --- bodies of errors ---------------------------------------------------------------------------

READERS = ["read", "iter_bytes", "iter_raw", "iter_lines"]


async def _pieces(answer, how):
    if how == "read":
        return await answer.aread()
    pieces = [piece async for piece in getattr(answer, f"a{how}")()]
    return b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)


def read_streamed(caller, http, server, how):
    """Ask for a stream, and read what comes in one of the ways that there are."""
    body = {"model": caller.model, "messages": HELLO, "stream": True}
    asked = ("POST", f"{server.base_url}/chat/completions")
    if caller.is_async:

        async def read():
            async with http.stream(*asked, json=body) as answer:
                return answer.status_code, await _pieces(answer, how)

        return caller.run(read())
    with http.stream(*asked, json=body) as answer:
        if how == "read":
            return answer.status_code, answer.read()
        pieces = list(getattr(answer, how)())
    joined = b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
    return answer.status_code, joined


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("packed", [False, True])
def test_an_error_s_body_arrives_as_it_was_sent(caller, scripted, how, packed):
    """However it is read, packed or not; the connection is free again before it is."""
    text = json.dumps({"error": {"message": "No.", "code": "insufficient_quota"}}).encode()
    sent = gzip.compress(text) if packed else text
    server = scripted(whole(sent, 429, **({"content_encoding": "gzip"} if packed else {})))
    module = importlib.import_module(caller.family)
    one = module.Limits(max_connections=1)
    http = http_of(caller, limits=one, http_timeout=module.Timeout(20, pool=1))
    for _ in range(2):
        read = read_streamed(caller, http, server, how)
        assert read == (429, sent if how == "iter_raw" else text)
    close(caller, http)
    assert len(server.requests) == 2


def test_a_repeat_needs_no_second_connection(caller, scripted):
    """The error before it was read to its end and closed."""
    server = scripted(failing(500), failing(503), OK)
    module = importlib.import_module(caller.family)
    one = module.Limits(max_connections=1)
    http = http_of(caller, limits=one, http_timeout=module.Timeout(20, pool=1), retry=SOON)
    assert post(caller, http, server).status_code == 200
    close(caller, http)


def test_a_very_long_error_passes_whole_and_is_not_repeated(caller, scripted):
    """No more of it is held than a mebibyte; what follows reaches the caller from the line."""
    long = b"x" * (3 * 2**20)
    server = scripted(whole(long, 500))
    http = http_of(caller, retry=SOON)
    assert post(caller, http, server).content == long
    assert read_streamed(caller, http, server, "iter_bytes") == (500, long)
    close(caller, http)
    assert len(server.requests) == 2
    assert caller.used() == {"requests": 2, "tokens": 2 * HELLO_TOKENS, "concurrency": 0}


def test_an_error_that_breaks_off_is_an_error_all_the_same(caller, scripted):
    """Its status counts: it is repeated, and passed on as far as it came."""

    def broken(handler):
        handler.begin(500, {"content-type": "text/plain", "content-length": "100"})
        handler.wfile.write(b"half")
        handler.close_connection = True

    server = scripted(broken)
    with pytest.raises(openai.InternalServerError) as caught:
        caller.chat(caller.client(server.base_url, retry=SOON))
    assert (caught.value.response.text, caught.value.attempts) == ("half", 3)


# --- what the fleet hears -----------------------------------------------------------------------


def test_a_refusal_holds_back_the_fleet(url, name, scripted):
    """Law 11: one is told to wait, and another, who knows nothing of it, starts no call before."""
    server = scripted(failing(429, "rate_limit_exceeded", retry_after_ms="300"), OK)
    quota = Quota(name, rpm=10_000, tpm=1_000_000)
    with Limiter(url, quotas=[quota]) as one, Limiter(url, quotas=[quota]) as other:
        clients = [
            openai.OpenAI(
                api_key="x", base_url=server.base_url, http_client=each.http_client(retry=retry)
            )
            for each, retry in ((one, Retry(attempts=1)), (other, True))
        ]
        other.acquire(name).cancel()  # its connection stands
        with pytest.raises(openai.RateLimitError):
            chat(clients[0], name)
        assert chat(clients[1], name).usage
        for client in clients:
            client.close()
    refused_at, started_at = (request.at for request in server.requests)
    assert started_at >= refused_at + 0.3


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_repeat_waits_in_the_line(url, name, scripted, mode):
    """It stands behind its own refusal's brake like everybody; when that is over, both are served."""
    server = scripted(failing(429, "rate_limit_exceeded", retry_after_ms="300"), OK)
    quota = Quota(name, rpm=10_000, tpm=1_000_000)
    with Limiter(url, quotas=[quota]) as other:
        if mode == "sync":
            client = openai.OpenAI(
                api_key="x", base_url=server.base_url, http_client=other.http_client()
            )
            caught = []
            thread = threading.Thread(target=lambda: caught.append(chat(client, name)))
            thread.start()
            thread.join(60)
            client.close()
            assert caught[0].usage
        else:

            async def call():
                async with AsyncLimiter(url, quotas=[quota]) as mine, mine.http_client() as http:
                    made = openai.AsyncOpenAI(
                        api_key="x", base_url=server.base_url, http_client=http
                    )
                    return await chat(made, name)

            assert asyncio.run(call()).usage
        status = other.peek(name)
    refused_at, started_at = (request.at for request in server.requests)
    assert started_at >= refused_at + 0.3
    assert status.failures == 0


def test_no_answer_is_reported(caller, scripted):
    """A lost line counts as a failure of the provider's."""
    server = scripted(cut)
    with pytest.raises(openai.APIConnectionError):
        caller.chat(caller.client(server.base_url, retry=Retry(attempts=1)))
    assert failures(caller) == 1


LEVELS = {
    "x_ratelimit_limit_requests": "1000",
    "x_ratelimit_remaining_requests": "900",
    "x_ratelimit_reset_requests": "6s",
}


def told(caller, name):
    """Return what the provider said is left, by the fleet's knowledge."""
    (status,) = caller.limiter.as_sync().peek(name).limits.values()
    return status.provider_level


def test_levels_are_reported_when_the_head_is_there(caller, scripted):
    """Not at the end of the stream: others need not wait for what is known already."""
    name = f"{caller.model}-rpm"
    caller.limiter.declare(Quota(name, rpm=1000, headroom=0))
    server = scripted(streamed([event("hi")], end="wait", **LEVELS))
    stream = caller.chat(caller.client(server.base_url), model=name, stream=True)
    caller.until(lambda: told(caller, name) == 900)
    assert caller.limiter.as_sync().peek(name).held == 1
    caller.run(stream.close())


def test_levels_of_the_end_are_reported_when_the_call_is_settled(caller, scripted):
    """gpt-5's responses tell what is left after their output: our level then has it too."""
    name = f"{caller.model}-end"
    caller.limiter.declare(Quota(name, rpm=1000, headroom=0, models=["gpt-5*"]))
    server = scripted(whole({"usage": {"input_tokens": 9, "output_tokens": 1}}, **LEVELS))
    http = http_of(caller)
    order = []
    shell = caller.run(caller.limiter._open()) if caller.is_async else caller.limiter._open()
    for verb in ("report", "run"):
        done = getattr(shell, verb)

        def noted(lane, what, *rest, verb=verb, done=done):
            order.append(verb if verb == "report" else what.__name__)
            return done(lane, what, *rest)

        setattr(shell, verb, noted)
    body = {"model": "gpt-5-nano", "input": "hello"}
    caller.run(http.post(f"{server.base_url}/responses", json=body))
    close(caller, http)
    assert order == ["wait_gen", "finish_gen", "report"]
    caller.until(lambda: told(caller, name) == 900)


def test_a_repeat_comes_after_the_lesson_of_its_refusal(caller, scripted):
    """What the refusal told of the limits is taken over first; the brake holds all the same."""
    server = scripted(failing(429, "rate_limit_exceeded", retry_after_ms="300", **LEVELS), OK)
    name = f"{caller.model}-new"
    caller.limiter.declare(Quota(name))
    assert caller.chat(caller.client(server.base_url), model=name).usage
    refused_at, started_at = (request.at for request in server.requests)
    assert started_at >= refused_at + 0.3
    assert amounts(caller, name) == {"requests/minute": 1000}


def amounts(caller, name):
    limits = caller.limiter.as_sync().peek(name).limits
    return {label: each.limit.amount for label, each in limits.items()}


def test_a_quota_without_numbers_learns_them_from_an_answer(caller):
    """Through a client that nobody changed: one call, and the limits are there."""
    name = f"{caller.model}-new"
    caller.limiter.declare(Quota(name))
    with background(MockConfig(rpm=600, tpm=30_000)) as server:
        caller.chat(caller.client(server.base_url), model=name)
        told = {"requests/minute": 600, "tokens/minute": 30_000}
        caller.until(lambda: amounts(caller, name) == told)


RESPONSE_FAILED = {
    "type": "response.failed",
    "response": {
        "id": "r",
        "error": {
            "code": "rate_limit_exceeded",
            "message": "Rate limit reached. Please try again in 60s.",
            "headers": {"retry-after": "60"},
        },
    },
}


def test_an_error_inside_a_stream_is_reported_once_when_it_is_seen(caller, scripted):
    """Its wait holds back the fleet while the stream is still open; the call is not repeated."""
    failed = b"data: " + json.dumps(RESPONSE_FAILED).encode() + b"\n\n"
    more = b'data: {"type": "error", "code": "server_error", "message": "again"}\n\n'
    server = scripted(streamed([failed, more], end="wait"))
    client = caller.client(server.base_url, retry=SOON)
    stream = caller.run(client.responses.create(model=caller.model, input="x", stream=True))
    caller.take(stream, 1)
    caller.until(lambda: brake_s(caller) > 50)
    caller.run(stream.close())
    assert failures(caller) == 0
    assert len(server.requests) == 1


def test_a_stream_s_failure_counts_once(caller, scripted):
    """However many errors its events tell."""
    error = b'data: {"error": {"code": "server_error", "message": "no"}}\n\n'
    server = scripted(streamed([error, error, DONE]))
    http = http_of(caller)
    read_streamed(caller, http, server, "iter_raw")
    close(caller, http)
    caller.until(lambda: failures(caller) == 1)


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_between_its_attempts_leaves_nothing(url, name, scripted):
    """Law 6: the attempt that failed is settled, and there is no other."""
    server = scripted(failing(500))
    with Limiter(url, quotas=[still(name)]) as store:
        mine = AsyncLimiter(url, quotas=[still(name)])
        retry = Retry(backoff=3_000, backoff_max=3_000, within=10_000)
        async with mine, mine.http_client(retry=retry) as http:
            client = openai.AsyncOpenAI(api_key="x", base_url=server.base_url, http_client=http)
            task = asyncio.create_task(chat(client, name))
            await until(lambda: store.peek(name).failures == 1)
            await until(lambda: levels(store, name) == left(1, HELLO_TOKENS))
            await cancel(task)
            assert store.peek(name).waiting == store.peek(name).held == 0
    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_while_its_error_is_read_is_settled(url, name, scripted):
    """By its status, which was there; the connection is closed."""

    def slow(handler):
        handler.begin(429, {"content-type": "text/plain", "content-length": "100"})
        handler.wfile.write(b"half")
        handler.scripted.leave.wait(60)

    server = scripted(slow)
    with Limiter(url, quotas=[still(name)]) as store:
        mine = AsyncLimiter(url, quotas=[still(name)])
        async with mine, mine.http_client() as http:
            client = openai.AsyncOpenAI(api_key="x", base_url=server.base_url, http_client=http)
            task = asyncio.create_task(chat(client, name))
            await until(lambda: len(server.requests) == 1)
            await asyncio.sleep(0.05)
            await cancel(task)
            await until(lambda: levels(store, name) == left(1, 0))


def test_settings_of_retries_are_part_of_a_client_s(caller, mock):
    """Other settings for a client that is limited already are refused; wrong ones, too."""
    client = caller.client(mock.base_url, retry=SOON)
    with pytest.raises(limiter.ConfigError, match="with other settings"):
        caller.limiter.instrument(client)
    assert caller.limiter.instrument(client, retry=SOON) is client
    with pytest.raises(limiter.ConfigError, match=r"retry= is a Retry"):
        caller.limiter.http_client(retry=5)
    assert caller.chat(client).usage
    assert caller.used() == ONE
