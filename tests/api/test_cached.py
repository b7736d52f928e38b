"""`@cached`: functions of every kind are called once for the same arguments, and one of many at once runs."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

import limiter
from limiter.cache import AsyncCache, Cache, cache_control, cached
from tests.api.cached import KINDS, Counting, chat, listed, made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [Cache, AsyncCache])
def test_what_was_returned_comes_back_without_a_call(kind, make):
    """Functions of every kind, with a cache of either kind."""
    work = Counting(lambda n: [n, {"a": None, "b": [1.5, "é", b"x"]}])
    ask = made(kind, work, cache=make(f"memory://{uuid.uuid4()}"))
    assert ask(1) == ask(1) == ask(1) == [1, {"a": None, "b": [1.5, "é", b"x"]}]
    assert work.calls == 1
    ask(2)
    assert work.calls == 2


def test_bare_it_decorates_with_the_process_s_cache(monkeypatch):
    """`@cached` alone is enough, where LIMITER_CACHE_URL says."""
    monkeypatch.setenv("LIMITER_CACHE_URL", f"memory://{uuid.uuid4()}")
    monkeypatch.setattr("limiter.cache.plans._default", None)
    work = Counting(lambda n: n)

    @cached
    def ask(n: int) -> int:
        return work(n)

    assert ask(3) == ask(n=3) == 3
    assert work.calls == 1
    assert ask.__name__ == "ask"


def test_arguments_are_the_same_however_they_are_given(cache):
    """By place, by name, by default; ignored ones do not matter."""
    work = Counting(lambda *_: 1)

    @cached(cache, ignore=["self"])
    def ask(self, text, mode="short", **more):
        return work()

    ask(object(), "a")
    ask(object(), text="a")
    ask(object(), "a", "short")
    ask(object(), "a", mode="short")
    assert work.calls == 1
    ask(object(), "a", extra=1)
    assert work.calls == 2


def test_a_function_is_told_apart_by_its_name_and_its_version(cache):
    """What another one returned, or an older one, is not its result."""
    calls = []

    def one(n):
        calls.append("one")

    def other(n):
        calls.append("other")

    for function, version in ((one, ""), (other, ""), (one, "2"), (one, "")):
        cached(cache, version=version)(function)(1)
    assert calls == ["one", "other", "one"]


def test_arguments_that_nobody_can_compare_are_an_error(cache):
    """It names them, and says what to do; key= is such a way."""
    with pytest.raises(limiter.ConfigError, match=r"'thing'.*key="):
        cached(cache)(lambda thing: 1)(object())
    work = Counting(lambda: 1)

    @cached(cache, key=lambda thing: id(type(thing)))
    def keyed(thing):
        return work()

    assert keyed(object()) == keyed(object()) == 1
    assert work.calls == 1


def test_whose_results_they_are(cache, monkeypatch):
    """Those of another credential, or of another namespace, are not read."""
    work = Counting(lambda n: n)

    def ask(n, who="x"):
        return work(n)

    for key in ("one", "other", "one"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        cached(cache)(ask)(1)
    assert work.calls == 2
    for who in ("a", "b", "a"):
        cached(cache, namespace=lambda n, who: who, ignore=["who"])(ask)(1, who)
    assert work.calls == 4


@pytest.mark.parametrize("kind", KINDS)
def test_exceptions_are_not_stored(kind, cache):
    """The next call runs, and its result is."""
    outcomes = iter([ValueError("no"), [1]])

    def work():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    ask = made(kind, work, cache=cache)
    with pytest.raises(ValueError, match="no"):
        ask()
    assert ask() == ask() == [1]


def test_only_what_may_be_is_stored(cache, caplog):
    """`when=` decides; what cannot be stored is returned all the same, and said once."""
    work = Counting(lambda n: n)
    ask = made("plain", work, cache=cache, when=lambda n: n > 1)
    assert [ask(1), ask(1), ask(2), ask(2)] == [1, 1, 2, 2]
    assert work.calls == 3
    odd = made("plain", lambda: (1, 2), cache=cache)
    assert odd() == odd() == (1, 2)
    assert len([r for r in caplog.records if "a tuple" in r.message]) == 1


def test_a_filtered_answer_is_not_stored(cache):
    """A provider's answer is stored if it came to its end, whoever called it."""
    work = Counting(chat)
    ask = made("plain", work, cache=cache)
    for reason in ("content_filter", "content_filter", "stop", "stop"):
        assert ask(reason) == chat(reason)
    assert work.calls == 3


def test_a_generator_that_is_left_early_is_not_stored(cache):
    """Nor one that was sent something, or returned a value besides its items."""
    work = Counting(lambda: None)

    @cached(cache)
    def items(n):
        work()
        for i in range(n):  # noqa: UP028 - a range takes nothing that is sent
            yield i

    early = items(3)
    next(early)
    early.close()
    sent = items(3)
    next(sent)
    sent.send("hello")
    list(sent)
    assert list(items(3)) == list(items(3)) == [0, 1, 2]
    assert work.calls == 3


def test_what_is_said_to_a_recorded_generator_reaches_it(cache):
    """With a cache around it, it is the generator that it was."""
    heard = []

    @cached(cache)
    def items():
        try:
            heard.append((yield 1))
            yield 2
        except KeyError as exc:
            heard.append(exc)
            yield 3
        return "end"

    talk = items()
    assert next(talk) == 1
    assert talk.send("word") == 2
    assert talk.throw(KeyError("k")) == 3
    with pytest.raises(StopIteration) as end:
        next(talk)
    assert end.value.value == "end"
    assert heard[0] == "word"


def test_a_generator_that_returns_a_value_is_not_stored(cache):
    """The value would be lost."""
    work = Counting(lambda: None)

    @cached(cache)
    def items():
        work()
        yield 1
        return "end"

    assert list(items()) == list(items()) == [1]
    assert work.calls == 2


# --- together ---------------------------------------------------------------------------------


def test_of_many_threads_one_runs(url):
    """The others wait for its result."""
    work = Counting(lambda: 7)
    began, go = threading.Event(), threading.Event()
    own = Cache(url, namespace=uuid.uuid4().hex)

    @cached(own)
    def ask():
        began.set()
        go.wait(20)
        return work()

    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(ask) for _ in range(20)]
        began.wait(20)
        while sum(map(len, own._driver._waiting.values())) < 19:
            time.sleep(0.01)
        go.set()
        assert [call.result() for call in calls] == [7] * 20
    assert work.calls == 1
    own.close()


def test_of_many_tasks_one_runs(url):
    """… of a generator as of a function, item by item."""
    calls = []

    async def story():
        own = AsyncCache(url, namespace=uuid.uuid4().hex)
        go = asyncio.Event()

        @cached(own)
        async def items():
            calls.append(1)
            await go.wait()
            for i in range(3):
                yield i

        asks = [asyncio.ensure_future(listed(items())) for _ in range(30)]
        while (
            not own._drivers
            or sum(map(len, next(iter(own._drivers.values()))._waiting.values())) < 29
        ):
            await asyncio.sleep(0.01)
        go.set()
        assert await asyncio.gather(*asks) == [[0, 1, 2]] * 30
        await own.aclose()

    asyncio.run(story())
    assert len(calls) == 1


def test_a_stale_result_is_returned_and_got_anew_beside(url):
    """Sync in a thread, asyncio in a task; nobody waits for it."""
    own = Cache(url, namespace=uuid.uuid4().hex, ttl=0.001, stale=600)
    numbers = iter(range(100))
    anew = threading.Event()

    @cached(own)
    def ask():
        n = next(numbers)
        if n:
            anew.set()
        return n

    assert ask() == 0
    time.sleep(0.005)  # past its millisecond
    assert ask() == 0
    assert anew.wait(20)
    own.close()


def test_a_cancelled_task_lets_the_next_one_run(url):
    """… at once, not after its lease."""

    async def story():
        own = AsyncCache(url, namespace=uuid.uuid4().hex, lease=3600)
        began, never, runs = asyncio.Event(), asyncio.Event(), []

        @cached(own)
        async def ask():
            runs.append(1)
            if len(runs) == 1:
                began.set()
                await never.wait()
            return len(runs)

        first = asyncio.ensure_future(ask())
        await began.wait()
        second = asyncio.ensure_future(ask())
        while not next(iter(own._drivers.values()))._waiting:
            await asyncio.sleep(0.01)
        first.cancel()
        assert await second == 2
        await own.aclose()

    asyncio.run(story())


def test_a_block_decides_for_the_calls_in_it(cache):
    """`refresh`, `no-store` and seconds, for functions as for clients; control= goes before it."""
    work = Counting(lambda: work.calls)
    ask = made("plain", work, cache=cache)
    always = made("plain", work, cache=cache, control="no-store")
    assert ask() == ask() == 1
    with cache_control("refresh"):
        assert ask() == 2
    with cache_control("no-store"):
        assert ask() == 3
    assert ask() == 2
    assert (always(), always()) == (4, 5)
    with pytest.raises(limiter.ConfigError, match="no-store"), cache_control("never"):
        pass
