"""Estimates that are learned: what is reserved for an answer comes near to what answers take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx
import httpx2
import openai
import pytest
import redis

from limiter import ConfigError, Limiter, NeverFits
from limiter.core.sketch import LEAST, OutputKey
from limiter.mock import MockConfig, MockServer, background
from limiter.providers import AzurePTU, output_key
from tests.transport.callers import TOKENS, Caller
from tests.transport.scripted import DONE, completion, cut, event, streamed, whole

GIVEN = 2 + 4 + 3  # what a provider that counts by usage bills for "hello"
CAP = 200
PROVIDER = {"provider": "generic"}  # it charges what was used, answers too


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    """Charge what was used: answers of a quarter of `max_tokens`, more or less."""
    config = MockConfig(rpm=None, tpm=None, charge="usage", answer_share=0.25, jitter=0.4)
    with background(config) as server:
        yield server


def lengths(caller: Caller, client: openai.OpenAI, count: int, **options: object) -> list[int]:
    """Make calls that differ; return the lengths of their answers."""
    asked = [[{"role": "user", "content": f"hello {n:04}"}] for n in range(count)]
    answers = [caller.chat(client, messages=each, **options) for each in asked]
    return sorted(answer.usage.completion_tokens for answer in answers)


def near(tokens: int, wanted: int) -> bool:
    """Say whether a reservation's part for the answer is within 5 % of what is wanted."""
    return abs(tokens - GIVEN - wanted) * 20 <= wanted


def test_what_is_reserved_comes_near_to_what_answers_take(caller, mock):
    """At first the body's own cap; after 20 calls and more the 90th percentile of what they took."""
    client = caller.client(mock.base_url, **PROVIDER)
    assert caller.reserved(client, max_tokens=CAP) == GIVEN + CAP
    took = lengths(caller, client, 30, max_tokens=CAP)
    assert took[0] < took[26] < CAP / 2  # else this proves little
    assert near(caller.reserved(client, max_tokens=CAP), took[26])


def test_calls_without_a_cap_are_learned_too(caller, mock):
    """From the default of 256 tokens, and apart from those that have a cap."""
    client = caller.client(mock.base_url, **PROVIDER)
    assert caller.reserved(client) == GIVEN + 256
    took = lengths(caller, client, 30)
    assert near(caller.reserved(client), took[26])
    assert caller.reserved(client, max_tokens=CAP) == GIVEN + CAP


def test_answers_longer_than_the_default_are_learned(caller, mock):
    """What was too low is raised: a cap of 1,200 reserves what such answers take."""
    client = caller.client(mock.base_url, **PROVIDER)
    assert caller.reserved(client, max_tokens=1_200) == GIVEN + 256
    took = lengths(caller, client, 22, max_tokens=1_200)
    assert took[19] > 256
    assert near(caller.reserved(client, max_tokens=1_200), took[19])


@pytest.mark.parametrize("part", [0.5, 1])
def test_the_quantile_is_the_caller_s(caller, mock, part):
    """A median reserves less, a maximum more."""
    client = caller.client(mock.base_url, **PROVIDER, output_quantile=part)
    took = lengths(caller, client, 30, max_tokens=CAP)
    assert near(caller.reserved(client, max_tokens=CAP), took[round(30 * part) - 1])


def test_nothing_is_learned_where_that_is_off(caller, mock):
    """With `output_quantile=None` the cap is reserved for good."""
    client = caller.client(mock.base_url, **PROVIDER, output_quantile=None)
    lengths(caller, client, 25, max_tokens=CAP)
    assert caller.reserved(client, max_tokens=CAP) == GIVEN + CAP


@pytest.mark.parametrize("provider", ["openai", AzurePTU(output_weight=1)])
def test_nothing_is_learned_where_the_expected_answer_is_not_reserved(caller, mock, provider):
    """Charged at admission, or held by the provider at its cap: what answers take decides nothing."""
    client = caller.client(mock.base_url, provider=provider)
    reserved = caller.reserved(client, max_tokens=CAP)
    lengths(caller, client, 25, max_tokens=CAP)
    assert caller.reserved(client, max_tokens=CAP) == reserved
    other = caller.client(mock.base_url, **PROVIDER)
    assert caller.reserved(other, max_tokens=CAP) == GIVEN + CAP  # and nothing was told


def test_another_process_knows_it_one_round_trip_later(caller, mock):
    """Its first call asks along with its reservation; its second one is as well estimated as ours."""
    took = lengths(caller, caller.client(mock.base_url, **PROVIDER), 30, max_tokens=CAP)
    other = Caller(caller.mode, caller.family, caller.url, caller.model)
    client = other.client(mock.base_url, **PROVIDER)
    first, second = (other.reserved(client, max_tokens=CAP) for _ in range(2))
    other.close()
    assert first == GIVEN + CAP
    assert near(second, took[26])


def test_only_answers_that_ended_whole_are_learned_from(caller, scripted):
    """Refused, failed, broken off, left early, or silent about its usage: it teaches nothing."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    told = event(usage=usage)
    failing = b'data: {"error": {"code": "server_error", "message": "x"}}\n\n'
    bad = [
        (whole({}, 429), {}), (whole({}, 500), {}), (cut, {}),
        (whole({"id": "x", "choices": []}), {}),
        (streamed([event("a"), told], end="cut"), {"stream": True}),
        (streamed([event("a"), DONE]), {"stream": True}),
        (streamed([event("a") + told + failing + DONE]), {"stream": True}),
    ]  # fmt: skip
    good = [whole(completion(90))] * (LEAST - 1)
    server = scripted(*(answer for answer, _ in bad), *good, streamed([event("a")], end="wait"))
    client = caller.client(server.base_url, **PROVIDER, retry=None)
    for _, options in bad:
        with contextlib.suppress(openai.APIError, httpx.HTTPError, httpx2.HTTPError):
            answer = caller.chat(client, max_tokens=CAP, **options)
            if options:
                caller.take(answer)
    for _ in good:
        caller.chat(client, max_tokens=CAP)
    caller.reserved(client, max_tokens=CAP)  # left early
    assert caller.reserved(client, max_tokens=CAP) == GIVEN + CAP  # of 19 answers nothing is told
    server.answers = [whole(completion(90)), streamed([event("a")], end="wait")]
    server.requests.clear()
    caller.chat(client, max_tokens=CAP)
    assert near(caller.reserved(client, max_tokens=CAP), 80)


def test_streams_that_tell_their_usage_are_learned_from(caller, mock):
    """As whole answers, and together with them."""
    client = caller.client(mock.base_url, **PROVIDER)
    took = []
    for n in range(30):
        messages = [{"role": "user", "content": f"hello {n:04}"}]
        asked = {"messages": messages, "max_tokens": CAP}
        if n % 2:
            took.append(caller.chat(client, **asked).usage.completion_tokens)
            continue
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
        took.append(caller.take(caller.chat(client, **asked))[-1].usage.completion_tokens)
    assert near(caller.reserved(client, max_tokens=CAP), sorted(took)[26])


def test_answers_that_come_to_their_cap_are_as_long_as_that(caller):
    """A cap that cuts most answers is what they take, and no more is reserved."""
    with background(MockConfig(rpm=None, tpm=None, charge="usage", answer_tokens=900)) as server:
        client = caller.client(server.base_url, **PROVIDER)
        assert lengths(caller, client, 25, max_tokens=150)[3] == 150
        assert near(caller.reserved(client, max_tokens=150), 150)


def test_several_answers_to_one_call_are_learned_by_their_mean(caller, mock):
    """A call for three reserves three times what one takes."""
    client = caller.client(mock.base_url, **PROVIDER)
    took = [-(-each // 3) for each in lengths(caller, client, 25, max_tokens=CAP, n=3)]
    reserved = caller.reserved(client, max_tokens=CAP, n=3)
    assert abs(reserved - GIVEN - 3 * took[22]) * 20 <= 3 * took[22]


def test_calls_with_answers_above_the_limit_itself_are_not_refused(caller, mock):
    """What such answers take can never be granted at once: the default is reserved, the rest is debt."""
    key = OutputKey(output_key("/v1/chat/completions", {"model": caller.model}), 900)
    for length in [2 * TOKENS] * LEAST:
        held = caller.run(caller.limiter.acquire(caller.model, tokens=1))
        held.record_output(key, length)
        caller.run(held.settle(tokens=1))
    client = caller.client(mock.base_url, **PROVIDER)
    assert [caller.reserved(client) for _ in range(2)] == [GIVEN + 256] * 2
    with pytest.raises(NeverFits):
        caller.chat(client, messages=[{"role": "user", "content": "x" * 5 * TOKENS}])


def test_a_wrong_estimate_is_settled_to_what_was_used(caller, mock):
    """Laws 2 and 3: whatever was learned, in the end the levels know what was used."""
    client = caller.client(mock.base_url, **PROVIDER, output_quantile=0.5)
    billed = 0
    for n in range(40):
        asked = [{"role": "user", "content": f"hello {n:04}"}]
        billed += caller.chat(client, messages=asked, max_tokens=CAP).usage.total_tokens
    assert caller.used() == {"requests": 40, "tokens": billed, "concurrency": 0}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_learning_makes_no_round_trip(url, name, mock, mode, monkeypatch):
    """Lengths travel with the settling, questions with the reservation: two commands for each call."""
    monkeypatch.setattr("limiter.core.ops.REPORT_S", 60.0)  # answers are reported along with that
    caller = Caller(mode, "httpx2", url, name)
    client = caller.client(mock.base_url, **PROVIDER)
    caller.chat(client, max_tokens=CAP)
    with redis.Redis.from_url(url) as store:
        before = store.info("commandstats")["cmdstat_evalsha"]["calls"]
        took = lengths(caller, client, 25, max_tokens=CAP)
        commands = store.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert near(caller.reserved(client, max_tokens=CAP), took[22])
    caller.close()
    assert commands == 2 * 25


@pytest.mark.parametrize("part", [0, -0.1, 1.01, True, "0.9", float("nan")])
def test_a_quantile_that_is_none_is_refused(part):
    """The message says what to write."""
    with pytest.raises(ConfigError, match="above 0, at most 1, or None"):
        Limiter("memory://x").http_client(output_quantile=part)
