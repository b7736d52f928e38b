"""A RabbitMQ of our own: on free ports of the loopback, in a directory of its own, stopped by its pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.servers import free_port, until

# Debian's command in the PATH changes to a user that cannot write here; what it calls does not.
_PLACES = (
    Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),
    *Path("/opt").glob("rabbitmq*/sbin/rabbitmq-server"),
)


def binary() -> str | None:
    """Find what runs it, and Erlang's epmd; None: one of them is not installed."""
    found = [str(path) for path in _PLACES if path.exists()] + [shutil.which("rabbitmq-server")]
    return found[0] if shutil.which("epmd") else None


class Rabbit:
    """Hold a broker that can be stopped, killed and started again with all that it kept."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="lim-", dir="/tmp"))
        self.port, epmd_port, talk_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        inside = {name: str(self._folder / file) for name, file in (
            ("HOME", ""), ("RABBITMQ_MNESIA_BASE", "data"), ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"), ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
            ("RABBITMQ_CONF_ENV_FILE", "env"), ("RABBITMQ_PID_FILE", "pid"),
        )}  # fmt: skip
        self._env = inside | {
            "PATH": os.environ["PATH"], "ERL_EPMD_PORT": str(epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"lim{self.port}@localhost", "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": str(talk_port),
            # So that the process is the server itself, and not a shell that starts it.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
        }  # fmt: skip
        (self._folder / "rabbitmq.conf").touch()
        command = ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"]
        self._names = subprocess.Popen(command, env=self._env)
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        server = self._server = subprocess.Popen(
            [self._program], env=self._env, cwd=self._folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def answers() -> bool:
            if server.poll() is not None:
                raise RuntimeError(f"{self._program} ended with {server.returncode}")
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 5) as opened,
            ):
                opened.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(opened.recv(1))
            return False

        until(answers, 60)

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(60)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop all of it, and forget what it kept."""
        self.stop()
        self._names.terminate()
        self._names.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
