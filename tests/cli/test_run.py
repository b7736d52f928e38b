"""`limiter run` as a user meets it: real processes, real HTTP, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from limiter.mock import MockConfig
from tests.cli.home import Home


def test_every_line_once(home: Home) -> None:
    """Batch lines and plain ones end once each, in OpenAI's output format; the exit is 0."""
    plain = ['{"messages": [{"role": "user", "content": "plain"}]}', ""]
    home.write(*home.requests(30), *plain)
    done = home.run("--model", "m", "--processes", "2")
    assert done.returncode == 0, done.stderr
    results = home.results()
    assert len({each["custom_id"] for each in results}) == len(results) == 31
    for each in results:
        assert each["response"]["status_code"] == 200
        assert each["error"] is None
        assert each["response"]["body"]["usage"]["total_tokens"] > 0
    again = home.run("--model", "m", "--processes", "2")
    assert (again.returncode, len(home.results())) == (0, 31)
    assert home.server.stats()["accepted"] == 31


SLOW = MockConfig(rpm=10**6, tpm=10**9, latency_s=0.15)


@pytest.mark.parametrize("home", [SLOW], indirect=True)
@pytest.mark.parametrize("victim", ["parent", "worker", "interrupted"])
def test_killed_at_any_moment(home: Home, victim: str) -> None:
    """kill -9 of the parent or of a worker, or Ctrl-C: after a rerun each line is there once."""
    home.write(*home.requests(120))
    first = home.start("--processes", "4", "--concurrency", "4")
    home.wait_for_results(20)
    children = home.workers(first)
    assert len(children) == 4
    if victim == "parent":
        first.kill()
    elif victim == "interrupted":
        first.send_signal(signal.SIGINT)
    else:
        os.kill(children[0], signal.SIGKILL)
    _, said = first.communicate(timeout=60)
    if victim == "worker":
        assert first.returncode == 0, said
    elif victim == "interrupted":
        assert first.returncode == 130
        assert "run it again" in said or "again" in said
    home.wait_for_the_end_of(children)
    done = home.run("--processes", "4", "--concurrency", "4")
    assert done.returncode == 0, done.stderr
    counts = Counter(each["custom_id"] for each in home.results())
    assert counts == Counter({f"r{i}": 1 for i in range(120)})


def test_a_torn_line_is_cut_off(home: Home) -> None:
    """Half a line at the end of the results, from a power cut, is removed and done again."""
    home.write(*home.requests(3))
    assert home.run().returncode == 0
    path = home.path / "out.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    done = home.run()
    assert done.returncode == 0
    assert "cut off" in done.stderr
    assert sorted(each["custom_id"] for each in home.results()) == ["r0", "r1", "r2"]


def test_a_bad_line_does_not_stop_the_rest(home: Home) -> None:
    """Malformed lines and repeated ids are reported with file:line; the others are done; exit 1."""
    lines = home.requests(3)
    home.write(lines[0], "{not json", lines[1], lines[0], '{"custom_id": "x"}', lines[2])
    done = home.run()
    assert done.returncode == 1
    for number in (2, 4, 5):
        assert f"in.jsonl:{number} " in done.stderr
    assert sorted(each["custom_id"] for each in home.results()) == ["r0", "r1", "r2"]


@pytest.mark.parametrize("home", [MockConfig(rpm=10**6, tpm=10**9, error_rate=0.3)], indirect=True)
def test_failures_are_tried_again(home: Home) -> None:
    """What fails is retried; what fails for good is told, kept apart, and done by the next run."""
    home.write(*home.requests(40))
    done = home.run("--max-retries", "0")
    assert done.returncode == 1
    assert 0 < len(home.results()) < 40
    again = home.run("--max-retries", "20")
    assert again.returncode == 0, again.stderr
    counts = Counter(each["custom_id"] for each in home.results())
    assert counts == Counter({f"r{i}": 1 for i in range(40)})


@pytest.mark.parametrize("home", [MockConfig(rpm=120, tpm=10**9, period_s=6.0)], indirect=True)
def test_the_quota_is_kept_by_all_processes(home: Home) -> None:
    """Four processes share one quota: a provider that enforces it refuses nobody."""
    (home.path / "limiter.toml").write_text(
        '[quotas.m]\nlimits = [{dimension = "requests", amount = 120, per = 6.0}]\n'
    )
    home.write(*home.requests(160))
    done = home.run("--quota", "limiter.toml", "--processes", "4", limits=())
    assert done.returncode == 0, done.stderr
    stats = home.server.stats()
    assert (stats["accepted"], stats["refused"]) == (160, 0)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--rpm", "0"), "whole number"),
        (("--rpm", "5", "--burst", "soft"), "full, smooth, or seconds"),
        (("--rpm", "5", "--rule", "magic"), "use one of admission"),
        (("--rpm", "5", "--base-url", "here"), "--base-url is written"),
        (("--burst", "smooth"), "--burst goes with"),
    ],
)
def test_wrong_usage_says_what_to_write(home: Home, more: tuple[str, ...], says: str) -> None:
    """Wrong arguments end at once with status 2 and what to write instead."""
    home.write(*home.requests(1))
    done = home.run(*more, limits=())
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert home.server.stats()["accepted"] == 0


def test_a_mistyped_command_says_so(home: Home) -> None:
    """What does not exist is named, without a traceback: commands, options, files."""
    for typed, says in (
        (["frobnicate"], "No such command"),
        (["run", "in.jsonl", "-o", "x", "--rmp", "5"], "No such option"),
        (["run", "nothing.jsonl", "-o", "x", "--rpm", "5"], "nothing.jsonl: cannot be read"),
    ):
        command = [sys.executable, "-m", "limiter", *typed]
        done = subprocess.run(command, cwd=home.path, env=home.env, text=True, capture_output=True,
                              timeout=60, check=False)  # fmt: skip
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert says in done.stderr


def test_a_second_run_on_the_same_results_is_refused(home: Home) -> None:
    """Two runs never write into one file."""
    home.write(*home.requests(400))
    first = home.start(
        "--concurrency", "1", "--processes", "1", limits=("--rpm", "600", "--burst", "1")
    )
    home.wait_for_results(1)
    second = home.run()
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "out.jsonl" in second.stderr


def test_status_shows_every_quota(home: Home) -> None:
    """`limiter status` shows levels, the line and what is held, for people and for programs."""
    home.write(*home.requests(3))
    assert home.run("--processes", "1").returncode == 0
    command = [sys.executable, "-m", "limiter", "status"]
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], cwd=home.path, env=home.env, text=True,
                              capture_output=True, timeout=60, check=True)  # fmt: skip
        assert "requests/minute" in done.stdout
    found = json.loads(done.stdout)
    assert (found[0]["waiting"], found[0]["held"]) == (0, 0)
