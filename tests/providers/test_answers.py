"""What an answer means: how the call ended, whether to come again, and when levels were read."""

from __future__ import annotations

from types import MappingProxyType

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.mock.wire import FAULTS
from limiter.providers import (
    Outcome,
    StreamError,
    Verdict,
    judge,
    judge_stream_error,
    no_answer,
)
from limiter.providers.answers import BILLING
from tests.providers.test_headers import ANTHROPIC, AZURE_EMPTY, OPENAI
from tests.providers.test_refusals import error, reached

CHAT = "/v1/chat/completions"


def ended(status, body=None, headers=None, **more):
    """Say how a call ended, and whether another attempt may succeed."""
    verdict = judge(status, headers or {}, body, **more)
    return verdict.outcome, verdict.again


@pytest.mark.parametrize(
    ("status", "outcome", "again"),
    [
        (0, Outcome.FAILED, True),
        (200, Outcome.SERVED, False),
        (204, Outcome.SERVED, False),
        (301, Outcome.REJECTED, False),
        (400, Outcome.REJECTED, False),
        (401, Outcome.DENIED, False),
        (402, Outcome.DENIED, False),
        (403, Outcome.DENIED, False),
        (404, Outcome.REJECTED, False),
        (408, Outcome.FAILED, True),
        (409, Outcome.FAILED, True),
        (413, Outcome.REJECTED, False),
        (422, Outcome.REJECTED, False),
        (424, Outcome.REJECTED, False),
        (429, Outcome.REFUSED, True),
        (500, Outcome.FAILED, True),
        (502, Outcome.FAILED, True),
        (503, Outcome.FAILED, True),
        (504, Outcome.FAILED, True),
        (529, Outcome.FAILED, True),
    ],
)
def test_a_status_says_how_it_ended(status, outcome, again):
    """Without a body that says more."""
    assert ended(status) == (outcome, again)
    assert ended(status, "<html>Bad gateway</html>") == (outcome, again)


@pytest.mark.parametrize("code", sorted(BILLING))
@pytest.mark.parametrize("status", [400, 402, 403, 429, 500, 503])
def test_lack_of_money_is_never_tried_again(code, status):
    """Whatever the status, the place of the code, and the provider's `x-should-retry`."""
    headers = {"x-should-retry": "true", "retry-after": "5", "retry-after-ms": "5000"}
    bodies = [error(code=code), error(kind=code), error(code="rate_limit_exceeded", kind=code),
              {"error": {"type": "rate_limit_error", "details": {"error_code": code.upper()}}},
              {"error": {"type": "rate_limit_error", "error_code": code}},
              {"error": {"innererror": {"code": code}}}, {"code": code, "error": "No."}]  # fmt: skip
    for body in bodies:
        verdict = judge(status, headers, body)
        assert (verdict.outcome, verdict.again, verdict.wait_us) == (Outcome.DENIED, False, None)


@pytest.mark.parametrize(
    "message",
    [
        "This request would exceed your account's monthly spend limit. Please try again later.",
        "Your credit balance is too low to access the Anthropic API.",
    ],
)
def test_lack_of_money_in_words(message):
    """Anthropic has sentences for it under other names."""
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": message}}
    for status in (400, 429):
        assert ended(status, body, {"retry-after": "300"}) == (Outcome.DENIED, False)


def test_what_is_too_large_is_never_tried_again():
    """It can never pass; the limit is told all the same. OpenAI answers 429, Groq 413."""
    message = "Request too large for m on tokens per min (TPM): Limit 30000, Requested 37313. The"
    for status in (413, 429):
        headers = {"x-should-retry": "true", "retry-after": "5"}
        verdict = judge(status, headers, error(message, "rate_limit_exceeded"))
        assert (verdict.outcome, verdict.again, verdict.wait_us) == (Outcome.REJECTED, False, None)
        assert verdict.refused_by is not None
        assert (verdict.refused_by.amount, verdict.refused_by.remaining) == (30_000, None)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, error("Your traffic grew too quickly.", "slow_down", "rate_limit_error")),
        (503, error("Slow Down", kind="server_error")),
        (503, "Slow down: reduce your request rate."),
        (429, error("This request would exceed your organization's maximum usage increase rate "
                    "for input tokens per minute. Please scale up more gradually.")),
        FAULTS["slow_down"],
    ],
)  # fmt: skip
def test_growth_is_slowed_down(status, body):
    """OpenAI's ramp limit, in its older form as well, and Anthropic's acceleration limit."""
    assert ended(status, body) == (Outcome.SLOW_DOWN, True)


def test_being_overloaded_is_not_growing():
    """A 503 of OpenAI, a 529 of Anthropic and Together's 503 are failures."""
    assert ended(*FAULTS["overload"]) == ended(*FAULTS["error"]) == (Outcome.FAILED, True)
    assert ended(529, {"type": "error", "error": {"type": "overloaded_error"}}) == ended(500)
    assert ended(503, error("Overloaded"), provider="together") == ended(500)
    assert ended(429, error("Too many"), provider="together") == (Outcome.REFUSED, True)


def test_flex_has_no_wait():
    """Flex tier is refused for lack of resources, not by a limit."""
    verdict = judge(429, {}, error("Resource Unavailable", "resource_unavailable"))
    assert (verdict.outcome, verdict.again, verdict.wait_us) == (Outcome.REFUSED, True, None)


@pytest.mark.parametrize(
    ("status", "name", "outcome"),
    [
        (429, "ThrottlingException", Outcome.REFUSED),
        (400, "ThrottlingException", Outcome.REFUSED),
        (400, "ServiceQuotaExceededException", Outcome.REFUSED),
        (429, "ModelNotReadyException", Outcome.REFUSED),
        (408, "ModelTimeoutException", Outcome.FAILED),
        (503, "ServiceUnavailableException", Outcome.FAILED),
        (400, "ValidationException", Outcome.REJECTED),
        (403, "AccessDeniedException", Outcome.DENIED),
        (400, "AccessDeniedException", Outcome.DENIED),
    ],
)
def test_bedrock_names_its_errors(status, name, outcome):
    """In the body or in a header, with a namespace or an address around it."""
    again = outcome in {Outcome.REFUSED, Outcome.FAILED}
    header = {"x-amzn-ErrorType": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    for body, headers in [({"__type": name, "message": "Too many tokens"}, {}),
                          ({"__type": f"com.amazon.coral#{name}", "Message": "No"}, {}),
                          ({"message": "No"}, header), (None, header)]:  # fmt: skip
        verdict = judge(status, headers, body, provider="bedrock")
        assert (verdict.outcome, verdict.code) == (outcome, name)
        assert (verdict.again, verdict.wait_us) == (again, None)


def test_the_provider_s_own_word_on_retries():
    """`x-should-retry` goes before the rule."""
    assert ended(500, headers={"X-Should-Retry": "false"}) == (Outcome.FAILED, False)
    assert ended(429, headers={"X-Should-Retry": "False"}) == (Outcome.REFUSED, False)
    assert ended(400, headers={"X-Should-Retry": "true"}) == (Outcome.REJECTED, True)
    assert ended(200, headers={"X-Should-Retry": "true"}) == (Outcome.SERVED, False)
    assert judge(429, {"x-should-retry": "false", "retry-after": "5"}).wait_us is None


def test_a_failure_may_ask_to_wait():
    """Of a 5xx `retry-after` is the least wait; of what is not tried again it is none."""
    for status in (408, 409, 503, 529):
        assert judge(status, {"retry-after": "3"}).wait_us == 3_000_000
    for status in (400, 401, 404):
        assert judge(status, {"retry-after": "3"}).wait_us is None


@given(st.integers(200, 299), st.sampled_from([OPENAI, ANTHROPIC, AZURE_EMPTY]))
def test_a_success_never_makes_anybody_wait(status, headers):
    """Anthropic sends `retry-after` with a 200 (36 recorded)."""
    verdict = judge(status, headers | {"retry-after": "7", "retry-after-ms": "7000"}, error("Hm"))
    assert (verdict.outcome, verdict.wait_us, verdict.again) == (Outcome.SERVED, None, False)
    assert (verdict.code, verdict.message, verdict.refused_by) == ("", "", None)
    assert verdict.seen


def test_an_error_is_told_to_people():
    """A code and a sentence, whatever the shape; words before numbers; never endless."""
    told = [
        (error("No.", "rate_limit_exceeded", "tokens"), "rate_limit_exceeded", "No."),
        (error("No.", None, "invalid_request_error"), "invalid_request_error", "No."),
        ({"object": "error", "message": "No.", "type": "rate_limited", "code": "1300"},
         "rate_limited", "No."),
        ({"code": "the caller lacks it", "error": "No."}, "the caller lacks it", "No."),
        ({"error": {"message": "No.", "code": 402}}, "402", "No."),
        ({"detail": "No."}, "http_400", "No."),
        (b'\xef\xbb\xbf {"error": {"message": "No."}}', "http_400", "No."),
        ("upstream timed out", "http_400", "upstream timed out"),
        ('{"error": ', "http_400", '{"error":'),
        ("<html>", "http_400", "The server answered 400."),
        (None, "http_400", "The server answered 400."),
        ([], "http_400", "The server answered 400."),
        (["no", {"error": {"message": "No."}}], "http_400", "No."),
        ({"error": {"message": ["no"], "code": 10**5000}}, "http_400", "The server answered 400."),
        (error("x" * 9_999, "y" * 999), "y" * 100, "x" * 2_000),
        ("z" * 9_999, "http_400", "z" * 2_000),
    ]  # fmt: skip
    for body, code, message in told:
        verdict = judge(400, {}, body)
        assert (verdict.status, verdict.code, verdict.message) == (400, code, message)


def test_headers_are_found_in_any_mapping():
    """A dict in any case, a read-only one, one of numbers, httpx's own: the same is read."""
    seen = judge(200, OPENAI).seen
    assert len(seen) == 2
    upper = {name.upper(): value for name, value in OPENAI.items()}
    raw = {name.encode(): value.encode() for name, value in OPENAI.items()}
    doubled = [*OPENAI.items(), ("x-ratelimit-limit-requests", "7")]
    for headers in (upper, raw, MappingProxyType(OPENAI), httpx2.Headers(OPENAI),
                    httpx2.Headers(doubled)):  # fmt: skip
        assert judge(200, headers).seen == seen
    numbers = {"x-ratelimit-limit-tokens": 5, "x-ratelimit-remaining-tokens": 3, 7: "7"}
    assert [(one.amount, one.remaining) for one in judge(200, numbers).seen] == [(5, 3)]


@pytest.mark.parametrize(
    ("when", "call"),
    [
        ("start", {"path": CHAT, "model": "gpt-5.6-sol"}),
        ("start", {"path": CHAT, "model": "gpt-5", "stream": True}),
        ("start", {"path": "/v1/embeddings", "model": "text-embedding-3-small"}),
        ("start", {"path": "/v1/completions", "model": "davinci-002"}),
        ("start", {"path": "/v1/responses", "model": "gpt-5", "stream": True}),
        ("start", {"path": "/v1/responses", "model": "gpt-4o", "stream": True}),
        ("end", {"path": "/v1/responses", "model": "gpt-5-nano"}),
        ("end", {"path": "/v1/responses", "model": "gpt-6-sol"}),
        ("end", {"path": "/v1/responses", "model": "ft:gpt-5.4:org::id"}),
        ("either", {"path": "/v1/responses", "model": "gpt-4o"}),
        ("either", {"path": "/v1/responses", "model": ""}),
        ("either", {"path": "/v1/images/generations", "model": "gpt-image-1"}),
        ("either", {"path": CHAT, "model": "gpt-4o", "provider": "azure"}),
        ("either", {}),
    ],
)
def test_when_levels_were_read(when, call):
    """As far as it was recorded, by provider, endpoint, stream and model."""
    assert judge(200, OPENAI, **call).when == when


def test_when_levels_were_read_of_others():
    """Mistral's are net of the call's cost; a call that failed came to no end."""
    mistral = {"x-ratelimit-limit-req-minute": "100", "x-ratelimit-remaining-req-minute": "97"}
    assert judge(200, mistral, path=CHAT).when == "end"
    assert judge(429, mistral, path=CHAT).when == "either"
    assert judge(400, OPENAI, path="/v1/responses", model="gpt-5").when == "either"
    assert judge(400, OPENAI, path=CHAT).when == "start"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("rate_limit_exceeded", Outcome.REFUSED),
        ("rate_limit_error", Outcome.REFUSED),
        ("429", Outcome.REFUSED),
        ("slow_down", Outcome.SLOW_DOWN),
        ("insufficient_quota", Outcome.DENIED),
        ("402", Outcome.DENIED),
        ("permission_error", Outcome.DENIED),
        ("overloaded_error", Outcome.FAILED),
        ("server_error", Outcome.FAILED),
        ("502", Outcome.FAILED),
        ("vector_store_timeout", Outcome.FAILED),
        ("unknown", Outcome.FAILED),
        ("invalid_prompt", Outcome.REJECTED),
        ("image_parse_error", Outcome.REJECTED),
        ("bio_policy", Outcome.REJECTED),
        ("context_length_exceeded", Outcome.REJECTED),
    ],
)
def test_an_error_inside_a_stream(code, outcome):
    """It has a code in the place of a status."""
    verdict = judge_stream_error(StreamError(code, "No."))
    assert (verdict.outcome, verdict.status, verdict.code) == (outcome, 200, code)
    assert verdict.again is (outcome in {Outcome.REFUSED, Outcome.SLOW_DOWN, Outcome.FAILED})


def test_a_stream_s_error_may_ask_to_wait():
    """Recorded: `response.failed` carries the headers of a refusal."""
    message = reached("tokens per min (TPM)", 500000, 461092, 200268, "19.363s")["error"]["message"]
    told = StreamError(
        "rate_limit_exceeded", message, {"retry-after": "20", "retry-after-ms": "19363"}
    )
    verdict = judge_stream_error(told, "openai")
    assert verdict.wait_us == 19_364_000
    assert verdict.refused_by is not None
    assert verdict.refused_by.remaining == 500_000 - 461_092


class Silent(Exception):
    """An exception that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError


def test_no_answer_is_a_failure_that_may_pass():
    """Its code is the exception's name; what the exception cannot say is left out."""
    assert no_answer(TimeoutError("slow")) == Verdict(
        Outcome.FAILED, 0, "TimeoutError", "slow", again=True
    )
    assert no_answer(Silent()) == Verdict(Outcome.FAILED, 0, "Silent", again=True)
    assert len(no_answer(ValueError("x" * 9_999)).message) == 2_000
