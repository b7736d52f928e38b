"""What the caller of an openai client sees of the limiter, and that the line stays clean."""

from __future__ import annotations

import asyncio
import logging
import pickle
import subprocess
import sys

import openai
import pytest

import limiter
from limiter import Limiter, WaitTimeout
from limiter.transport import carriers, raised
from tests.transport.callers import SLOTS, TOKENS, still
from tests.transport.scripted import completion, event, streamed, whole
from tests.transport.test_settling import NOTHING, ONE


def full(caller):
    """Take every slot of the quota."""
    return [caller.run(caller.limiter.acquire(caller.model, requests=0)) for _ in range(SLOTS)]


def free(caller, held):
    for one in held:
        caller.run(one.cancel())


def wait_timeout(caller, base_url):
    """Ask with no patience while no slot is free."""
    held = full(caller)
    try:
        caller.chat(caller.client(base_url, timeout=0.05, max_retries=2))
    finally:
        free(caller, held)


def never_fits(caller, base_url):
    """Ask for more tokens than the quota ever grants."""
    long = [{"role": "user", "content": "x" * 4 * TOKENS}]
    caller.chat(caller.client(base_url, max_retries=2), messages=long)


def no_quota(caller, base_url):
    """Ask for a model that no quota is for."""
    caller.chat(caller.client(base_url, max_retries=2), model="other")


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (wait_timeout, limiter.WaitTimeout),
        (never_fits, limiter.NeverFits),
        (no_quota, limiter.ConfigError),
    ],
)
def test_the_limiter_s_errors_reach_the_caller_at_once(caller, scripted, monkeypatch, ask, kind):
    """Unretried, unwrapped, with their numbers; nothing was sent and nothing is taken."""
    server = scripted(whole(completion(20)))
    attempts = []
    follow = carriers.call_gen
    monkeypatch.setattr(carriers, "call_gen", lambda *a: attempts.append(1) or follow(*a))
    with pytest.raises(kind) as caught:
        ask(caller, server.base_url)
    error = caught.value
    assert isinstance(error, openai.OpenAIError)
    assert not isinstance(error, openai.APIConnectionError)
    assert type(error.__cause__) is kind
    assert (str(error), error.numbers) == (str(error.__cause__), error.__cause__.numbers)
    assert (len(attempts), server.requests) == (1, [])
    assert caller.used() == NOTHING
    assert caller.waiting() == 0


def test_an_unmatched_model_is_told_with_what_is_known(caller, scripted):
    """The message has the model and the quotas, and what to do."""
    server = scripted(whole(completion(20)))
    with pytest.raises(openai.OpenAIError, match=f"the model 'other'; known: '{caller.model}'"):
        no_quota(caller, server.base_url)
    with pytest.raises(limiter.ConfigError, match=r"/v1/moderations', which names no model"):
        caller.run(caller.client(server.base_url).moderations.create(input="x"))


KINDS = ["ConfigError", "LimitExceeded", "NeverFits", "StoreError", "StoreTimeout", "WaitTimeout"]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_pickle(kind):
    """They cross processes as what they are, though their classes are made when needed."""
    error = raised.through_openai(getattr(limiter, kind)("wait", wait_s=1.5))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) is getattr(raised, kind)
    assert (str(again), again.wait_s) == ("wait", 1.5)
    code = (
        "import pickle, sys; e = pickle.loads(sys.stdin.buffer.read()); import openai, limiter; "
        f"assert isinstance(e, (openai.OpenAIError)) and isinstance(e, limiter.{kind}), e"
    )
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(error), check=True)


def test_without_openai_errors_are_the_limiter_s_own():
    """A process that uses httpx alone loads no openai for its errors."""
    code = (
        "import sys; from limiter import WaitTimeout; from limiter.transport import carriers, raised; "
        "e = WaitTimeout('x'); assert raised.through_openai(e) is e; "
        "import limiter.transport; limiter.Limiter('memory://').http_client(family='httpx2'); "
        "assert 'openai' not in sys.modules and 'httpx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_class_of_no_error_is_not_made():
    """Nothing else is found in the module."""
    with pytest.raises(AttributeError, match="LimiterErrors"):
        _ = raised.LimiterErrors


def test_a_store_that_is_lost_costs_no_answer(caller, scripted, monkeypatch, caplog):
    """The answer arrives, a warning says what was not told."""

    def refuse(*_args, **_amounts):
        raise limiter.StoreError("The store is away.")

    async def refuse_async(*_args, **_amounts):
        refuse()

    kind = limiter.AsyncReservation if caller.is_async else limiter.Reservation
    monkeypatch.setattr(kind, "settle", refuse_async if caller.is_async else refuse)
    server = scripted(whole(completion(20)), streamed([event("hi")]))
    client = caller.client(server.base_url)
    with caplog.at_level(logging.WARNING, "limiter"):
        assert caller.chat(client).usage.total_tokens == 20
        assert len(caller.take(caller.chat(client, stream=True))) == 1
    assert len(caplog.records) >= 2
    assert "The store is away." in caplog.records[0].getMessage()


# --- cancellation -------------------------------------------------------------------------------


@pytest.fixture
def store(url, name):
    """Name a quota on a real server, with the limiter of whoever looks on."""
    with Limiter(url, quotas=[still(name)]) as looker:
        yield looker


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def levels(looker, name):
    limits = looker.peek(name).limits.values()
    return {one.limit.dimension: one.level for one in limits}


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def chat(client, name, **options):
    messages = [{"role": "user", "content": "hello"}]
    return client.chat.completions.create(model=name, messages=messages, **options)


def left(requests, tokens):
    return {"requests": 1000 - requests, "tokens": 10_000 - tokens, "concurrency": 3}


@pytest.mark.asyncio
async def test_a_cancelled_waiter_leaves_nothing_behind(url, name, store, scripted):
    """A task that is cancelled in line takes its ticket with it, and never sends."""
    server = scripted(whole(completion(20)))
    mine = limiter.AsyncLimiter(url, quotas=[still(name)])
    async with mine, client_of(server, mine) as client:
        held = [await mine.acquire(name) for _ in range(SLOTS)]
        task = asyncio.create_task(chat(client, name))
        await until(lambda: store.peek(name).waiting == 1)
        await cancel(task)
        await until(lambda: store.peek(name).waiting == 0)
        for one in held:
            await one.cancel()
        assert levels(store, name) == left(0, 0)
        assert server.requests == []


def client_of(server, mine, **options):
    http = mine.http_client(**options)
    return openai.AsyncOpenAI(
        base_url=server.base_url, api_key="x", http_client=http, max_retries=0
    )


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_under_way_has_cost_its_estimate(url, name, store, scripted):
    """The provider may have it: the tokens stay taken, the slot comes back."""
    server = scripted(lambda handler: handler.scripted.leave.wait(60))
    mine = limiter.AsyncLimiter(url, quotas=[still(name)])
    async with mine, client_of(server, mine) as client:
        task = asyncio.create_task(chat(client, name))
        await until(lambda: len(server.requests) == 1)
        await cancel(task)
        await until(lambda: levels(store, name) == left(1, 4))


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [1, 2])
async def test_a_stream_that_is_cancelled_is_settled_by_what_was_seen(
    url, name, store, scripted, times
):
    """A second cancel right behind the first changes nothing: the settling is under way."""
    server = scripted(streamed([event("12345678")], end="wait"))
    mine = limiter.AsyncLimiter(url, quotas=[still(name)])
    async with mine, client_of(server, mine, rule="usage") as client:
        stream = aiter(await chat(client, name, stream=True))
        await anext(stream)

        async def read():
            await anext(stream)

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        for _ in range(times - 1):
            task.get_loop().call_soon(task.cancel)
        await cancel(task)
        await until(lambda: levels(store, name) == left(1, 3 + 4 + 2 + 2))


def test_wait_timeout_is_what_its_name_says(caller, scripted):
    """`except TimeoutError` catches it, as the limiter's own."""
    server = scripted(whole(completion(20)))
    with pytest.raises(TimeoutError) as caught:
        wait_timeout(caller, server.base_url)
    assert isinstance(caught.value, WaitTimeout)
    assert caught.value.quota == caller.model
    caller.chat(caller.client(server.base_url))
    assert caller.used() == ONE
