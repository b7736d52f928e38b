"""What is done to a running server: limits, refusals and faults on command, over real HTTP."""

from __future__ import annotations

import openai
import pytest

from limiter.errors import ConfigError
from limiter.mock import MockConfig, background
from tests.mock.asking import (
    HELLO_TOKENS,
    ask,
    client_of,
    headers_of,
    post,
    refusal_of,
    wait_until,
)

SECOND_US = 1_000_000


class Clock:
    """Stand still until a test moves it."""

    now_us = 0

    def __call__(self):
        return self.now_us


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(request, clock):
    options = getattr(request, "param", {})
    with background(MockConfig(**{"rpm": 100, "tpm": None, **options}), clock_us=clock) as running:
        yield running


@pytest.fixture
def client(server):
    with client_of(server) as made:
        yield made


def with_options(**options):
    return pytest.mark.parametrize("server", [options], indirect=True)


# Limits


def test_limits_change_for_what_comes_and_not_for_what_was_used(server, client):
    """What is enforced and what headers tell are the new limits, less what was used before."""
    for _ in range(60):
        ask(client)
    assert server.set_limits(rpm=61, tpm=1_000) == {"rpm": 61, "tpm": 1_000, "period_s": 60.0}
    told = headers_of(client)
    assert told["x-ratelimit-limit-requests"] == "61"
    assert told["x-ratelimit-remaining-requests"] == "0"
    assert told["x-ratelimit-remaining-tokens"] == str(1_000 - HELLO_TOKENS)
    assert "Limit 61, Used 61, Requested 1" in refusal_of(client).message
    server.set_limits(rpm=50)
    assert server.stats()["limits"]["requests"]["level"] == -11
    server.set_limits(rpm=None)
    assert "x-ratelimit-limit-requests" not in headers_of(client)
    _, said, _ = post(server.azure_endpoint + "/limits", None, "GET")
    assert said == {"rpm": None, "tpm": 1_000, "period_s": 60.0}


@with_options(per_model=True)
def test_limits_change_for_every_model_also_for_those_to_come(server, client):
    """With limits for each model, all of them have the new one."""
    client.embeddings.create(model="a", input="x")
    server.set_limits(rpm=1)
    for model in ("a", "b", "b"):
        try:
            client.embeddings.create(model=model, input="x")
            outcome = "served"
        except openai.RateLimitError:
            outcome = "refused"
        assert (model, outcome) in {("a", "refused"), ("b", "served"), ("b", "refused")}
    stats = server.stats()["models"]
    assert [stats[model]["accepted"] for model in "ab"] == [1, 1]


# Refusals


def test_so_many_calls_are_refused_as_the_command_says(server, client):
    """Status, code, message and hints are those of the command; nothing is charged; then it ends."""
    told = server.refuse(
        count=2, code="slow_down", message="Not so fast.", retry_after_s=2.5, retry_after_ms=2_500
    )
    assert told["refusing"] == {"status": 429, "code": "slow_down", "count": 2, "for_s": None}
    for _ in range(2):
        error = refusal_of(client)
        assert (error.code, error.type) == ("slow_down", "rate_limit_error")
        assert "Not so fast." in error.message
        headers = error.response.headers
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("2.5", "2500")
        assert headers["x-ratelimit-remaining-requests"] == "100"
    ask(client)
    stats = server.stats()
    assert [stats[n] for n in ("accepted", "refused", "refused_by_command")] == [1, 0, 2]
    _, said, _ = post(server.azure_endpoint + "/refuse", None, "GET")
    assert said == {"refusing": None}


@with_options(charge_refusals=True)
def test_a_refusal_on_command_costs_a_request_where_refusals_do(server, client):
    """One request each, as one that the levels refused."""
    server.refuse(count=3)
    for _ in range(3):
        refusal_of(client)
    assert server.stats()["limits"]["requests"]["level"] == 97


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("rate_limit_exceeded", "rate_limit_error", "Rate limit reached for gpt-4o."),
        ("slow_down", "rate_limit_error", "Your traffic grew too quickly."),
        ("insufficient_quota", "insufficient_quota", "You exceeded your current quota"),
        ("credit_balance_exhausted", "insufficient_quota", "You exceeded your current quota"),
        ("made_up", "rate_limit_error", "The call was refused: made_up."),
    ],
)
def test_each_code_has_its_type_and_its_text(server, client, code, kind, text):
    """As OpenAI's guide to error codes has them; there is no hint that was not asked for."""
    server.refuse(count=1, code=code)
    error = refusal_of(client)
    assert (error.code, error.type) == (code, kind)
    assert text in error.message
    assert not error.response.headers.keys() & {"retry-after", "retry-after-ms"}


def test_calls_are_refused_for_so_long(server, client, clock):
    """Until the time is over, however many come; with any status."""
    server.refuse(for_s=2, status=503, retry_after_s=2)
    for clock.now_us in (0, 2 * SECOND_US - 1):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "2"
    clock.now_us = 2 * SECOND_US
    ask(client)
    server.refuse()
    refusal_of(client)
    server.refuse(count=0)
    ask(client)


@pytest.mark.parametrize(
    ("server", "hints", "message"),
    [
        ({}, {"retry-after": "2", "retry-after-ms": "1001"}, " Please try again in 1.001s."),
        ({"headers": "anthropic"}, {"retry-after": "2"}, " Please try again in 1.001s."),
        ({"headers": "azure"}, {"retry-after": "1", "retry-after-ms": "0"}, " try again in 1.001s"),
        ({"message": "no"}, {"retry-after": "2", "retry-after-ms": "1001"}, "for gpt-4o."),
        ({"headers": "none"}, {}, "for gpt-4o."),
    ],
    indirect=["server"],
)
def test_a_cooldown_tells_what_remains_of_it(server, client, clock, hints, message):
    """Who comes too early is told the rest, as its family tells waits; who waits it out is served."""
    server.refuse(cooldown_s=2)
    refusal_of(client)
    clock.now_us = 999_001
    error = refusal_of(client)
    told = {k: v for k, v in error.response.headers.items() if k.startswith("retry-after")}
    assert told == hints
    assert message in error.message
    assert ("again in" in error.message) == ("again in" in message)
    clock.now_us = 999_001 + 1_001_000
    ask(client)
    assert server.stats()["refused_by_command"] == 2


# Faults


@pytest.mark.parametrize(
    ("status", "kind", "code", "charged"),
    [
        (400, openai.BadRequestError, None, True),
        (401, openai.AuthenticationError, "invalid_api_key", False),
        (403, openai.PermissionDeniedError, "model_not_found", False),
        (404, openai.NotFoundError, "model_not_found", False),
        (429, openai.RateLimitError, "insufficient_quota", False),
        (500, openai.InternalServerError, None, True),
        (503, openai.InternalServerError, "server_is_overloaded", True),
        (529, openai.InternalServerError, None, True),
    ],
)
def test_so_many_calls_fail_with_a_status(server, client, status, kind, code, charged):
    """Those that get as far as the limits keep their cost; those that are not let in cost nothing."""
    told = server.set_faults(status=status, count=2)
    assert told["failing"] == {"status": status, "count": 2, "for_s": None}
    for _ in range(2):
        with pytest.raises(kind) as caught:
            ask(client)
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert ("x-ratelimit-limit-requests" in caught.value.response.headers) == charged
    ask(client)
    stats = server.stats()
    assert (stats["errors"], stats["refused"], stats["refused_by_command"]) == (2, 0, 0)
    assert stats["limits"]["requests"]["level"] == 100 - 1 - 2 * charged


def test_a_failure_after_admission_waits_for_a_call_that_is_admitted(server, client):
    """A call that the levels refuse is refused, and does not count as one that failed."""
    server.set_limits(rpm=1)
    ask(client)
    server.set_faults(status=500, count=1)
    refusal_of(client)
    server.set_limits(rpm=2)
    with pytest.raises(openai.InternalServerError):
        ask(client)


def test_random_faults_are_switched_in_mid_run(server, client, clock):
    """Shares that are not named stay; a failure for a time ends with it."""
    assert server.set_faults(error_rate=1) == {
        "error_rate": 1,
        "overload_rate": 0.0,
        "slow_down_rate": 0.0,
        "cut_rate": 0.0,
        "failing": None,
    }
    with pytest.raises(openai.InternalServerError):
        ask(client)
    server.set_faults(error_rate=0, slow_down_rate=1)
    assert refusal_of(client).code == "slow_down"
    server.set_faults(status=401, for_s=1)
    with pytest.raises(openai.AuthenticationError):
        ask(client)
    clock.now_us = SECOND_US
    assert refusal_of(client).code == "slow_down"
    server.set_faults(slow_down_rate=0)
    ask(client)


# Commands


@pytest.mark.parametrize(
    ("path", "data", "param"),
    [
        ("/limits", b"{", None),
        ("/limits", b"[]", None),
        ("/limits", b'{"rpm": 0}', "rpm"),
        ("/limits", b'{"rpm": 5, "tpm": "many"}', "tpm"),
        ("/limits", b'{"rpm": 5, "rpd": 9}', "rpd"),
        ("/refuse", b'{"count": -1}', "count"),
        ("/refuse", b'{"count": true}', "count"),
        ("/refuse", b'{"for_s": NaN}', "for_s"),
        ("/refuse", b'{"status": 200}', "status"),
        ("/refuse", b'{"code": 7}', "code"),
        ("/refuse", b'{"cooldown_s": 1, "count": 1}', "cooldown_s"),
        ("/faults", b'{"error_rate": 2}', "error_rate"),
        ("/faults", b'{"error_rate": null}', "error_rate"),
        ("/faults", b'{"error_rate": 0.6, "cut_rate": 0.6}', None),
        ("/faults", b'{"error_rate": 1, "count": 1}', "status"),
    ],
)
def test_a_command_that_makes_no_sense_changes_nothing(server, path, data, param):
    """It is answered with 400 and the field at fault; what held before holds."""
    url = server.azure_endpoint + path
    before = post(url, None, "GET")[1]
    status, body, _ = post(url, data)
    assert (status, body["error"]["param"]) == (400, param)
    assert (param or "") in body["error"]["message"]
    assert post(url, None, "GET")[1] == before
    assert server.stats()["errors"] == 0


def test_a_senseless_command_from_python_is_a_config_error(server):
    """The message is the server's."""
    with pytest.raises(ConfigError, match="POST /limits: rpm=0"):
        server.set_limits(rpm=0)


# Concurrency


# A stream of 400 tokens or so lasts for twenty seconds, unless it is closed before.
SLOW = {"token_latency_s": 0.05, "answer_tokens": 400}


@with_options(max_concurrency=2, headers="none", **SLOW)
def test_calls_above_the_concurrency_limit_are_refused_without_a_hint(server, client):
    """So many at once and no more; the others are told nothing; who leaves gives the slot back."""
    streams = [ask(client, stream=True) for _ in range(2)]
    for _ in range(2):
        error = refusal_of(client)
        told = error.response.headers
        assert not [name for name in told if "ratelimit" in name or "retry" in name]
        assert error.body["message"] == "Rate limit reached for gpt-4o."
    streams.pop().close()
    wait_until(lambda: server.stats()["in_flight"] == 1)
    ask(client, max_tokens=1)
    stats = server.stats()
    assert (stats["accepted"], stats["refused_by_concurrency"], stats["refused"]) == (3, 2, 0)
    assert (stats["max_in_flight"], stats["limits"]["requests"]["level"]) == (2, 97)
    streams.pop().close()


@with_options(max_concurrency=1, per_model=True, **SLOW)
def test_each_model_has_its_own_concurrency_where_each_has_limits(server, client):
    """One model's call does not stand in the way of another's."""
    with ask(client, stream=True):
        refusal_of(client)
        client.embeddings.create(model="other", input="x")
        assert server.stats()["in_flight"] == 1


# The time line


def test_the_time_line_tells_each_second_of_a_run(server, client, clock):
    """Over HTTP: counts by second with Unix times, from any moment on."""
    ask(client)
    server.refuse(count=1)
    clock.now_us = 5 * SECOND_US
    refusal_of(client)
    told = server.timeline()
    first, second = told["seconds"]
    assert second["at_s"] - first["at_s"] == 5
    assert (first["accepted"], first["tokens"]) == (1, HELLO_TOKENS)
    assert first["levels"] == {"requests": 99.0}
    assert (second["accepted"], second["refused_by_command"]) == (0, 1)
    assert int(told["now_s"]) == second["at_s"]
    assert server.timeline(second["at_s"])["seconds"] == [second]
    status, body, _ = post(server.azure_endpoint + "/timeline?since=noon", None, "GET")
    assert (status, body["error"]["param"]) == (400, "since")
    server.reset_stats()
    assert server.timeline()["seconds"] == []


@with_options(per_model=True)
def test_each_model_has_a_time_line_where_each_has_limits(server, client):
    """They stand under its name, as in the statistics."""
    client.embeddings.create(model="a", input="x")
    assert [row["accepted"] for row in server.timeline()["models"]["a"]] == [1]
