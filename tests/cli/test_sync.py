"""`limiter quota sync` as a user runs it: over real HTTP, into a real store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from limiter import ConfigError, Limiter, Quota, cli
from limiter.cli.project import limits
from tests import servers
from tests.cli import admin
from tests.cli.admin import KEY, PROJECT, Admin, entry
from tests.cli.home import ROOT

Sync = Callable[..., int]

TOML = """
[quotas.gpt-4o]
rpm = 1
models = ["gpt-4o-2*"]
concurrency = 9
burst = 2.0
tenants = {search = 2.0}
[quotas.gpt-4o.priorities.batch]
level = -10
share = 0.5
"""


@pytest.fixture(scope="module")
def any_store() -> Iterator[str]:
    """Run a store of this module's own, since the command looks at all that is in it."""
    with servers.server(servers.binaries()["valkey"]) as url:
        yield url


@pytest.fixture
def store(any_store: str) -> str:
    """Empty the store."""
    with redis.Redis.from_url(any_store) as client:
        client.flushall()
    return any_store


@pytest.fixture
def server() -> Iterator[Admin]:
    with admin.running() as running:
        running.entries = [
            entry("gpt-4o", rpm=500, tpm=30_000, rpd=10_000, max_audio_megabytes_per_1_minute=4),
            entry("gpt-4o-2024-08-06", rpm=400, tpm=40_000),
            entry("whisper-1", rpm=50, tpm=0),
            entry("nothing", rpm=0, tpm=0),
        ]
        yield running


@pytest.fixture
def sync(store: str, server: Admin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sync:
    """Run the command in a directory that has nothing but what the test puts there."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "LIMITER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)

    def run(*more: str, url: str = store, project: str = PROJECT) -> int:
        return cli.main(["quota", "sync", "--project", project, "--url", url,
                         "--base-url", server.base_url, *more])  # fmt: skip

    return run


def stored(url: str) -> dict[str, tuple[bool, dict[str, int]]]:
    """Return what the store has: whether it is central, and the limits."""
    with Limiter(url) as limiter:
        return {
            each.quota.name: (
                each.central,
                {limit.label: limit.amount for limit in each.quota.limits},
            )
            for each in limiter.declarations()
        }


def test_a_quota_gets_the_projects_numbers_and_keeps_the_rest(
    sync: Sync, store: str, tmp_path: Path
) -> None:
    """A quota of the file is declared centrally with all that it says but its numbers."""
    (tmp_path / "limiter.toml").write_text(TOML)
    assert sync() == 0
    assert stored(store) == {"gpt-4o": (True, {
        "requests/minute": 400, "concurrency": 9, "tokens/minute": 30_000, "requests/day": 10_000,
    })}  # fmt: skip
    with Limiter(store) as limiter:
        quota = limiter.get_quota("gpt-4o")
    assert quota.models == ("gpt-4o-2*",)
    assert dict(quota.tenants) == {"search": 2.0}
    assert [(each.name, each.share) for each in quota.priorities] == [("batch", 0.5)]
    assert [each.burst for each in quota.limits] == [2.0, "full", 2.0, "full"]


def test_programs_follow_at_once(sync: Sync, store: str) -> None:
    """A process that runs already has the project's numbers with its next call."""
    with Limiter(store, quotas=[Quota("gpt-4o", rpm=1, headroom=0)]) as limiter:
        limiter.acquire("gpt-4o").settle()
        assert sync() == 0
        for _ in range(20):
            limiter.acquire("gpt-4o", timeout=5).settle()
        assert limiter.peek("gpt-4o").limits["requests/minute"].limit.amount == 400


def test_the_table_tells_every_change(
    sync: Sync, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each limit of each quota, old and new; then who was left out, and why."""
    with Limiter(store, quotas=[Quota("gpt-4o", rpm=60, tpm=30_000, concurrency=3)]) as limiter:
        limiter.peek("gpt-4o")
    assert sync("--all") == 0
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        "model quota limit old new",
        "gpt-4o-2024-08-06 gpt-4o requests/minute 60 → 400 declared, the smallest of 2 models",
        "gpt-4o gpt-4o tokens/minute 30,000 → 30,000 declared, the smallest of 2 models",
        "gpt-4o gpt-4o requests/day - → 10,000 declared, the smallest of 2 models",
        "whisper-1 whisper-1 requests/minute - → 50 declared",
        "nothing left out: the project limits neither its requests nor its tokens or images",
    ]
    assert sync() == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("  ")[-1] for row in rows[1:4]] == ["unchanged, the smallest of 2 models"] * 3
    assert rows[-1] == "Left out, no quota is for them (name them, or --all): nothing"


def test_columns_line_up(sync: Sync, capsys: pytest.CaptureFixture[str]) -> None:
    """The arrow stands in one column, numbers end before it."""
    sync("--all")
    rows = capsys.readouterr().out.splitlines()
    assert len({row.index("→") for row in rows if "→" in row}) == 1
    assert not [row for row in rows if row != row.rstrip()]


def test_a_second_run_changes_nothing(sync: Sync, store: str) -> None:
    """What is declared already is left alone, to its version."""
    assert sync("--all") == 0
    with redis.Redis.from_url(store) as client:
        keys = sorted(client.scan_iter("*"))
        before = [client.hgetall(key) for key in keys]
        assert sync("--all") == 0
        assert [client.hgetall(key) for key in sorted(client.scan_iter("*"))] == before
        assert len(before) == 3


def test_a_dry_run_changes_nothing(
    sync: Sync, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what would be done."""
    assert sync("--all", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {each["outcome"] for each in told["quotas"]} == {"would be declared"}
    assert stored(store) == {}


def test_json_tells_the_same(sync: Sync, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, with every model in it."""
    assert sync("gpt-4o", "nothing", "--json") == 1
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "project": PROJECT,
        "dry_run": False,
        "quotas": [{
            "quota": "gpt-4o", "group": None, "models": ["gpt-4o"], "outcome": "declared",
            "limits": [
                {"limit": "requests/minute", "model": "gpt-4o", "old": None, "new": 500},
                {"limit": "tokens/minute", "model": "gpt-4o", "old": None, "new": 30_000},
                {"limit": "requests/day", "model": "gpt-4o", "old": None, "new": 10_000},
            ],
        }],
        "left_out": [{
            "model": "nothing",
            "why": "the project limits neither its requests nor its tokens or images",
        }],
    }  # fmt: skip


def test_a_group_is_declared_whole(
    sync: Sync, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs that name a quota beside the one of the model find it in the group."""
    file = '[quotas.org]\ntpm = 90\ngroup = "acme"\n[quotas.gpt-4o]\nrpm = 1\ngroup = "acme"\n'
    (tmp_path / "my.toml").write_text(file)
    assert sync("--quota", "my.toml", "gpt-4o") == 0
    quotas = [Quota(each, rpm=1, group="acme") for each in ("org", "gpt-4o")]
    with Limiter(store, quotas=quotas) as limiter:
        limiter.acquire(["org", "gpt-4o"], tokens=80).settle()
        assert limiter.peek("gpt-4o").limits["tokens/minute"].limit.amount == 30_000
    assert "declared, with its group" in capsys.readouterr().out


def test_all_pages_are_read(sync: Sync, store: str, server: Admin) -> None:
    """A list of three pages is read to its end, each page once."""
    server.entries = [entry(f"m{i}", rpm=i + 1) for i in range(25)]
    server.page = 10
    assert sync("--all") == 0
    assert server.asked == [
        {"limit": "100"}, {"limit": "100", "after": "rl-m9"}, {"limit": "100", "after": "rl-m19"}
    ]  # fmt: skip
    amounts = {name: limits for name, (_, limits) in stored(store).items()}
    assert amounts == {f"m{i}": {"requests/minute": i + 1} for i in range(25)}


def test_numbers_as_text_are_none(sync: Sync, server: Admin, store: str) -> None:
    """A field of another type than is documented counts as missing, and warns nobody."""
    server.entries = [entry("m", rpm="500", tpm=70)]
    assert sync("m") == 0
    assert stored(store) == {"m": (True, {"tokens/minute": 70})}


def refusal(status: int, message: str = "not for you") -> tuple[int, str, str]:
    return status, "application/json", json.dumps({"error": {"message": message}})


def page(*entries: dict[str, object]) -> tuple[int, str, str]:
    return 200, "application/json", json.dumps({"data": entries, "has_more": False})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401), r"answered 401 \(not for you\)\. OPENAI_ADMIN_KEY must be an admin key"),
        (refusal(403), r"answered 403 \(not for you\)\. OPENAI_ADMIN_KEY must be an admin key"),
        (refusal(404), "Check the project's id, 'proj_abc'"),
        (refusal(429), "Try again later"),
        (refusal(503), "Try again later"),
        (refusal(400), "Check --project and --base-url"),
        ((502, "text/html", "<h1>oh</h1>"), r"answered 502 \(Bad Gateway\)"),
        ((200, "text/html", "<h1>hello</h1>"), "no list of a project's limits"),
        ((200, "application/json", "{"), "no list of a project's limits"),
        ((200, "application/json", "[1]"), "no list of a project's limits"),
        ((200, "application/json", "{}"), "no list of a project's limits"),
        ((200, "application/json", '{"data": [1]}'), "no list of a project's limits"),
        (page({"id": "m", "object": "model"}), "no list of a project's limits"),
        (page(entry("gpt-4o", rpm=5), {"id": "m", "object": "model"}), "no list of"),
    ],
)
def test_what_cannot_be_read_changes_nothing(
    sync: Sync, store: str, server: Admin, capsys: pytest.CaptureFixture[str],
    answer: tuple[int, str, str], words: str,
) -> None:  # fmt: skip
    """Each refusal, and each answer that is none, says what to do; the exit status is 1."""
    server.answer = answer
    assert sync("--all") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("limiter: ")
    assert re.search(words, err)
    assert KEY not in err
    assert stored(store) == {}


def test_a_list_that_does_not_end(sync: Sync, server: Admin) -> None:
    """A server that tells its first page again and again is not asked for ever."""
    server.repeats_itself = True
    assert sync("--all") == 1
    assert len(server.asked) == 2


def test_who_does_not_answer(sync: Sync, server: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a provider nor a store that is away is taken for an empty one."""
    assert sync("--all", url="unix:///nowhere/at/all") == 1
    assert "Redis is away" in capsys.readouterr().err
    assert sync("--all", "--base-url", f"http://127.0.0.1:{servers.free_port()}/v1") == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_the_key_is_the_admins(
    sync: Sync, server: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key for other calls is not used, a line's end is no part of it, a wrong one is not shown."""
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", f"{KEY}\n")
    assert sync("gpt-4o") == 0
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "another-key")
    assert sync("gpt-4o") == 1
    assert "another-key" not in "".join(capsys.readouterr())


def test_the_key_goes_to_no_address_of_other_calls(
    monkeypatch: pytest.MonkeyPatch, server: Admin
) -> None:
    """Without --base-url it is OpenAI that is asked, whatever OPENAI_BASE_URL says."""
    asked = []

    class Client:
        def __init__(self, *, base_url: str, **others: object) -> None:
            asked.append(base_url)
            raise TypeError

    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setattr("openai.OpenAI", Client)
    with pytest.raises(ConfigError, match=r"has no admin API: pip install 'openai>=2\.34'"):
        limits(PROJECT)
    assert asked == ["https://api.openai.com/v1"]


def test_wrong_usage(
    sync: Sync, server: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is typed wrong is said before anything is changed; the exit status is 2."""
    assert sync("gpt-4o", "gpt-5") == 2
    assert "no limits for a model 'gpt-5'" in capsys.readouterr().err
    before = len(server.asked)
    for project in ("", "my project", "../other"):
        assert sync(project=project) == 2
        assert "--project is a project's id" in capsys.readouterr().err
    assert sync("--base-url", "localhost") == 2
    assert "--base-url is written" in capsys.readouterr().err
    assert sync(url="memory://x") == 2
    assert "memory:// ends with this process" in capsys.readouterr().err
    for key, words in (
        ("", "is not set"),
        (" ", "is not set"),
        ("a b", "in no key"),
        ("ä", "in no"),
    ):
        monkeypatch.setenv("OPENAI_ADMIN_KEY", key)
        assert sync() == 2
        assert words in capsys.readouterr().err
    assert len(server.asked) == before


def test_another_project_is_not_found(sync: Sync, capsys: pytest.CaptureFixture[str]) -> None:
    """The id that was typed is in the message."""
    assert sync(project="proj_other") == 1
    assert "Check the project's id, 'proj_other'" in capsys.readouterr().err


def test_as_a_command(sync: Sync, store: str, server: Admin, tmp_path: Path) -> None:
    """It runs by itself, with the store of a variable before that of the file, and is silent."""
    (tmp_path / "limiter.toml").write_text('url = "unix:///nowhere/at/all"')
    env = {**os.environ, "LIMITER_URL": store, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "limiter", "quota", "sync", "gpt-4o", "--project", PROJECT,
               "--base-url", server.base_url]  # fmt: skip
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("declared") == 3
    assert stored(store)["gpt-4o"][0]
