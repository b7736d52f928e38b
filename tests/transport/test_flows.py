"""Priorities and tenants of calls that go over the wire."""

from __future__ import annotations

import pytest

from limiter import ConfigError, Limiter, Priority, Quota
from limiter.transport.rules import PRIORITY_HEADER, TENANT_HEADER
from tests.transport.scripted import completion, whole


class Line:
    """Note what a limiter is asked for."""

    def __init__(self, limiter: Limiter) -> None:
        self.asked: list[tuple[str | None, str | None]] = []
        acquire = limiter.acquire

        def noted(*args: object, **asked: object) -> object:
            self.asked.append((asked.get("priority"), asked.get("tenant")))
            return acquire(*args, **asked)

        limiter.acquire = noted  # type: ignore[method-assign]


def quota(caller) -> Quota:
    return Quota(caller.model, rpm=1_000, tpm=100_000, priorities=[Priority("batch")])


def test_a_call_names_its_own_flow(caller, scripted):
    """A call's headers say more than the client's settings, and never reach the provider."""
    server = scripted(whole(completion(20)))
    caller.limiter.quotas[caller.model] = quota(caller)
    line = Line(caller.limiter)
    http = caller.limiter.http_client(family=caller.family, priority="batch", tenant="all")
    client = caller.client(server.base_url, http_client=http)
    caller.chat(client)
    own = {PRIORITY_HEADER: "default", TENANT_HEADER: "search"}
    caller.chat(client, extra_headers=own)
    assert line.asked == [("batch", "all"), ("default", "search")]
    sent = [{key.lower() for key in request.headers} for request in server.requests]
    assert len(sent) == 2
    assert not any(key.startswith("x-limiter") for keys in sent for key in keys)


def test_a_wrong_flow_is_the_callers_error(caller, scripted):
    """A priority that is not declared ends the call before anything is sent, unretried."""
    server = scripted(whole(completion(20)))
    client = caller.client(server.base_url, max_retries=2)
    with pytest.raises(ConfigError, match=r"'urgent'.*is not declared"):
        caller.chat(client, extra_headers={PRIORITY_HEADER: "urgent"})
    assert server.requests == []
    with pytest.raises(ConfigError, match="tenant= is a name"):
        caller.limiter.http_client(tenant=3)
