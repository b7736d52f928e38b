"""Recorded exchanges are read without exception, and what they tell agrees with the formulas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.recorded import Survey, survey, table
from tests.providers.test_recorded import exchange, recordings


def reset(reset: str, remaining: str = "9998", limit: str = "10000", **more: Any) -> dict[str, Any]:
    """Make an exchange that tells one limit of requests."""
    row = exchange("/v1/responses", "gpt-4o", 0, 0, **more)
    told = {"limit": limit, "remaining": remaining, "reset": reset}
    row["headers"] = {f"x-ratelimit-{part}-requests": text for part, text in told.items()}
    return row


@pytest.fixture(scope="module")
def found() -> Survey:
    return survey(recordings())


def test_every_recorded_exchange_is_parsed(found: Survey) -> None:
    """Each limit that a recorded header tells is read, and no header is odd."""
    assert (found.parsed, found.odd) == (found.exchanges, 0)
    assert found.exchanges == len(recordings())


def test_every_recorded_chat_took_its_estimate(found: Survey) -> None:
    """Each of OpenAI's chat completions since 2025-04 took it, give or take 2 tokens."""
    assert found.chats_near == found.chats > 0


def test_recorded_resets_are_those_of_buckets(found: Survey) -> None:
    """OpenAI's and Groq's agree with used / amount x period, within 1 ms and the unit rounded by."""
    assert found.resets_near >= 0.99 * found.resets
    assert all("no" not in provider.buckets for provider in found.providers.values())


def test_the_recorded_table_has_a_line_for_each_provider(found: Survey) -> None:
    """And it says how many exchanges and limits there were."""
    lines = table(found).splitlines()
    for name, provider in found.providers.items():
        (line,) = (line for line in lines if line.startswith(name))
        assert line.split()[1:3] == [str(provider.exchanges), str(provider.limits)]


def test_a_reset_that_is_off_is_counted() -> None:
    """Two used of 10,000 are 12 ms, or down to 6 ms, as one of them may be refilled already."""
    near = survey([reset("12ms"), reset("6ms")])
    assert (near.resets, near.resets_near, near.resets_plain) == (2, 2, 1)
    off = survey([reset("18ms"), reset("43s", remaining="5000")])
    assert (off.resets, off.resets_near) == (2, 0)


def test_a_chat_that_is_off_is_counted() -> None:
    """Thirty bytes in one message are ten tokens."""
    rows = [exchange("/v1/chat/completions", "gpt-4o", 30, used) for used in (8, 12, 13)]
    assert (survey(rows).chats, survey(rows).chats_near) == (3, 2)


def test_an_odd_header_is_counted() -> None:
    """An exchange with one is not parsed."""
    found = survey([reset("6ms"), reset("6ms", limit="many")])
    assert (found.parsed, found.exchanges, found.odd) == (1, 2, 1)


def test_the_figures_are_met_or_not() -> None:
    """Every one of them has to be, and nothing proves nothing."""
    good = Survey(9, 9, 0, 5, 5, 200, 198, 0)
    assert good.met
    bad = [{"parsed": 8}, {"odd": 1}, {"chats_near": 4}, {"resets_near": 197}, {"resets": 0},
           {"chats": 0, "chats_near": 0}]  # fmt: skip
    assert not any(replace(good, **change).met for change in bad)
    assert not Survey().met
