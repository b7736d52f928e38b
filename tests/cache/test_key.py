"""Keys: what differs in anything that counts has another key, what differs in nothing has the same.

Drawn at random: bodies, and one change to each.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from limiter.cache import key as keys
from limiter.cache.key import call_key, namespace_of, request_key
from limiter.cache.settings import Settings
from limiter.errors import ConfigError

URL = "https://api.openai.com/v1/chat/completions"
HEADERS = {"authorization": "Bearer sk-1", "content-type": "application/json"}

text = st.text(max_size=8)
scalar = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), text,
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
part = st.fixed_dictionaries({"type": st.just("text"), "text": text})
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": text | st.lists(part)},
    optional={"name": text, "tool_call_id": text},
)
body = st.fixed_dictionaries(
    {"model": st.sampled_from(["gpt-4o", "gpt-4o-mini"]), "messages": st.lists(message, max_size=3)},
    optional={
        "tools": st.lists(value, max_size=2), "response_format": value, "seed": st.integers(0, 99),
        "temperature": st.floats(0, 2), "n": st.integers(1, 4), "stop": st.lists(text, max_size=2),
        "max_tokens": st.integers(1, 999), "x_unknown": value,
    },
)  # fmt: skip


def key(
    body: Any, url: str = URL, headers: dict[str, str] | None = None, **more: Any
) -> str | None:
    return request_key(url, HEADERS if headers is None else headers, body, **more)


def digest(found: str | None) -> str:
    assert found is not None
    return found.rpartition(":")[2]


def whose(url: str = URL, **headers: str) -> str:
    found = request_key(url, {name.replace("_", "-"): told for name, told in headers.items()}, {})
    assert found is not None
    return found.partition(":")[0]


def same(one: Any, other: Any) -> bool:
    """Say whether JSON has one value for both: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def places(at: Any) -> list[tuple[Any, Any]]:
    """List all containers and what can be replaced in them."""
    inner = at.items() if isinstance(at, dict) else enumerate(at) if isinstance(at, list) else ()
    found = [(at, name) for name, _ in inner]
    for where, name in list(found):
        found += places(where[name])
    return found


@given(one=body, other=body)
def test_other_requests_have_other_keys(one: Any, other: Any) -> None:
    """Two bodies have one key if and only if JSON has one value for both."""
    assert (key(one) == key(other)) is same(one, other)


@given(data=st.data(), one=body)
def test_one_change_anywhere_makes_another_key(data: st.DataObject, one: Any) -> None:
    """Whatever is replaced, added or taken away at any depth, the key is another."""
    other = copy.deepcopy(one)
    where, name = data.draw(st.sampled_from(places(other)))
    match data.draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            where[name] = data.draw(value)
        case "remove":
            del where[name]
        case "add" if isinstance(where, dict):
            where[data.draw(text.map("x-".__add__))] = data.draw(value)
        case _:
            where.insert(name, data.draw(value))
    assume(not same(one, other))
    assert key(one) != key(other)


@given(one=body, rng=st.randoms(use_true_random=False))
def test_the_order_of_fields_changes_nothing(one: Any, rng: random.Random) -> None:
    """JSON objects have no order, at any depth."""

    def shuffled(at: Any) -> Any:
        if isinstance(at, dict):
            names = list(at)
            rng.shuffle(names)
            return {name: shuffled(at[name]) for name in names}
        return [shuffled(each) for each in at] if isinstance(at, list) else at

    assert key(shuffled(one)) == key(one)


@given(one=body)
def test_the_order_of_messages_counts(one: Any) -> None:
    """A conversation that is told backwards is another one."""
    backwards = {**one, "messages": one["messages"][::-1]}
    assert (key(one) == key(backwards)) is same(one, backwards)


BESIDE_FIELDS = [
    "user", "metadata", "safety_identifier", "stream", "stream_options", "service_tier", "timeout",
    "prompt_cache_key", "prompt_cache_retention",
]  # fmt: skip


@given(one=body, beside=st.dictionaries(st.sampled_from(BESIDE_FIELDS), value))
def test_who_asks_and_how_it_is_delivered_change_nothing(one: Any, beside: Any) -> None:
    """`user`, `metadata`, `stream` and their like are beside the point, whatever is in them."""
    assert key({**one, **beside}) == key(one)
    if beside:
        assert key({**one, "x": beside}) != key({**one, "x": {}})


def test_whole_floats_are_integers() -> None:
    """1, 1.0 and 1e0 are one number; true, "1" and 1.5 are others."""
    same_ones = {key(json.loads(f'{{"n": {n}}}')) for n in ("1", "1.0", "1e0", "10e-1")}
    assert len(same_ones) == 1
    others = {key({"n": n}) for n in (True, "1", 1.5, None, [1], -1)}
    assert len(others | same_ones) == 7


BESIDE = {
    "user-agent": "x", "traceparent": "00-1", "tracestate": "a=b", "baggage": "a=b", "date": "now",
    "x-stainless-retry-count": "2", "x-stainless-timeout": "600", "X-Stainless-Lang": "python",
    "x-request-id": "1", "idempotency-key": "k", "accept": "*/*", "content-length": "3",
    "x-limiter-cache": "60", "x-datadog-trace-id": "1", "host": "here", "connection": "close",
    "x-amz-date": "20250101T000000Z", "x-amz-security-token": "t",
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_headers_of_tracing_and_transport_change_nothing(name: str) -> None:
    """Nor does the way in which their names are written."""
    assert key({}, headers={**HEADERS, name: BESIDE[name]}) == key({})
    assert key({}, headers={**HEADERS, name.upper(): "other"}) == key({})


@pytest.mark.parametrize(
    "name", ["anthropic-version", "anthropic-beta", "openai-beta", "x-unknown"]
)
def test_other_headers_count(name: str) -> None:
    """A header that is not known to be beside the point counts, by its value."""
    told = [key({}, headers={**HEADERS, name: each}) for each in ("1", "2")]
    assert len({key({}), *told}) == 3
    assert key({}, headers={**HEADERS, name.title(): "1"}) == told[0]
    assert key({}, headers={**HEADERS, name: "1"}, ignore=[f"{name[:4]}*"]) == key({})


def test_where_it_is_sent_counts() -> None:
    """Scheme, host, port, path and query do; the case of a host, and the order of a query, do not."""
    urls = [
        URL, URL.replace("https", "http"), URL.replace("api.", "eu."),
        URL.replace(".com", ".com:8443"), URL.replace("/v1", "/v2"), URL + "?api-version=1",
        URL + "?api-version=2", URL + "?api-version=1&a=b", URL + "?api-version=1&api-version=2",
    ]  # fmt: skip
    assert len({key({}, url) for url in urls}) == len(urls)
    assert key({}, URL.replace("api.openai.com", "API.OpenAI.com")) == key({})
    assert key({}, URL + "?a=b&api-version=1") == key({}, urls[7])


@pytest.mark.parametrize("told", [{"background": True}, {"conversation": "c"}])
def test_what_depends_on_state_has_no_key(told: dict[str, Any]) -> None:
    """A background job and a conversation that the provider keeps are not repeatable."""
    assert key(told) is None


@pytest.mark.parametrize("url", [
    "https://h/v1/models", "https://h/v1/chat/completions/x/cancel", "https://h/v1/files", "/",
    "https://[half", "https://h:port/v1/images/generations", "",
])  # fmt: skip
def test_other_endpoints_have_no_key(url: str) -> None:
    """What is no answer of a model, and what is no URL, goes past the cache."""
    assert key({}, url) is None


CREDENTIALS = [
    ("authorization", "Bearer sk-{}"), ("api-key", "sk-{}"), ("x-api-key", "sk-{}"),
    ("x-goog-api-key", "sk-{}"), ("openai-organization", "org-{}"), ("openai-project", "proj-{}"),
    ("cookie", "session=sk-{}"), ("cookie", "CF_Authorization=sk-{}"),
    ("authorization", "AWS4-HMAC-SHA256 Credential=sk-{}/20250101/us-east-1/bedrock/aws4_request, Signature=1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "form"), CREDENTIALS)
def test_other_credentials_have_other_namespaces(name: str, form: str) -> None:
    """Each way of giving one tells callers apart, and the same one has the same namespace."""
    ann, bob = ({name: form.format(each)} for each in ("ann", "bob"))
    assert whose(**ann) != whose(**bob)
    assert whose(**ann) == whose(**{name.title(): ann[name]})
    assert len({whose(), whose(**ann), whose(**bob), whose(x_api_key="", **ann)}) == 3


@pytest.mark.parametrize("form", ["https://{}@h/v1/messages", "https://{}:pw@h/v1/messages",
                                  "https://me:{}@h/v1/messages", "https://h/v1/messages?key={}",
                                  "https://h/v1/messages?a=b&api-key={}",
                                  "https://h/v1/messages?api_key={}"])  # fmt: skip
def test_a_credential_in_the_url_is_one(form: str) -> None:
    """It tells callers apart, and is not part of what is digested."""
    ann, bob = (request_key(form.format(each), {}, {}) for each in ("sk-ann", "sk-bob"))
    assert ann is not None
    assert ann != bob
    assert digest(ann) == digest(bob)


def test_ways_of_giving_a_credential_are_told_apart() -> None:
    """The same text as another kind of credential is another caller."""
    ways = [whose(**{name: "s"}) for name in ("authorization", "api-key", "x-api-key", "cookie")]
    ways.append(whose(f"{URL}?key=s"))
    ways.append(whose(URL.replace("//", "//s@")))
    assert len(set(ways)) == 6


def test_a_signature_is_no_credential() -> None:
    """AWS signs each request anew: with one key's id it is one caller, with another's another."""
    form = (
        "AWS4-HMAC-SHA256 Credential={}/{}/bedrock/aws4_request, SignedHeaders=host, Signature={}"
    )
    one, again, other = (
        whose(authorization=form.format(*told))
        for told in (
            ("AK1", "20250101", "ff"),
            ("AK1", "20250202", "ee"),
            ("AK2", "20250101", "ff"),
        )
    )
    assert one == again
    assert one != other


def test_cookies_of_the_network_in_front_are_no_credential() -> None:
    """Cloudflare's are set anew all the time; the order of the others says nothing."""
    assert whose(cookie="__cf_bm=1; _cfuvid=2; cf_clearance=3") == whose()
    assert whose(cookie="__cf_bm=1; a=1; b=2") == whose(cookie="b=2; a=1; __cf_bm=9")
    assert whose(cookie="a=1") != whose(cookie="a=2")


@given(secret=st.text(min_size=8, alphabet="abcdefghij-_.KLMNOP"), one=body)
def test_no_key_tells_a_credential(secret: str, one: Any) -> None:
    """Neither does the namespace, and two callers' digests are the same."""
    found = key(one, headers={"authorization": f"Bearer {secret}"})
    assert found is not None
    assert secret not in found
    assert digest(found) == digest(key(one, headers={"authorization": "Bearer other"}))


def question_key(settings: Settings, headers: dict[str, str]) -> str:
    question = settings.question("POST", URL, "/v1/chat/completions", headers, {"model": "m"})
    assert question is not None
    return question.key


def test_shared_answers_and_named_ones_are_for_all_credentials() -> None:
    """By default each credential has its own; `shared` and `namespace` say otherwise."""
    ann, bob = {"x-api-key": "ann"}, {"x-api-key": "bob"}
    for settings, are_same in ((Settings(), False), (Settings(shared=True), True),
                               (Settings(namespace="team"), True)):  # fmt: skip
        assert (question_key(settings, ann) == question_key(settings, bob)) is are_same
    assert question_key(Settings(namespace="team"), ann).startswith("n-team:")
    with pytest.raises(ConfigError, match="exclude"):
        Settings(shared=True, namespace="x")


@given(names=st.lists(st.text(min_size=1, max_size=40), min_size=2, unique=True))
def test_no_name_is_anybody_elses_namespace(names: list[str]) -> None:
    """A named namespace is that of no credential, of no other name, and not the shared one."""
    names += ["shared", namespace_of({"x-api-key": "a"}), keys.keyed(names[0]), "a:b", "n-a", "a"]
    found = [Settings(namespace=name).whose for name in dict.fromkeys(names)]
    assert len(set(found)) == len(found)
    for each in found:
        assert each is not None
        assert each[:2] in {"n-", "h-"}
        assert ":" not in each


def nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


def looped() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


ODD = {
    "nan": float("nan"), "infinite": float("inf"), "large": 2**60, "larger": 10**400,
    "surrogate": "\ud800", "surrogate key": {"\udfff": 1}, "deep": nested(100_000),
    "looped": looped(), "bytes": b"x", "object": object(), "number as a key": {1: 2}, "set": {1},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_has_no_canonical_form_has_no_key(name: str) -> None:
    """It goes past the cache, and nothing is raised; of a function's argument it is said by its name."""
    assert key({"messages": ODD[name]}) is None
    assert key({"messages": [{"x": ODD[name]}]}) is None
    with pytest.raises(ConfigError, match="'odd'"):
        call_key("f", {"fine": 1, "odd": ODD[name]}, "n")


def test_a_field_without_a_text_for_a_name_has_no_key() -> None:
    """A mapping that was never JSON is not taken for one."""
    assert key({1: 2}, ignore=["x*"]) is None


@given(st.dictionaries(st.text(st.characters()), st.recursive(
    st.none() | st.floats() | st.integers() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner))))  # fmt: skip
def test_nothing_is_ever_raised(odd: dict[str, Any]) -> None:
    """Whatever a body holds, it has a key or none."""
    found = key(odd)
    assert found is None or len(digest(found)) == 64


@given(one=st.dictionaries(text, value), other=st.dictionaries(text, value), name=text)
def test_calls_have_one_key_if_their_arguments_are_the_same(
    one: Any, other: Any, name: str
) -> None:
    """… and the function, and the namespace."""
    assert (call_key("f", one, "n") == call_key("f", other, "n")) is same(one, other)
    assert (call_key(name, one, "n") == call_key("f", one, "n")) is (name == "f")
    assert call_key("f", one, "n") != call_key("f", one, "m")
