"""A cache before the limit: reservations and limited functions whose answers are known take nothing."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from openai.types.chat import ChatCompletion

import limiter
from limiter import Limit, Limiter, Quota
from tests.api.cached import Counting, chat

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def line(name):
    """A limiter with a quota that does not refill while a test looks."""
    limits = [Limit("requests", 100, 365 * 86_400.0, headroom=0)]
    with Limiter(f"memory://{uuid.uuid4()}", quotas=[Quota(name, limits=limits)]) as made:
        yield made


def left(line, name) -> int:
    return next(iter(line.peek(name).limits.values())).level


def test_a_reservation_of_what_was_answered_takes_nothing(line, name, cache):
    """`r.answer` is what was settled with; settling again changes nothing."""
    for expected in (None, chat(), chat()):
        with line.reserve(name, tokens=9, cache=cache, body=BODY) as r:
            assert r.answer == expected
            r.settle(chat())
    assert left(line, name) == 99
    assert (r.state, r.estimate, r.quota) == ("answered", {}, name)


def test_asyncio_s_reservations_do_the_same(line, name, cache):
    """… on the same cache."""

    async def story():
        answers = []
        for _ in range(2):
            async with line.as_async().reserve(name, tokens=9, cache=cache, body=BODY) as r:
                answers.append(r.answer)
                await r.settle(chat())
        await line.as_async().aclose()
        return answers

    assert asyncio.run(story()) == [None, chat()]


@pytest.mark.parametrize("told", [{"usage": {"total_tokens": 3}}, 3, chat("content_filter"), None])
def test_only_answers_are_stored(line, name, cache, told):
    """Not what one used, not what was cut, not what nobody told."""
    for _ in range(2):
        with line.reserve(name, cache=cache, body=BODY) as r:
            assert r.answer is None
            r.settle(told) if told is not None else r.cancel()


def test_a_block_that_raises_stores_nothing(line, name, cache):
    """The next one makes the call."""
    with pytest.raises(ValueError, match="no"), line.reserve(name, cache=cache, body=BODY) as r:
        raise ValueError("no")
    with line.reserve(name, cache=cache, body=BODY) as r:
        assert r.answer is None
        r.settle(chat())


def test_a_block_that_settles_and_then_raises_stores_nothing(line, name, cache):
    """What went wrong may be the answer."""

    def settle_and_raise():
        with line.reserve(name, cache=cache, body=BODY) as r:
            r.settle(chat())
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        settle_and_raise()
    with line.reserve(name, cache=cache, body=BODY) as r:
        assert r.answer is None
        r.settle(chat())


def test_tenants_do_not_share_answers(line, name, cache):
    """One tenant never reads another's."""
    for tenant, has_answer in (("a", False), ("b", False), ("a", True)):
        with line.reserve(name, cache=cache, body=BODY, tenant=tenant) as r:
            assert (r.answer is not None) == has_answer
            r.settle(chat())


def test_a_cache_without_a_body_is_an_error(line, name, cache):
    """It says what belongs together."""
    for wrong in ({"cache": cache}, {"body": BODY}, {"cache": "redis://x", "body": BODY}):
        with pytest.raises(limiter.ConfigError, match="cache= and body= together"):
            line.reserve(name, **wrong)


# --- limited functions ------------------------------------------------------------------------


def test_a_limited_function_takes_nothing_for_what_it_returned_before(line, name, cache):
    """`@rate_limited(cache=…)`: one call, one reservation, and the same for asyncio."""
    work = Counting(lambda prompt: chat())

    @limiter.rate_limited(name, limiter=line, cache=cache)
    def ask(prompt: str) -> ChatCompletion:
        return work(prompt)

    @limiter.rate_limited(name, limiter=line, cache=cache)
    async def ask_later(prompt: str) -> ChatCompletion:
        return work(prompt)

    assert ask("a") == ask("a") == chat()
    assert left(line, name) == 99

    async def twice():
        answers = await ask_later("a"), await ask_later("a")
        await line.as_async().aclose()
        return answers

    assert asyncio.run(twice()) == (chat(), chat())
    assert left(line, name) == 98
    assert work.calls == 2


def test_a_limited_generator_s_items_come_back(line, name, cache):
    """… one by one."""
    work = Counting(lambda: None)

    @limiter.rate_limited(name, limiter=line, cache=cache)
    def items(prompt):
        work()
        yield from "abc"

    assert list(items("x")) == list(items("x")) == ["a", "b", "c"]
    assert work.calls == 1
    assert left(line, name) == 99


def test_a_limited_function_s_tenants_do_not_share_results(line, name, cache):
    """Whoever the call is for, by a name or by a function of its arguments."""
    work = Counting(lambda: 1)

    @limiter.rate_limited(name, limiter=line, cache=cache, cost=1, tenant=lambda prompt, who: who)
    def ask(prompt, who):
        return work()

    for who in ("a", "b", "a", "b"):
        ask("x", who)
    assert work.calls == 2

    def plain():
        return work()

    for tenant in ("a", "b", "a"):
        limiter.rate_limited(name, limiter=line, cache=cache, cost=1, tenant=tenant)(plain)()
    assert work.calls == 4


def test_a_decorator_s_cache_is_a_cache(line, name):
    """A URL in its place is an error that says what to write."""
    with pytest.raises(limiter.ConfigError, match="Cache\\('redis"):
        limiter.rate_limited(name, limiter=line, cache="redis://localhost")
