"""Starting, announcing and stopping the server: thread, child process, command line, sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request

import httpx2
import openai
import pytest

from limiter.errors import ConfigError
from limiter.mock import MockConfig, background, main
from limiter.mock.config import GROUPS
from limiter.mock.serving import _arguments, _parser


def run(code, **options):
    return subprocess.run(  # noqa: PLW1510 - the status is what is asked for
        [sys.executable, "-c", code], capture_output=True, text=True, **options
    )


def test_a_configuration_survives_the_command_line():
    """Every field has a flag, and reads back as it was written."""
    config = MockConfig(
        rpm=None,
        tpm=7,
        period_s=6.0,
        model="sliding",
        charge="usage",
        charge_refusals=True,
        headers="azure",
        message="no",
        per_model=True,
        max_concurrency=8,
        latency_s=0.25,
        token_latency_s=0.5,
        jitter=0.1,
        answer_tokens=9,
        answer_share=0.25,
        seed=-3,
        error_rate=0.1,
        overload_rate=0.2,
        slow_down_rate=0.3,
        cut_rate=0.4,
        host="localhost",
        port=1,
        uds="/tmp/a b",
    )
    for one in (config, MockConfig()):
        options = vars(_parser().parse_args(_arguments(one)))
        options.pop("stop_at_eof")
        assert MockConfig(**options) == one


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "leaky"},
        {"charge": "nothing"},
        {"headers": "google"},
        {"message": "perhaps"},
        {"rpm": 0},
        {"tpm": -1},
        {"max_concurrency": 0},
        {"period_s": 0},
        {"answer_tokens": 0},
        {"answer_share": 0},
        {"answer_share": 1.5},
        {"latency_s": -1},
        {"jitter": 2},
        {"error_rate": 0.6, "cut_rate": 0.6},
    ],
)
def test_a_senseless_configuration_is_refused(wrong, capsys):
    """The error names the field; the command line ends with status 2."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        MockConfig(**wrong)
    flags = [f"--{name.removesuffix('_s').replace('_', '-')}={v}" for name, v in wrong.items()]
    assert main(flags) == 2
    assert next(iter(wrong)) in capsys.readouterr().err


def test_the_help_says_what_can_be_done_to_a_running_server(capsys):
    """It names every command, and has every flag in a group with a title."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for path in ("/limits", "/refuse", "/faults", "/stats", "/timeline"):
        assert path in text
    for title in GROUPS.values():
        assert f"\n{title}:\n" in text
    assert "None" not in text


def test_the_command_line_announces_its_url_first_and_stops_on_sigterm():
    """`python -m limiter.mock` prints one line, at once, and then serves."""
    with subprocess.Popen(
        [sys.executable, "-m", "limiter.mock", "--rpm", "5", "--latency", "0", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        line = child.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.removeprefix("listening on ").strip()
        assert url.endswith("/v1")
        with urllib.request.urlopen(f"{url}/models") as response:
            assert response.status == 200
        child.terminate()
        child.wait(timeout=20)


def test_a_child_process_serves_and_ends_with_its_parent_s_block():
    """The quota lives in the child; afterwards the child is gone."""
    with background(MockConfig(rpm=3), process=True) as server:
        assert server.pid != os.getpid()
        with openai.OpenAI(base_url=server.base_url, api_key="any") as client:
            client.embeddings.create(model="e", input="x")
        assert server.stats()["accepted"] == 1
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_child_process_ends_when_its_parent_is_killed():
    """A parent that dies at once leaves no server behind: its port is closed."""
    code = (
        "import os\nfrom limiter.mock import *\n"
        "with background(process=True) as server:\n"
        "    print(server.base_url, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    url = run(code).stdout.strip()
    port = int(url.split(":")[2].split("/")[0])
    for _ in range(500):
        with socket.socket() as probe:
            probe.settimeout(0.02)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
    pytest.fail("the child still listens")


def test_a_unix_socket_serves_and_is_removed(tmp_path):
    """`uds` takes the place of a port; the file is gone after the server."""
    path = str(tmp_path / "mock.sock")
    for process in (False, True):
        with background(MockConfig(uds=path), process=process) as server:
            transport = httpx2.HTTPTransport(uds=server.uds)
            with openai.OpenAI(
                base_url=server.base_url,
                api_key="any",
                http_client=httpx2.Client(transport=transport),
            ) as client:
                client.embeddings.create(model="e", input="x")
            assert server.stats()["accepted"] == 1
        assert not os.path.exists(path)  # noqa: PTH110 - a string is what uds takes


def test_a_taken_address_is_a_config_error():
    """The message names the address; nothing is left running."""
    with background() as server:
        port = int(server.base_url.split(":")[2].split("/")[0])
        with pytest.raises(ConfigError, match=str(port)), background(MockConfig(port=port)):
            pass


def test_a_clock_cannot_enter_another_process():
    """The two options exclude each other."""
    with pytest.raises(ConfigError, match="clock"), background(process=True, clock_us=lambda: 0):
        pass


@pytest.mark.parametrize("absent", ["starlette", "uvicorn"])
def test_without_its_extra_the_server_says_what_to_install(absent):
    """The package imports without it; starting a server names the command that mends it."""
    code = (
        f"import sys\nsys.modules[{absent!r}] = None\n"
        "from limiter.mock import background\nwith background(): pass\n"
    )
    done = run(code)
    assert done.returncode == 1
    assert f"needs {absent}: pip install 'llm-limiter[mock]'" in done.stderr


def test_importing_the_mock_loads_no_server():
    """Starlette and uvicorn load when a server starts, not before."""
    code = "import sys, limiter.mock; print({'starlette', 'uvicorn', 'openai'} & set(sys.modules))"
    assert run(code).stdout.strip() == "set()"
