"""Decorated functions around real calls: what they report, and when they are called again."""

from __future__ import annotations

import importlib

import openai
import pytest

from limiter import CallFailed, ConfigError, LimitExceeded, RetriesSpent, Retry, rate_limited
from tests.transport.callers import HELLO, HELLO_TOKENS
from tests.transport.scripted import DONE, completion, cut, event, streamed, whole
from tests.transport.test_retries import OK, SOON, brake_s, failing, failures


def decorated(caller, client, retry=SOON, **options):
    """Make a function of the caller's kind that asks for a chat completion."""
    rate = rate_limited(caller.model, limiter=caller.limiter, retry=retry, **options)

    def ask(messages):
        return client.chat.completions.create(model=caller.model, messages=messages)

    async def ask_async(messages):
        return await ask(messages)

    return rate(ask_async if caller.is_async else ask)


def generating(caller, client, retry=SOON, **options):
    """Make a generator function of the caller's kind that yields what is streamed."""
    rate = rate_limited(caller.model, limiter=caller.limiter, retry=retry, **options)
    asked = {"model": caller.model, "stream": True}

    def stream(messages):
        yield from client.chat.completions.create(messages=messages, **asked)

    async def stream_async(messages):
        async for item in await client.chat.completions.create(messages=messages, **asked):
            yield item

    return rate(stream_async if caller.is_async else stream)


def test_a_function_is_called_once_unless_it_says_otherwise(caller, scripted):
    """It may do more than one call; what it raised is reported all the same."""
    server = scripted(failing(500))
    ask = decorated(caller, caller.bare(server.base_url), retry=None)
    with pytest.raises(openai.InternalServerError):
        caller.run(ask(HELLO))
    assert (len(server.requests), failures(caller)) == (1, 1)
    assert caller.used()["requests"] == 1


@pytest.mark.parametrize("first", [failing(500), failing(429), cut])
def test_a_function_is_called_again_where_that_may_help(caller, scripted, first):
    """With its arguments; each attempt is reserved, reported and settled."""
    server = scripted(first, OK)
    ask = decorated(caller, caller.bare(server.base_url))
    assert caller.run(ask(messages=HELLO)).usage.total_tokens == 20
    assert len(server.requests) == 2
    used = caller.used()
    assert (used["requests"], used["concurrency"]) == (2, 0)
    assert failures(caller) == 0


def test_a_refused_function_waits_for_the_fleet_s_brake(caller, scripted):
    """It comes again behind the brake that its refusal put on for everybody."""
    server = scripted(failing(429, retry_after_ms="200"), OK)
    caller.limiter.quotas[caller.model] = caller.live()
    ask = decorated(caller, caller.bare(server.base_url))
    assert caller.run(ask(HELLO)).usage
    refused_at, started_at = (request.at for request in server.requests)
    assert started_at >= refused_at + 0.2


@pytest.mark.parametrize("answer", [failing(400), failing(401), failing(429, "insufficient_quota")])
def test_a_function_is_not_called_again_in_vain(caller, scripted, answer):
    """Its own exception is the end of it."""
    server = scripted(answer)
    ask = decorated(caller, caller.bare(server.base_url))
    with pytest.raises(openai.APIStatusError) as caught:
        caller.run(ask(HELLO))
    assert not isinstance(caught.value, CallFailed)
    assert len(server.requests) == 1


def test_what_the_sdk_has_repeated_is_not_repeated_again(caller, scripted):
    """Loops do not nest: one repeat of the SDK's own, and the end."""
    server = scripted(failing(500, retry_after_ms="1"))
    ask = decorated(caller, caller.bare(server.base_url, max_retries=1))
    with pytest.raises(openai.InternalServerError):
        caller.run(ask(HELLO))
    assert len(server.requests) == 2


def test_what_a_limited_client_gave_up_is_not_taken_up_again(caller, scripted):
    """Its failure is the end, not a beginning; it was reported where it was made."""
    server = scripted(failing(500))
    ask = decorated(caller, caller.client(server.base_url, retry=Retry(attempts=2, backoff=0)))
    with pytest.raises(CallFailed) as caught:
        caller.run(ask(HELLO))
    assert caught.value.attempts == 2
    assert len(server.requests) == failures(caller) == 2


def test_the_end_comes_from_the_function_s_own_exception(caller, scripted):
    """`CallFailed`, with the numbers; the last exception is its cause."""
    server = scripted(failing(503, "server_is_overloaded"))
    ask = decorated(caller, caller.bare(server.base_url))
    with pytest.raises(CallFailed, match=r"503 server_is_overloaded.*tried 3 times") as caught:
        caller.run(ask(HELLO))
    error = caught.value
    assert (error.quota, error.attempts, error.status) == (caller.model, 3, 503)
    assert isinstance(error.__cause__, openai.InternalServerError)
    assert error.response is error.__cause__.response


def test_the_fleet_s_budget_ends_it_too(caller, scripted):
    """A repeat that is not let go ends in what had failed."""
    server = scripted(failing(500))
    retry = Retry(attempts=500, backoff=0)
    ask = decorated(caller, caller.bare(server.base_url), retry=retry)
    with pytest.raises(CallFailed, match="a fifth of the fleet's calls") as caught:
        caller.run(ask(HELLO))
    assert isinstance(caught.value.__cause__, openai.InternalServerError)
    assert isinstance(caught.value.__context__, RetriesSpent)
    assert len(server.requests) == caught.value.attempts >= 11


def test_a_first_attempt_that_is_not_let_go_is_the_line_s_error(caller, scripted):
    """As without `retry=`."""
    server = scripted(OK)
    held = [caller.run(caller.limiter.acquire(caller.model)) for _ in range(3)]
    ask = decorated(caller, caller.bare(server.base_url), timeout=0)
    with pytest.raises(LimitExceeded):
        caller.run(ask(HELLO))
    for one in held:
        caller.run(one.cancel())
    assert server.requests == []


def test_a_generator_that_has_delivered_nothing_is_called_again(caller, scripted):
    """An error before its first item is as if it had not begun."""
    server = scripted(failing(500), streamed([event("hi"), DONE]))
    items = generating(caller, caller.bare(server.base_url))(HELLO)
    assert [item.choices[0].delta.content for item in caller.take(items)] == ["hi"]
    assert len(server.requests) == 2
    assert caller.used()["concurrency"] == 0


def test_a_generator_that_has_delivered_is_never_called_again(caller, scripted):
    """Law: nobody gets an item twice."""
    server = scripted(streamed([event("hi")], end="cut"), OK)
    items = generating(caller, caller.bare(server.base_url))(HELLO)
    with pytest.raises(Exception, match=r"Connection error|peer closed"):
        caller.take(items)
    assert len(server.requests) == 1
    assert caller.used()["concurrency"] == 0


def test_a_generator_ends_as_a_function_does(caller, scripted):
    """In `CallFailed` from its own exception, and in that itself where nothing would help."""
    server = scripted(failing(500), failing(500), failing(400))
    stream = generating(caller, caller.bare(server.base_url), Retry(attempts=2, backoff=0))
    with pytest.raises(CallFailed) as caught:
        caller.take(stream(HELLO))
    assert isinstance(caught.value.__cause__, openai.InternalServerError)
    with pytest.raises(openai.BadRequestError):
        caller.take(stream(HELLO))
    assert caller.used()["concurrency"] == 0


def test_results_with_headers_are_reported_and_settled(caller, scripted):
    """A raw response tells its usage and the provider's levels."""
    levels = {
        "x_ratelimit_limit_requests": "60000",
        "x_ratelimit_remaining_requests": "59000",
        "x_ratelimit_reset_requests": "1s",
    }
    server = scripted(whole(completion(20), **levels), failing(429, retry_after="30"))
    caller.limiter.quotas[caller.model] = caller.live()
    client = caller.bare(server.base_url)
    module = importlib.import_module(caller.family)
    rate = rate_limited(caller.model, limiter=caller.limiter, cost=4)

    def ask():
        asked = {"model": caller.model, "messages": HELLO}
        return client.chat.completions.with_raw_response.create(**asked)

    async def ask_async():
        return await ask()

    raw = caller.run(rate(ask_async if caller.is_async else ask)())
    assert raw.parse().usage.total_tokens == 20
    status = caller.limiter.as_sync().peek(caller.model)
    assert status.limits["requests/minute"].provider_level == 59_000

    def post():
        return module.post(f"{server.base_url}/chat/completions", json={})

    async def post_async():
        return post()

    assert caller.run(rate(post_async if caller.is_async else post)()).status_code == 429
    caller.until(lambda: brake_s(caller) > 25)


def test_wrong_retries_are_refused(caller):
    """When the function is decorated."""
    with pytest.raises(ConfigError, match="retry= is a Retry"):
        rate_limited(caller.model, limiter=caller.limiter, retry=3)(len)


def test_usage_counts_as_before(caller, scripted):
    """A repeated function settles by what it returned in the end, and each failure by its own."""
    server = scripted(failing(500), OK)
    ask = decorated(caller, caller.bare(server.base_url))
    caller.run(ask(HELLO))
    assert caller.used() == {"requests": 2, "tokens": HELLO_TOKENS + 20, "concurrency": 0}
