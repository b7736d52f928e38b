"""Of many limited calls that ask the same, one goes; whatever becomes of it, the others get an answer."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

import limiter
from limiter import Priority
from limiter.cache import Cache
from tests.transport.callers import HELLO, still
from tests.transport.scripted import completion, cut, whole
from tests.transport.stored import NOT_STORED, Gate


def many(caller, client, number, gate, cache, **options):
    """Ask the same `number` times at once; let the first one's answer go when the others wait for it."""
    waiting = lambda: sum(map(len, driver(caller, cache)._waiting.values()))

    async def tasks():
        calls = [
            asyncio.ensure_future(
                client.chat.completions.create(model=caller.model, messages=HELLO, **options)
            )
            for _ in range(number)
        ]
        while not (gate.asked.is_set() and waiting() >= number - 1):
            await asyncio.sleep(0.01)
        gate.open.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    if caller.is_async:
        return caller.run(tasks())

    def one(_):
        try:
            return caller.chat(client, **options)
        except openai.OpenAIError as exc:
            return exc

    with ThreadPoolExecutor(number) as pool:
        calls = [pool.submit(one, i) for i in range(number)]
        while not (gate.asked.is_set() and waiting() >= number - 1):
            time.sleep(0.01)
        gate.open.set()
        return [call.result() for call in calls]


def driver(caller, cache):
    if caller.is_async:
        return next(iter(cache.as_async()._drivers.values()))
    return cache._driver


def test_of_many_who_ask_the_same_one_goes(caller, scripted, real):
    """One request, one reservation, and all get its answer."""
    gate = Gate(whole(completion(20)))
    server = scripted(gate, cut)
    client = caller.client(server.base_url, cache=real)
    answers = many(caller, client, 30, gate, real)
    assert all(answer == answers[0] for answer in answers)
    assert len(server.requests) == 1
    assert caller.used()["requests"] == 1


@pytest.mark.parametrize("answer", ["error", "filtered", "cut"])
def test_of_those_who_wait_for_one_that_fails_the_next_one_goes(caller, scripted, real, answer):
    """Two requests: the one that failed, and one whose answer all others get."""
    gate = Gate(NOT_STORED.get(answer, cut))
    server = scripted(gate, whole(completion(20)), cut)
    client = caller.client(server.base_url, cache=real, retry=None)
    answers = many(caller, client, 20, gate, real)
    totals = [
        0 if isinstance(each, openai.OpenAIError) else each.usage.total_tokens for each in answers
    ]
    assert len(server.requests) == 2
    assert sum(n == 20 for n in totals) >= 19


def test_after_two_failures_nobody_waits_for_anybody(caller, scripted, real):
    """A prompt that always fails is not tried by one after the other."""
    gate = Gate(NOT_STORED["error"])
    server = scripted(gate, NOT_STORED["error"], whole(completion(20)))
    client = caller.client(server.base_url, cache=real)
    answers = many(caller, client, 10, gate, real)
    failed = [each for each in answers if isinstance(each, openai.BadRequestError)]
    assert len(failed) == 2
    assert 3 <= len(server.requests) <= 10


def test_a_repeat_of_the_one_who_goes_is_not_the_others_concern(caller, scripted, real):
    """Its attempts are its own; they wait for what they end in."""
    gate = Gate(whole({"error": {"message": "busy"}}, 500))
    server = scripted(gate, whole(completion(20)), cut)
    retry = limiter.Retry(backoff=0.001)
    client = caller.client(server.base_url, cache=real, retry=retry)
    answers = many(caller, client, 10, gate, real)
    assert {each.usage.total_tokens for each in answers} == {20}
    assert len(server.requests) == 2


def test_one_who_gives_up_lets_the_others_go(scripted, url, name):
    """A cancelled leader is followed by the next one at once, not after its lease."""
    gate = Gate(whole(completion(20)))
    server = scripted(gate, whole(completion(21)))

    async def story():
        async with limiter.AsyncLimiter(url, quotas=[still(name)]) as own:
            cache = Cache(url, namespace=name, lease=3600)
            client = openai.AsyncOpenAI(
                api_key="k", base_url=server.base_url, http_client=own.http_client(cache=cache)
            )
            ask = lambda: client.chat.completions.create(model=name, messages=HELLO)
            first = asyncio.ensure_future(ask())
            while not gate.asked.is_set():
                await asyncio.sleep(0.01)
            second = asyncio.ensure_future(ask())
            while not next(iter(cache.as_async()._drivers.values()))._waiting:
                await asyncio.sleep(0.01)
            first.cancel()
            answer = await second
            gate.open.set()
            await client.close()
            await cache.as_async().aclose()
            return answer

    assert asyncio.run(story()).usage.total_tokens == 21


def test_a_call_never_waits_for_a_less_urgent_one(caller, scripted, real):
    """Who is before others in line is not behind them in the cache."""
    urgent = [Priority("urgent", level=10)]
    caller.limiter.quotas[caller.model] = still(caller.model, priorities=urgent)
    gate = Gate(whole(completion(20)))
    server = scripted(gate, whole(completion(21)))
    slow = caller.client(server.base_url, cache=real)
    fast = caller.client(server.base_url, cache=real)
    headers = {"x-limiter-priority": "urgent"}

    async def tasks():
        ask = lambda client, **more: client.chat.completions.create(
            model=caller.model, messages=HELLO, **more
        )
        first = asyncio.ensure_future(ask(slow))
        while not gate.asked.is_set():
            await asyncio.sleep(0.01)
        second = await ask(fast, extra_headers=headers)
        gate.open.set()
        return await first, second

    if caller.is_async:
        first, second = caller.run(tasks())
    else:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(caller.chat, slow)
            gate.asked.wait(20)
            second = caller.chat(fast, extra_headers=headers)
            gate.open.set()
            first = call.result()
    assert (first.usage.total_tokens, second.usage.total_tokens) == (20, 21)


def test_a_call_that_may_not_wait_goes_by_itself(caller, scripted, real):
    """`timeout=0` is a wait for another call's answer, too."""
    gate = Gate(whole(completion(20)))
    server = scripted(gate, whole(completion(21)))
    slow = caller.client(server.base_url, cache=real)
    hasty = caller.client(server.base_url, cache=real, timeout=0)

    async def tasks():
        first = asyncio.ensure_future(
            slow.chat.completions.create(model=caller.model, messages=HELLO)
        )
        while not gate.asked.is_set():
            await asyncio.sleep(0.01)
        second = await hasty.chat.completions.create(model=caller.model, messages=HELLO)
        gate.open.set()
        await first
        return second

    if caller.is_async:
        second = caller.run(tasks())
    else:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(caller.chat, slow)
            gate.asked.wait(20)
            second = caller.chat(hasty)
            gate.open.set()
            call.result()
    assert second.usage.total_tokens == 21
