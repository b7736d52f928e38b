"""Which clients are limited, by which settings, and to which quota their calls belong."""

from __future__ import annotations

import asyncio

import httpx2
import openai
import pytest

from limiter import AsyncLimiter, ConfigError, Limiter, Quota
from limiter.mock import MockConfig, create_app
from limiter.transport import clients, http_client, instrument
from limiter.transport.carriers import Limited
from limiter.transport.rules import _provider
from tests.transport.callers import HELLO_TOKENS, still
from tests.transport.scripted import completion, whole
from tests.transport.test_settling import NOTHING, ONE


@pytest.fixture
def here(name):
    """Make a limiter for settings alone."""
    with Limiter(f"memory://{name}", quotas=[still(name)]) as made:
        yield made


# --- instrument ---------------------------------------------------------------------------------


def test_a_client_that_exists_is_limited_once(caller, mock):
    """Doing it twice changes nothing; copies share it; what comes back is the client itself."""
    client = caller.bare(mock.base_url)
    assert caller.limiter.instrument(client) is client
    transport = client._client._transport
    assert isinstance(transport, Limited)
    assert instrument(client, caller.limiter) is client
    assert client._client._transport is transport
    assert not isinstance(transport.inner, Limited)
    caller.chat(client.with_options(timeout=20))
    assert caller.used() == ONE


def test_the_twin_of_a_limiter_is_the_same_limiter(caller, mock):
    """Either side may be handed any client; the fitting one waits in line."""
    client = caller.bare(mock.base_url)
    caller.limiter.as_sync().instrument(client)
    caller.limiter.as_async().instrument(client)
    caller.chat(client)
    assert caller.used() == ONE


def test_a_client_has_one_limiter_and_one_set_of_rules(caller, here, mock):
    """A second limiter, or other settings, are refused, and the first stays."""
    client = caller.client(mock.base_url)
    caller.limiter.instrument(client)
    with pytest.raises(ConfigError, match="by another limiter"):
        here.instrument(client)
    with pytest.raises(ConfigError, match="with other settings"):
        caller.limiter.instrument(client, rule="usage")
    caller.chat(client)
    assert caller.used() == ONE


def test_mounts_are_limited_too(here):
    """A proxy, or any transport for some hosts, is no way around; exceptions stay exceptions."""
    mounts = {"https://": httpx2.HTTPTransport(), "all://localhost": None}
    with httpx2.Client(mounts=mounts) as client:
        here.instrument(client)
        made = {pattern.pattern: inner for pattern, inner in client._mounts.items()}
    assert isinstance(made["https://"], Limited)
    assert made["all://localhost"] is None


def test_what_is_no_client_is_refused(here):
    """The message says what can be limited."""
    with pytest.raises(ConfigError, match="takes an OpenAI, AsyncOpenAI"):
        here.instrument(object())


# --- http_client --------------------------------------------------------------------------------


def test_a_client_has_openai_s_own_settings(caller):
    """Timeouts, pool and redirects are what the openai client would have taken."""
    own = openai.OpenAI(api_key="x")._client
    made = caller.limiter.http_client(family=caller.family)
    assert type(made).__module__.startswith(caller.family)
    assert type(made).__name__ == ("AsyncClient" if caller.is_async else "Client")
    assert made.timeout.as_dict() == own.timeout.as_dict()
    assert made.follow_redirects == own.follow_redirects
    pools = [made._transport.inner._pool, own._transport._pool]
    limits = [(p._max_connections, p._max_keepalive_connections) for p in pools]
    assert limits[0] == limits[1] == (1000, 100)
    caller.run(made.aclose() if caller.is_async else made.close())
    own.close()


def test_the_family_is_that_of_the_installed_openai(here):
    """openai 3 is built on httpx2, openai 2 on httpx."""
    assert openai.__version__.startswith("3.")
    with here.http_client() as client:
        assert type(client).__module__.startswith("httpx2")


@pytest.mark.parametrize(
    ("version", "family"), [("2.54.0", "httpx"), ("3.0.0", "httpx2"), (None, "httpx2")]
)
def test_the_family_follows_the_version(monkeypatch, version, family):
    """Where openai is not installed, it is the newer one."""

    def told(_name):
        if version is None:
            raise clients.metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(clients.metadata, "version", told)
    assert clients.default_family() == family


def test_the_caller_s_settings_win(here):
    """Timeouts of HTTP, limits and the like go to the client."""
    inner = httpx2.HTTPTransport()
    with here.http_client(http_timeout=7, follow_redirects=False, transport=inner) as client:
        assert client.timeout.read == 7
        assert not client.follow_redirects
        assert client._transport.inner is inner


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "aiohttp"}, "family= is one of httpx2, httpx"),
        ({"provider": "nobody"}, "There is no provider 'nobody'"),
        ({"rule": "guess"}, "There is no rule 'guess'"),
        ({"unmatched": "ignore"}, "unmatched= is 'error' or 'pass'"),
        ({"quota": 5}, "quota= is the name of a quota"),
        ({"timeout": -1}, "how long a call may wait in line"),
        ({"timeout": True}, "how long a call may wait in line"),
        ({"timeout": float("nan")}, "The time that HTTP may take is http_timeout="),
    ],
)
def test_wrong_settings_are_refused_at_once(here, settings, message):
    """Before any call, with what to write instead."""
    with pytest.raises(ConfigError, match=message):
        http_client(here, **settings)


def test_a_family_that_is_not_installed_is_named(monkeypatch):
    """The message says what to install."""
    monkeypatch.setattr(clients, "FAMILIES", ("httpx9",))
    with pytest.raises(ConfigError, match="pip install httpx9"):
        clients.family("httpx9")


def test_an_asgi_application_can_be_the_provider(name):
    """`transport=` is the one inside: a test needs no socket."""

    async def call():
        mine = AsyncLimiter(f"memory://{name}", quotas=[still(name)])
        inner = httpx2.ASGITransport(create_app(MockConfig()))
        async with mine, mine.http_client(transport=inner) as http:
            client = openai.AsyncOpenAI(api_key="x", http_client=http)
            made = await client.embeddings.create(model=name, input="hello")
            levels = (await mine.peek(name)).limits.values()
            return made.model, [one.level for one in levels]

    assert asyncio.run(call()) == (name, [3, 999, 9998])


def test_an_answer_that_was_read_inside_is_settled(name):
    """A transport that hands over a whole body, as tests do, is never iterated or closed."""
    inner = httpx2.MockTransport(lambda _: httpx2.Response(200, json=completion(20)))
    mine = Limiter(f"memory://{name}", quotas=[still(name)])
    with mine, mine.http_client(transport=inner, rule="usage") as http:
        client = openai.OpenAI(api_key="x", http_client=http)
        client.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}])
        assert [one.level for one in mine.peek(name).limits.values()] == [3, 999, 9980]


AZURE_HELLO = 2 + 4 + 3  # ceil(5 / 4), the message's frame, the answer's start


# --- which quota --------------------------------------------------------------------------------


def test_azure_is_known_by_its_path(caller, mock):
    """The deployment is the model, and `max_tokens` counts, as Azure reserves it."""
    client = caller.client(mock.azure_endpoint, "AzureOpenAI", api_version="2024-10-21")
    caller.chat(client, max_tokens=50)
    assert caller.used() == {**ONE, "tokens": AZURE_HELLO + 50}


def test_a_deployment_is_azure_s_whoever_asks(caller, mock):
    """A plain client whose base URL ends in a deployment is charged and routed as Azure is."""
    base_url = f"{mock.azure_endpoint}/openai/deployments/{caller.model}"
    caller.chat(caller.client(base_url), model="whatever", max_tokens=50)
    assert caller.used() == {**ONE, "tokens": AZURE_HELLO + 50}


def test_azure_is_known_by_its_version_too(caller, mock):
    """Responses have no deployment in their path; the body's model is the deployment then."""
    client = caller.client(mock.azure_endpoint, "AzureOpenAI", api_version="2025-04-01-preview")
    caller.run(client.responses.create(model=caller.model, input="hello", max_output_tokens=50))
    assert caller.used() == {**ONE, "tokens": AZURE_HELLO + 50}


def test_the_provider_can_be_given(caller, scripted):
    """Then no URL changes it."""
    server = scripted(whole(completion(20)))
    azure = {"api_version": "2024-10-21", "provider": "openai"}
    caller.chat(caller.client(server.root, "AzureOpenAI", **azure), max_tokens=50)
    assert caller.used() == ONE
    caller.chat(caller.client(server.base_url, provider="generic"))
    assert caller.used() == {"requests": 2, "tokens": HELLO_TOKENS + 20, "concurrency": 0}


def test_models_find_their_quota(caller, mock):
    """By name, as a dated snapshot, or by a pattern of the quota."""
    caller.limiter.declare(still(f"{caller.model}-mini", models=["o4*"]))
    client = caller.client(mock.base_url)
    for model in (f"{caller.model}-2024-08-06", "o4-mini", "o4-mini-2025-04-16"):
        caller.chat(client, model=model)
    assert caller.used() == ONE
    assert caller.used(f"{caller.model}-mini")["requests"] == 2


def test_one_quota_can_take_all(caller, mock):
    """`quota=` overrules the model, also where none is named."""
    client = caller.client(mock.base_url, quota=caller.model)
    caller.chat(client, model="whatever")
    assert caller.used() == ONE


def test_models_without_a_quota_may_pass(caller, mock):
    """`unmatched="pass"` lets them go unlimited, and limits the others."""
    client = caller.client(mock.base_url, unmatched="pass")
    assert caller.chat(client, model="other").usage
    assert caller.used() == NOTHING
    caller.chat(client)
    assert caller.used() == ONE


def test_a_quota_that_is_declared_later_is_found(caller, mock):
    """Quotas are looked up call by call."""
    client = caller.client(mock.base_url)
    late = f"{caller.model}-late"
    with pytest.raises(ConfigError, match="no quota for the model"):
        caller.chat(client, model=late)
    caller.limiter.declare(Quota(late, rpm=10))
    assert caller.chat(client, model=late).usage


def test_hosts_of_azure_are_azure():
    """Its public and national hosts are known without a path; a lookalike is not."""
    hosts = {
        "me.openai.azure.com": "azure",
        "me.services.ai.azure.com": "azure",
        "me.cognitiveservices.azure.com": "azure",
        "me.openai.azure.us": "azure",
        "api.openai.com": "openai",
        "me.cloudapp.azure.com": "openai",
        "notopenai.azure.com.example.org": "openai",
    }
    told = {host: _provider(httpx2.URL(f"https://{host}/openai/v1/responses")) for host in hosts}
    assert told == hosts
