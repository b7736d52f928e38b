"""`@cached`, and the cache before `reserve`: functions of every kind, and what they return, come back as they were."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import BaseModel

import limiter
from limiter import Limit, Limiter, Quota
from limiter.cache import AsyncCache, Cache, cache_control, cached
from limiter.cache.values import NotStorable, Value, packed, unpacked

KINDS = ("plain", "coroutine", "generator", "async_generator")


@pytest.fixture
def cache():
    """A cache of its own, in this process."""
    return Cache(f"memory://{uuid.uuid4()}")


def made(kind: str, work, **options: Any):
    """Make a cached function of a kind that runs `work`, and one that calls it and returns all it gives."""

    def plain(*args, **kwargs):
        return work(*args, **kwargs)

    async def coroutine(*args, **kwargs):
        return work(*args, **kwargs)

    def generator(*args, **kwargs):
        yield from work(*args, **kwargs)

    async def async_generator(*args, **kwargs):
        for item in work(*args, **kwargs):
            yield item

    decorated = cached(**options)(locals()[kind])
    return lambda *args, **kwargs: result(decorated(*args, **kwargs))


def result(value: Any) -> Any:
    if inspect.isawaitable(value):
        return asyncio.run(awaited(value))
    if inspect.isasyncgen(value):
        return asyncio.run(listed(value))
    return list(value) if inspect.isgenerator(value) else value


async def awaited(value):
    return await value


async def listed(items):
    return [item async for item in items]


class Counting:
    """Count the calls of a function."""

    def __init__(self, work) -> None:
        self.calls, self._work = 0, work

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self._work(*args, **kwargs)


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


# --- values -----------------------------------------------------------------------------------


class Mine(BaseModel):
    name: str
    inner: list[dict[str, int]] = []


def chat(reason: str = "stop") -> ChatCompletion:
    message = {"role": "assistant", "content": "hi", "reasoning_content": "of a compatible server"}
    choice = {"index": 0, "finish_reason": reason, "logprobs": None, "message": message}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "newer": {"field": 1}}
    return ChatCompletion.construct(
        id="c", object="chat.completion", created=1, model="m", choices=[choice], usage=usage
    )


OBJECTS = [
    chat(),
    ChatCompletionChunk.construct(id="c", object="chat.completion.chunk", created=1, model="m",
                                  choices=[{"index": 0, "delta": {"content": "x"}}]),
    CreateEmbeddingResponse.construct(object="list", model="m", usage={"prompt_tokens": 1, "total_tokens": 1},
                                      data=[{"object": "embedding", "index": 0, "embedding": [0.5]}]),
    Response.construct(id="r", object="response", status="completed", created_at=1.0, model="m",
                       output=[{"type": "message", "id": "m", "role": "assistant", "status": "completed",
                                "content": [{"type": "output_text", "text": "hi", "annotations": []}]}],
                       text={"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}}}),
]  # fmt: skip


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_the_sdk_s_objects_come_back_as_they_were(value, cache):
    """Class, fields, and what is newer than the SDK; their tokens count as saved."""
    ask = made("plain", Counting(lambda: value), cache=cache)
    ask()
    again = ask()
    assert type(again) is type(value)
    assert again == value
    assert again.model_dump() == value.model_dump()
    assert cache.stats().tokens_saved == (
        (getattr(value, "usage", None) and value.usage.total_tokens) or 0
    )


def test_a_class_of_the_caller_s_comes_back_where_it_is_annotated(cache, caplog):
    """Its name alone makes no object: the store could name any class there is."""
    work = Counting(lambda: None)

    @cached(cache)
    def annotated() -> Mine:
        work()
        return Mine(name="a", inner=[{"x": 1}])

    @cached(cache)
    def silent():
        work()
        return Mine(name="a")

    assert annotated() == annotated()
    assert isinstance(annotated(), Mine)
    assert work.calls == 1
    silent(), silent()
    assert work.calls == 3
    assert "annotated to return it" in caplog.text


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "openai.OpenAI", "openai.nowhere.X",
                                  "openai.types.chat.chat_completion.Choice.mro", "builtins.dict", ""])  # fmt: skip
def test_a_name_from_the_store_makes_nothing_but_the_sdk_s_values(name):
    """Foreign names, and those of no data class, are a miss."""
    assert unpacked([name, {"a": 1}]) in (None, Value({"a": 1}))
    assert name == "" or unpacked([name, {"a": 1}]) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.integers(-(2**63), 2**64 - 1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_what_is_stored_comes_back_as_it_was(value):
    """For everything that is accepted, through the bytes of an entry."""
    from limiter.cache.entry import Entry, read, write

    try:
        entry = Entry("value", packed(value), 2, 1)
        stored = write("k", entry, 10, 10**6)
    except (NotStorable, UnicodeError):
        return  # half a surrogate pair
    found = read("k", stored, 10**6)
    assert found is not None
    assert unpacked(found.data) == Value(value)


@pytest.mark.parametrize(
    "value", [(1,), {1: 2}, {"a": {1}}, 2**64, object(), [[(1,)]], Mine, lambda: 1]
)
def test_what_would_not_come_back_as_it_was_is_refused(value):
    """Tuples become lists, numbers become keys of text: such values are not stored."""
    with pytest.raises(NotStorable):
        packed(value)


def test_what_is_nested_too_deeply_is_refused():
    """… not followed to the end of the stack."""
    value: list[Any] = []
    for _ in range(5_000):
        value = [value]
    with pytest.raises(NotStorable):
        packed(value)


# --- reserve ----------------------------------------------------------------------------------

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
