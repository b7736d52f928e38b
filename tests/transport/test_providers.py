"""Calls to other providers' own APIs, over real HTTP, by their path, their host, or a profile given."""

from __future__ import annotations

import importlib
import json
from types import MappingProxyType

import pytest

from limiter import Limit, Quota
from limiter.providers import Accounting, Bedrock, Usage
from tests.transport.callers import YEAR_S
from tests.transport.scripted import streamed, whole

LARGE = 1_000_000
TEXT = "x" * 100
GIVEN = 25 + 4 + 3
CLAUDE = "anthropic.claude-sonnet-4-20250514-v1:0"
DIMENSIONS = ("requests", "tokens", "input_tokens", "output_tokens")
TOLD = {"input_tokens": 9, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 700}


def sse(*payloads):
    return [f"data: {json.dumps(payload)}\n\n".encode() for payload in payloads]


class User:
    """Post bodies with a limited HTTP client, and see what a quota lost."""

    def __init__(self, caller, model, **settings):
        self.caller, self.model = caller, model
        limits = [Limit(name, LARGE, YEAR_S, headroom=0) for name in DIMENSIONS]
        caller.limiter.declare(
            Quota(f"{caller.model}-q", limits=limits, concurrency=1, models=[model])
        )
        self.http = caller.limiter.http_client(family=caller.family, **settings)

    def post(self, url, body):
        answer = self.caller.run(self.http.post(url, json=body))
        return answer.status_code

    def used(self):
        status = self.caller.limiter.as_sync().peek(f"{self.caller.model}-q")
        levels = {one.limit.dimension: one.level for one in status.limits.values()}
        full = {name: 1 if name == "concurrency" else LARGE for name in levels}
        return tuple(full[name] - levels[name] for name in (*DIMENSIONS, "concurrency"))

    def close(self):
        close = self.http.aclose if self.caller.is_async else self.http.close
        self.caller.run(close())


@pytest.fixture
def user(caller):
    made = []

    def make(model, **settings):
        made.append(User(caller, model, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_anthropic_is_settled_to_input_and_output(user, scripted):
    """Cache writes count, cache reads do not; whole or streamed, the same."""
    start = {"type": "message_start", "message": {"usage": {**TOLD, "output_tokens": 1}}}
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hello"}}
    end = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 40}}
    events = sse(start, delta, end, {"type": "message_stop"})
    server = scripted(whole({"usage": {**TOLD, "output_tokens": 40}}), streamed(events))
    asks = user("claude-opus", provider="anthropic")
    body = {"model": "claude-opus", "messages": [{"role": "user", "content": TEXT}]}
    assert asks.post(f"{server.base_url}/messages", body) == 200
    assert asks.used() == (1, 51, 11, 40, 0)
    assert asks.post(f"{server.base_url}/messages", {**body, "stream": True}) == 200
    assert asks.used() == (2, 102, 22, 80, 0)


def test_gemini_s_model_is_found_in_its_path(user, scripted):
    """Its body names none; answers are not counted; a list of chunks is read like events."""
    chunks = [
        {"candidates": [], "usageMetadata": {"promptTokenCount": 40, "totalTokenCount": 40}},
        {
            "usageMetadata": {
                "promptTokenCount": 40,
                "candidatesTokenCount": 9,
                "totalTokenCount": 49,
            }
        },
    ]
    server = scripted(whole(chunks[-1]), whole(chunks), streamed(sse(*chunks)))
    asks = user("gemini-2.5-pro", provider="gemini")
    body = {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}
    model = f"{server.root}/v1beta/models/gemini-2.5-pro"
    for number, verb in enumerate(
        ("generateContent", "streamGenerateContent", "streamGenerateContent?alt=sse"), 1
    ):
        assert asks.post(f"{model}:{verb}", body) == 200
        assert asks.used() == (number, 40 * number, 40 * number, 0, 0)


def test_bedrock_s_model_is_found_in_its_path(user, scripted):
    """Quoted, and with its burndown; a binary stream leaves the estimate, a 400 its input."""
    usage = {"inputTokens": 40, "outputTokens": 9, "totalTokens": 49}
    server = scripted(
        whole({"usage": usage}),
        whole(b"\x00\x00\x00\x10", kind="application/vnd.amazon.eventstream"),
        whole({"message": "no"}, 400),
    )
    asks = user(CLAUDE, provider=Bedrock(longest_tokens=5000))
    body = {"messages": [{"role": "user", "content": [{"text": TEXT}]}]}
    model = f"{server.root}/model/{CLAUDE.replace(':', '%3A')}"
    assert asks.post(f"{model}/converse", body) == 200
    assert asks.used() == (1, 40 + 5 * 9, 40, 9, 0)
    assert asks.post(f"{model}/converse-stream", body) == 200
    assert asks.used() == (2, 85 + GIVEN + 5000, 40 + GIVEN, 9 + 5000, 0)
    assert asks.post(f"{model}/converse", body) == 400
    assert asks.used() == (3, 85 + 2 * GIVEN + 5000, 40 + 2 * GIVEN, 9 + 5000, 0)


@pytest.mark.parametrize("status", [200, 400, 429, 503])
def test_a_slot_comes_back_however_the_call_ends(user, scripted, status):
    """Where calls under way are limited, the next one may start when this one is over."""
    usage = {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49}
    server = scripted(whole({"usage": usage}, status))
    asks = user("deepseek-chat", provider="deepseek", timeout=0, retry=None)
    body = {"model": "deepseek-chat", "messages": [{"role": "user", "content": TEXT}]}
    for number in (1, 2):
        assert asks.post(f"{server.base_url}/chat/completions", body) == status
        assert asks.used()[0] == number
        assert asks.used()[-1] == 0


class Metered(Accounting):
    """Tell a usage in a shape that nobody else has, in units of a thousand."""

    name = "metered"

    def usage(self, payload):
        units = payload.get("units") if isinstance(payload, dict) else None
        return None if units is None else Usage(units * 1000, 0)

    def failure(self, status, estimate):
        return dict.fromkeys(estimate, status)


def test_a_profile_of_one_s_own_reads_its_own_usage(user, scripted):
    """In a whole answer and in a stream's events; what a failure costs is its own to say."""
    server = scripted(whole({"units": 7}), streamed(sse({"units": 7}, {"x": 1})), whole({}, 418))
    asks = user("m", provider=Metered())
    body = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
    url = f"{server.base_url}/chat/completions"
    assert asks.post(url, body) == 200
    assert asks.used() == (1, 7000, 7000, 0, 0)
    assert asks.post(url, {**body, "stream": True}) == 200
    assert asks.used() == (2, 14_000, 14_000, 0, 0)
    assert asks.post(url, body) == 418
    assert asks.used() == (420, 14_418, 14_418, 418, 0)


class Slots(Accounting):
    """Count calls under way, and no requests."""

    name = "slots"
    per_call = MappingProxyType({"requests": 0, "concurrency": 1})


@pytest.mark.parametrize(("provider", "requests"), [("self-hosted", 1), (Slots(), 0)])
def test_a_body_that_cannot_be_read_takes_what_every_call_takes(user, scripted, provider, requests):
    """An upload costs no tokens, but the request and the slot that its profile says."""
    server = scripted(whole({}))
    asks = user("m", provider=provider)
    upload = {"data": {"model": "m"}, "files": {"file": ("a.wav", b"RIFF")}}
    url = f"{server.base_url}/chat/completions"
    for number in (1, 2):
        asks.caller.run(asks.http.post(url, **upload))
        assert asks.used() == (requests * number, 0, 0, 0, 0)


def local(caller, server):
    """Make a transport that takes every host for the server's."""
    module = importlib.import_module(caller.family)
    base = module.AsyncHTTPTransport if caller.is_async else module.HTTPTransport
    method = "handle_async_request" if caller.is_async else "handle_request"

    def handle(self, request):
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=server.port)
        return getattr(base, method)(self, request)

    return type("Local", (base,), {method: handle})()


def test_the_host_names_the_provider(user, caller, scripted):
    """A client that calls several providers counts each as that one does."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 9,
        "total_tokens": 109,
        "prompt_tokens_details": {"cached_tokens": 60},
    }
    server = scripted(whole({"usage": usage}))
    asks = user("m", transport=local(caller, server))
    body = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
    taken = 0
    for host, tokens in (
        ("api.groq.com/openai", 49),
        ("api.mistral.ai", 49),
        ("api.x.ai", 109),
        ("api.openai.com", 25 + 1 + 1),
        ("gateway.example.org", 25 + 1 + 1),
    ):
        assert asks.post(f"https://{host}/v1/chat/completions", body) == 200
        taken += tokens
        assert asks.used()[1] == taken, host
