"""`limiter cache …` and `limiter run --cache`: what was answered is not asked again, and it is told."""

from __future__ import annotations

import json

import pytest

from limiter.cache import Cache
from limiter.cli import main
from tests.cli.home import Home


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def place(url: str) -> str:
    """The URL of a store with nothing in it but three answers of two namespaces."""
    where = f"{url}?db=7"
    for namespace, texts in (("one", ("a", "b")), ("two", ("c",))):
        with Cache(where, namespace=namespace) as cache:
            for text in texts:
                question = cache.settings.question(
                    "POST", "http://api/v1/chat/completions", "/v1/chat/completions", {},
                    {"model": "m", "messages": [{"role": "user", "content": text}]},
                )  # fmt: skip
                _, flight = cache.look(question, lambda entry: entry)
                cache.fill(flight, "json", json.dumps({"said": text}).encode(), tokens=10)
                cache.look(question, lambda entry: entry)
    yield where
    with Cache(where) as cache:
        cache.clear()
        cache.clear_stats()


def test_what_the_cache_has_done_is_told(place, capsys):
    """For people, and as one line of JSON."""
    code, out, _ = run(capsys, "cache", "stats", "--url", place)
    assert code == 0
    assert out.startswith("3 answers, ")
    assert "6 questions: 3 hits, 0 joined another call, 0 stale, 3 misses (50.0% without" in out
    assert "saved: 3 requests, 30 tokens" in out
    told = json.loads(run(capsys, "cache", "stats", "--url", place, "--json")[1])
    assert (told["hits"], told["requests_saved"], told["answers"]) == (3, 3, 3)


def test_answers_are_listed_and_shown(place, capsys):
    """A list has no words of them; one of them is shown whole where it is asked for."""
    code, out, _ = run(capsys, "cache", "show", "--url", place)
    assert code == 0
    assert out.count("json") == 3
    assert "said" not in out
    keys = [
        json.loads(each)["key"]
        for each in run(capsys, "cache", "show", "--url", place, "--json")[1].splitlines()
    ]
    assert len(keys) == 3
    digest = keys[0].partition(":")[2]
    code, out, _ = run(capsys, "cache", "show", digest[:10], "--url", place)
    assert code == 0
    assert '"said"' in out
    code, _, err = run(capsys, "cache", "show", "no-such", "--url", place)
    assert code == 2
    assert "no-such" in err


def test_answers_are_deleted(place, capsys):
    """All of them, or a namespace's; the counts where that is asked for."""
    assert "1 answers" in run(capsys, "cache", "clear", "--namespace", "two", "--url", place)[1]
    assert "2 answers" in run(capsys, "cache", "clear", "--stats", "--url", place)[1]
    told = json.loads(run(capsys, "cache", "stats", "--url", place, "--json")[1])
    assert (told["answers"], told["hits"]) == (0, 0)


def test_a_store_that_is_away_is_an_error_here(capsys):
    """Who looks at the cache wants to know; calls do not."""
    code, _, err = run(capsys, "cache", "stats", "--url", "redis://127.0.0.1:1/0")
    assert code == 1
    assert "Redis is away" in err


def test_a_second_run_asks_nothing(home: Home, url: str) -> None:
    """The same lines into another file: no request, the same answers, and it says so."""
    own = ("--cache-url", f"{url}?db=8", "--processes", "2")
    with Cache(f"{url}?db=8") as cache:
        cache.clear()
    home.write(*home.requests(20))
    assert home.run(*own).returncode == 0
    accepted, first = home.server.stats()["accepted"], {r["custom_id"]: r for r in home.results()}
    (home.path / "out.jsonl").unlink()
    again = home.run(*own)
    assert again.returncode == 0
    assert "20 from the cache" in again.stderr
    assert home.server.stats()["accepted"] == accepted
    body = lambda each: each["response"]["body"]
    assert all(body(r) == body(first[r["custom_id"]]) for r in home.results())


def test_a_run_s_cache_is_checked_before_it_starts(home: Home) -> None:
    """A wrong URL is an error of the command, not of each line."""
    home.write(*home.requests(1))
    done = home.run("--cache-url", "localhost:6379")
    assert done.returncode == 2
    assert "redis://" in done.stderr
    assert home.server.stats()["accepted"] == 0
