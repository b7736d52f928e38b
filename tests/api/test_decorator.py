"""`@rate_limited`: one decorator for four kinds of functions and two kinds of limiters."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator

import pytest

from limiter import AsyncLimiter, ConfigError, Limit, Limiter, Priority, Quota, rate_limited
from limiter.default import close_default
from limiter.providers import Accounting

SLOW = 400 * 86_400.0
MESSAGES = [{"role": "user", "content": "a" * 40}]  # 10 tokens of text, 1 for the message, 1 more


@pytest.fixture(params=[Limiter, AsyncLimiter])
def limiter(request: pytest.FixtureRequest):
    quota = Quota(
        "q", limits=[Limit("tokens", 1000, SLOW, headroom=0)], headroom=0, rpd=100, concurrency=1
    )
    return request.param(f"memory://{uuid.uuid4().hex}", quotas=[quota])


def left(limiter: object) -> tuple[int, ...]:
    status = limiter.as_sync().peek("q")
    return tuple(each.level for each in status.limits.values())


def test_a_function_settles_by_what_it_returns(limiter: object) -> None:
    """A response settles to its usage; anything else lets the estimate stand, a number too."""

    @rate_limited("q", limiter=limiter)
    def ask(messages: list, answer: object = None) -> object:
        assert left(limiter) == (start[0] - 1, 0, start[2] - 12)
        return answer

    start = left(limiter)
    assert ask(MESSAGES, {"usage": {"total_tokens": 70}}) == {"usage": {"total_tokens": 70}}
    start = left(limiter)
    assert start == (99, 1, 930)
    assert ask(messages=MESSAGES, answer=5) == 5
    assert left(limiter) == (98, 1, 918)


def test_a_coroutine_settles_by_what_it_returns(limiter: object) -> None:
    """The same, awaited."""

    @rate_limited("q", limiter=limiter, cost=len)
    async def ask(text: str) -> dict:
        return {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}

    asyncio.run(ask("x" * 100))
    assert left(limiter) == (99, 1, 993)


class Tripled(Accounting):
    """Count an output token three times, and no cached input."""

    name = "tripled"
    cached_is_free = True

    def counted(self, given: int, cached: int, written: int, model: str) -> dict[str, int]:
        return {"tokens": given - cached + 3 * written}


@pytest.mark.parametrize(
    ("provider", "estimate", "used"),
    [("openai", 12, 70), ("mistral", 17 + 256, 40), (Tripled(), 17 + 3 * 256, 20 + 60)],
)
def test_a_function_is_counted_as_its_provider_does(
    limiter: object, provider: object, estimate: int, used: int
) -> None:
    """By name or by a profile of one's own, before the call and after it; a generator too."""
    told = {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70}
    answer = {"usage": {**told, "prompt_tokens_details": {"cached_tokens": 30}}}

    @rate_limited("q", limiter=limiter, provider=provider)
    def ask(messages: list) -> object:
        assert left(limiter)[2] == 1000 - estimate
        return answer

    @rate_limited("q", limiter=limiter, provider=provider)
    def stream(messages: list) -> Iterator[object]:
        yield from [{}, answer]

    assert ask(MESSAGES) is answer
    assert left(limiter) == (99, 1, 1000 - used)
    assert list(stream(MESSAGES)) == [{}, answer]
    assert left(limiter) == (98, 1, 1000 - 2 * used)


def test_an_exception_settles_too(limiter: object) -> None:
    """Law 3: what raised counts by what the exception says, and leaves no slot taken."""

    @rate_limited("q", limiter=limiter, cost={"tokens": 50})
    def fail() -> None:
        raise ConnectionRefusedError

    @rate_limited("q", limiter=limiter, cost=50)
    async def break_down() -> None:
        raise KeyError

    with pytest.raises(ConnectionRefusedError):
        fail()
    assert left(limiter) == (100, 1, 1000)
    with pytest.raises(KeyError):
        asyncio.run(break_down())
    assert left(limiter) == (99, 1, 950)


CHUNKS = [{"choices": [1]}, {"choices": [2]}, {"usage": {"total_tokens": 30}}]


@pytest.mark.parametrize(
    ("how", "tokens"),
    [("ends", 970), ("closed early", 988), ("breaks", 988), ("never begun", 1000)],
)
def test_a_generator_settles_however_it_ends(limiter: object, how: str, tokens: int) -> None:
    """Law 3: a stream settles when it ends, breaks or is closed early; begun is when it reserves."""

    @rate_limited("q", limiter=limiter)
    def stream(messages: list):
        for i, chunk in enumerate(CHUNKS):
            if how == "breaks" and i == 1:
                raise KeyError
            yield chunk
        return "all"

    items = stream(MESSAGES)
    assert left(limiter) == (100, 1, 1000)
    if how == "ends":
        assert list(items) == CHUNKS
    elif how == "closed early":
        next(items)
        assert left(limiter) == (99, 0, 988)
        items.close()
    elif how == "breaks":
        with pytest.raises(KeyError):
            list(items)
    assert left(limiter)[1:] == (1, tokens)


@pytest.mark.parametrize(
    ("how", "tokens"), [("ends", 970), ("closed early", 988), ("breaks", 988), ("cancelled", 988)]
)
def test_an_async_generator_settles_however_it_ends(limiter: object, how: str, tokens: int) -> None:
    """Law 3: the same for async generators, and when their task is cancelled."""

    @rate_limited("q", limiter=limiter)
    async def stream(messages: list):
        for i, chunk in enumerate(CHUNKS):
            if how == "breaks" and i == 1:
                raise KeyError
            if how == "cancelled" and i == 1:
                await asyncio.sleep(60)
            yield chunk

    async def consume() -> None:
        async with contextlib.aclosing(stream(MESSAGES)) as items:
            async for _ in items:
                if how == "closed early":
                    break

    async def main() -> None:
        task = asyncio.create_task(consume())
        if how == "cancelled":
            await asyncio.sleep(0.05)
            task.cancel()
        with contextlib.suppress(KeyError, asyncio.CancelledError):
            await task
        await limiter.as_async().aclose()

    asyncio.run(main())
    assert left(limiter)[1:] == (1, tokens)


def test_what_is_sent_and_thrown_reaches_the_generator(limiter: object) -> None:
    """A decorated generator is still one: send, throw and its value work."""

    @rate_limited("q", limiter=limiter, cost=1)
    def echo():
        got = yield "begin"
        try:
            yield got
        except ValueError:
            yield "caught"
        return "value"

    def outer():
        return (yield from echo())

    items = outer()
    assert [next(items), items.send("x"), items.throw(ValueError)] == ["begin", "x", "caught"]
    with pytest.raises(StopIteration) as info:
        next(items)
    assert info.value.value == "value"
    assert left(limiter)[1] == 1


def test_the_default_limiter_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """Without `limiter=` the decorator uses `LIMITER_URL` and the quotas of `limiter.toml`."""
    (tmp_path / "limiter.toml").write_text("[quotas.q]\ntpd = 1000\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIMITER_URL", f"memory://{uuid.uuid4().hex}")

    @rate_limited("q", cost=10)
    def ask() -> str:
        return "done"

    try:
        assert ask() == "done"
    finally:
        close_default()


def test_wrong_use_says_what_to_write(limiter: object) -> None:
    """The decorator without a name, or on something else, says how it is written."""
    with pytest.raises(ConfigError, match="rate_limited"):
        rate_limited(lambda: None)
    with pytest.raises(ConfigError, match="decorates functions"):
        rate_limited("q")(3)

    @rate_limited("q", limiter=limiter, cost={"tokens": -3})
    def ask() -> None:
        pass

    with pytest.raises(ConfigError, match="whole number"):
        ask()


def test_a_function_stands_in_a_flow_of_its_own() -> None:
    """Priority and tenant of a decorated function; the tenant may come from the call itself."""
    quota = Quota("q", tpm=1000, priorities=[Priority("batch", level=-1)])
    limiter = Limiter(f"memory://{uuid.uuid4().hex}", quotas=[quota])
    seen = []
    acquire = limiter._acquire
    limiter._acquire = lambda ask, watch=None: (
        seen.append((ask.priority, ask.tenant)),
        acquire(ask),
    )[1]

    @rate_limited("q", limiter=limiter, priority="batch", tenant=lambda user: user, cost=1)
    def ask(user: str) -> None:
        return None

    @rate_limited(any_of=["q"], limiter=limiter, tenant="t", cost=1)
    def other() -> None:
        return None

    ask("ann")
    other()
    assert seen == [("batch", "ann"), ("default", "t")]
    with pytest.raises(ConfigError, match="Write the quota's name"):
        rate_limited(limiter=limiter)
