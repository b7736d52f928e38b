"""Ask a mock server as its clients do: with the openai client, or with plain HTTP."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import openai
import pytest

HELLO = [{"role": "user", "content": "hello"}]
HELLO_TOKENS = 2 + 1 + 1  # ceil(5 / 4) + messages + 1
HELLO_BILLED = 2 + 4 + 3  # ceil(5 / 4) + the frame of a message + the start of the reply


def client_of(server, **options):
    return openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0, **options)


def ask(client, **options):
    return client.chat.completions.create(model="gpt-4o", messages=HELLO, **options)


def headers_of(client, **options):
    """Give the headers of a call that is served."""
    raw = client.chat.completions.with_raw_response
    return raw.create(model="gpt-4o", messages=HELLO, **options).headers


def refusal_of(client, **options):
    """Give the error of a call that is refused with 429."""
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, **options)
    return caught.value


def wait_until(holds, patience_s=20.0):
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def post(url, data, method="POST"):
    request = urllib.request.Request(url, data, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.loads(response.read()), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers
