"""A profile of a user's own goes wherever a provider's name does."""

from __future__ import annotations

import inspect
import textwrap

import pytest

from limiter import ConfigError, Limiter, estimate, rate_limited
from limiter.providers import Accounting, AzurePTU, Bedrock, Usage, profile

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "x" * 100}]}
GIVEN = 25 + 4 + 3


def of_the_docstring():
    """Run the example, and return what it made."""
    text = inspect.cleandoc(Accounting.__doc__).split("\n\n", 1)[1].split("\n\nAttributes:")[0]
    code = textwrap.dedent(text).replace("Limiter(", 'Limiter("memory://own", ', 1)
    made = {}
    exec(compile(code, "docstring", "exec"), made)
    made["limiter"].close()
    return made


def test_the_example_of_the_docstring_does_what_it_says():
    """Ten lines: an output token counts three times, and cached input not at all."""
    made = of_the_docstring()
    acme = made["Acme"]()
    assert estimate(CHAT, ASK, provider=acme) == {"requests": 1, "tokens": GIVEN + 3 * 256}
    before = acme.estimate(CHAT, ASK, output_tokens=10)
    assert before["tokens"] == GIVEN + 30
    used = acme.usage(
        {"usage": {"input_tokens": 50, "cache_read_input_tokens": 40, "output_tokens": 7}}
    )
    assert acme.settled(CHAT, before, used)["tokens"] == 50 + 21
    assert acme.output_counts(CHAT, ASK, "admission")
    assert made["http"]._transport.rules.provider == acme


class Slow(Accounting):
    name = "slow"
    cached_is_free = True
    longest_under = ("admission",)
    longest_tokens = 400


def test_attributes_are_enough_for_most():
    """Without a method of its own, a class says what it does otherwise by its attributes."""
    slow = Slow()
    assert slow.estimate(CHAT, ASK)["tokens"] == GIVEN + 400
    assert slow.estimate(CHAT, {**ASK, "max_tokens": 30, "n": 2})["tokens"] == GIVEN + 60
    assert slow.estimate(CHAT, ASK, rule="documented")["tokens"] == GIVEN + 256
    settled = slow.settled(CHAT, slow.estimate(CHAT, ASK), Usage(50, 7, 57, 40))
    assert settled == {"requests": 1, "tokens": 17, "input_tokens": 10, "output_tokens": 7}


class Odd(Accounting):
    def counted(self, given, cached, written, model):
        return {"tokens": -5, "microdollars": 0.3 * given, "model_m": 10.0**30 * (model == "m")}


def test_what_a_profile_counts_is_made_fit_for_a_limit():
    """Fractions are rounded up, nothing is negative or above what a limit can hold."""
    cost = Odd().estimate(CHAT, {**ASK, "model": "m"})
    assert cost == {"requests": 1, "tokens": 0, "microdollars": 10, "model_m": 2**50}
    after = Odd().settled(CHAT, cost, Usage(11, 1), body={"model": "other"})
    assert after == {"requests": 1, "tokens": 0, "microdollars": 4, "model_m": 0}
    assert Odd().settled(CHAT, cost, Usage(total_tokens=9))["tokens"] == 0


class Own:
    """Have the methods and inherit nothing."""

    name = "own"

    def estimate(self, path, body, *, rule="admission", output_tokens=None):
        return {"gpu_seconds": 7}

    def settled(self, path, estimate, usage, *, rule="admission", body=None):
        return {"gpu_seconds": 3}

    def failure(self, status, estimate):
        return dict(estimate)

    def usage(self, payload):
        return None

    def output_counts(self, path, body, rule):
        return False


def test_any_object_with_the_methods_is_a_profile():
    """It need not inherit: `profile()` hands it through as it is."""
    own = Own()
    assert profile(own) is own
    assert estimate(CHAT, ASK, provider=own) == {"gpu_seconds": 7}


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        (Slow, r"Slow is a class: write provider=Slow\(\)"),
        (Own, r"Own is a class: write provider=Own\(\)"),
        (7, "lacks name, estimate, settled, failure, usage, output_counts"),
        ([], "Inherit from limiter.providers.Accounting"),
        (None, "provider= is one of openai, azure, "),
        ("Slow", "There is no provider 'Slow'"),
    ],
)
def test_what_is_no_profile_is_refused_with_what_to_write(provider, message):
    """Wherever a provider is given: a class instead of an object, anything else, a wrong name."""
    with Limiter("memory://own") as limiter:
        for use in (profile, lambda p: estimate(CHAT, ASK, provider=p),
                    lambda p: rate_limited("q", provider=p)(len)):  # fmt: skip
            with pytest.raises(ConfigError, match=message):
                use(provider)
        if provider is not None:  # there it means: by the URL
            with pytest.raises(ConfigError, match=message):
                limiter.http_client(provider=provider)


def test_profiles_of_the_same_settings_are_equal():
    """So a client may be limited again with the same ones; others are others, and say which."""
    assert Slow() == Slow()
    assert AzurePTU(4) == AzurePTU(4.0)
    assert AzurePTU(4) != AzurePTU(8)
    assert Bedrock() != AzurePTU()
    assert len({Slow(), Slow(), AzurePTU(4), AzurePTU(4)}) == 2
    assert repr(AzurePTU(4)) == "AzurePTU(output_weight=4.0)"
