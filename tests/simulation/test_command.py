"""`limiter simulate` as it is typed: table, JSON, picture, and what is said of wrong usage."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import limiter
from limiter.cli import main
from limiter.shells import embedded
from limiter.simulation import plot
from tests.simulation import traces

ROOT = Path(limiter.__file__).parent.parent
MIX = ("--priority-mix", "interactive=0.3,batch=0.7")


@pytest.fixture
def small(tmp_path: Path) -> str:
    """Write sixty calls, one a second, of 100 tokens each."""
    rows = [f"{second},80,20" for second in range(60)]
    return str(traces.write(tmp_path, "at_s,input_tokens,output_tokens", *rows))


Simulate = Callable[..., dict]


@pytest.fixture
def simulate(url: str, capsys: pytest.CaptureFixture[str]) -> Simulate:
    def run(*arguments: str, server: tuple[str, ...] = ("--url", url)) -> dict:
        assert main(["simulate", *arguments, "--json", *server]) == 0
        found: dict = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the embedded server a directory of its own; a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="lim-", dir="/tmp"))
    monkeypatch.setenv("LIMITER_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "1")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_json_says_who_waited_how_long(small: str, simulate: Simulate) -> None:
    """Thirty calls fit at once, then one in two seconds: the n-th of the others waits n seconds."""
    found = simulate(small, "--rpm", "30", "--tokens-per-s", "40")
    assert found["trace"]["per_minute"]["requests"] == pytest.approx(60 * 60 / 59)
    (run,) = found["runs"]
    assert run["limits"]["requests/minute"]["amount"] == 30
    total = run["total"]
    assert (total["calls"], total["granted"], total["timed_out"], total["refused"]) == (
        60,
        60,
        0,
        0,
    )
    assert run["priorities"] == {"default": total}
    assert total["wait_s"]["p50"] == 0
    # 29 at once (headroom) and one more each 2 s from the start on: the last is granted at 62 s.
    assert total["wait_s"]["max"] == 3.0
    assert total["longest_line"] == 2
    assert run["limits"]["requests/minute"]["used"] == 1.0
    assert run["makespan_s"] == 62 + 0.5 + 20 / 40


def test_the_model_says_the_same(
    tmp_path: Path, simulate: Simulate, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both engines print the same; without a server the model stands in, and says so."""
    path = traces.azure(tmp_path)
    head = traces.write(tmp_path, *path.read_text().splitlines()[:400])
    options = (str(head), "--load", "0.5,1", *MIX, "--estimate", "factor:2", "--tenants", "3",
               "--timeout", "5", "--concurrency", "40", "--burst", "20")  # fmt: skip
    found = simulate(*options)
    assert found == simulate(*options, "--engine", "model", server=())
    assert [run["title"] for run in found["runs"]] == [
        "quota = 0.5 × mean load",
        "quota = 1 × mean load",
    ]
    assert found["runs"][0]["total"]["timed_out"] > 0
    assert main(["simulate", *options, "--json", "--url", "memory://"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == found
    assert "the reference model does the same in its place" in said.err


def test_nothing_is_left_on_the_server(small: str, simulate: Simulate, url: str) -> None:
    """The keys of a simulation are its own, and are deleted."""
    with redis.Redis.from_url(url) as client:
        before = set(client.keys("*"))
        simulate(small, "--rpm", "30")
        assert set(client.keys("*")) == before


def test_the_embedded_server_is_the_default(
    small: str, simulate: Simulate, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --url the script runs on the embedded server, wherever LIMITER_URL points."""
    monkeypatch.setenv("LIMITER_URL", "redis://127.0.0.1:1")
    simulate(small, "--rpm", "30", server=())
    assert runtime in [path.parent for path in runtime.glob("*.sock*")]
    embedded.leave()


def test_the_table_has_a_column_for_each_load(
    small: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table shows priorities, limits and their use, side by side for each quota."""
    assert main(["simulate", small, "--load", "0.2,1.5", *MIX, "--url", url, "--timeout", "3"]) == 0
    said = capsys.readouterr().out
    assert "trace.csv: 60 calls in 0:59, on average 61 requests/minute" in said
    lines = {line.split("  ")[0]: line.split() for line in said.splitlines()}
    assert lines["requests/minute"][1:] == ["12", "92"]
    assert int(lines["interactive: calls"][2]) + int(lines["batch: calls"][2]) == 60
    assert lines["all calls: calls"][3:] == ["60", "60"]
    assert lines["used of requests/minute"][-1] == "-"
    assert "timed out" in said


def test_a_file_gives_quota_and_name(small: str, simulate: Simulate, tmp_path: Path) -> None:
    """A quota of a limiter.toml is replayed, chosen by name, and scaled."""
    file = tmp_path / "limiter.toml"
    file.write_text("[quotas.a]\nrpm = 30\n[quotas.b]\nrpm = 60\nconcurrency = 5\n")
    found = simulate(small, "--quota", str(file), "--name", "b", "--scale", "0.5,2")
    amounts = [{label: each["amount"] for label, each in run["limits"].items()}
               for run in found["runs"]]  # fmt: skip
    assert amounts == [{"requests/minute": 30, "concurrency": 5},
                       {"requests/minute": 120, "concurrency": 5}]  # fmt: skip
    assert [run["title"] for run in found["runs"]] == ["quota × 0.5", "quota × 2"]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_drawn(small: str, simulate: Simulate, tmp_path: Path, suffix: str) -> None:
    """The picture is drawn with and without waits, and where nothing was ever granted."""
    path = tmp_path / f"out{suffix}"
    simulate(small, "--load", "0.01,0.3,9", *MIX, "--plot", str(path))
    content = path.read_bytes()
    assert len(content) > 5_000
    assert content.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")


def test_without_matplotlib_it_says_what_to_install(
    small: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--plot without matplotlib ends at once, with the command that installs it."""
    monkeypatch.setattr(plot, "find_spec", lambda _name: None)
    assert main(["simulate", small, "--rpm", "5", "--plot", "out.png"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "", "limiter: --plot needs matplotlib: pip install 'llm-limiter[plot]'\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ((), "Say what the provider grants"),
        (("--rpm", "5", "--load", "1"), "--load stands in the place of --rpm"),
        (("--load", "1", "--scale", "1"), "Give either --load"),
        (("--load", "1,much"), "--load: 'much' is no number above 0"),
        (("--load", "0"), "--load: '0' is no number above 0"),
        (("--rpm", "5", "--name", "a"), "give one"),
        (("--rpm", "5", "--burst", "soft"), "--burst is full, smooth"),
        (("--rpm", "5", "--estimate", "half"), "--estimate is exact, max:500 or factor:2"),
        (("--rpm", "5", "--estimate", "max:-1"), "--estimate is exact"),
        (("--rpm", "5", "--estimate", "factor:x"), "--estimate factor: 'x' is no number"),
        (("--rpm", "5", "--priority-mix", "a,a"), "names each priority once"),
        (("--rpm", "5", "--priority-mix", "a=x"), "--priority-mix a: 'x' is no number"),
        (("--rpm", "5", "--ttft", "inf"), "ttft_s is a number"),
        (("--rpm", "5", "--plot", "out.gif"), "--plot writes .png, .svg, .pdf"),
        (("--rpm", "5", "--plot", "nowhere/out.png"), "there is no directory nowhere"),
        (("--rpm", "5", "--url", "here"), "must begin with one of"),
    ],
)
def test_wrong_usage_says_what_to_write(
    small: str, more: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong options end at once with status 2, and say what belongs there."""
    assert main(["simulate", small, *more]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert not said.out


def test_wrong_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong row is told with its line; a quota file with several needs a name; tokens no estimate."""
    bad = traces.write(tmp_path, "at_s,tokens", "0,1", "1,one")
    assert main(["simulate", str(bad), "--rpm", "5"]) == 2
    assert f"{bad}:3: tokens is a whole number of tokens" in capsys.readouterr().err
    whole = traces.write(tmp_path, "at_s,tokens,model", "0,1,gpt", "1,1,gpt")
    assert main(["simulate", str(whole), "--rpm", "5", "--estimate", "max:9"]) == 2
    assert "does not tell output from input tokens" in capsys.readouterr().err
    file = tmp_path / "limiter.toml"
    file.write_text("[quotas.a]\nrpm = 30\n[quotas.b]\nrpm = 60\n")
    assert main(["simulate", str(whole), "--quota", str(file)]) == 2
    assert "--name: choose one of the quotas" in capsys.readouterr().err
    assert main(["simulate", str(whole), "--rpm", "5", "--engine", "model"]) == 0
    assert "trace.csv: these columns are not read: model." in capsys.readouterr().err


def test_a_server_that_is_away_is_told(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No server at the URL: status 1, and no traceback."""
    assert main(["simulate", small, "--rpm", "5", "--url", "redis://127.0.0.1:1"]) == 1
    assert "Redis is away" in capsys.readouterr().err


def test_a_terminal_sees_the_progress(small: str) -> None:
    """On a terminal a line tells how far the replay is, and is wiped away in the end."""
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "limiter",
        "simulate",
        small,
        "--rpm",
        "30",
        "--engine",
        "model",
    ]
    done = subprocess.run(command, cwd=ROOT, stderr=theirs, stdout=subprocess.PIPE, timeout=60,
                          check=True)  # fmt: skip
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "the quota: 1 of 60 calls, 0:00 of the trace" in said
    assert said.endswith("\r\033[K")
    assert b"everything done after" in done.stdout
