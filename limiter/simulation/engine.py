"""The two engines that a replay can run on, behind one protocol; both are told the time.

`model` is the reference model in this process. `lua` is the script of production on a real server,
on keys of its own that are deleted afterwards. Wake-ups go by RPUSH where production has PUBLISH,
so that they come with the reply, in the same round trip, and none is in the air when time moves.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from redis import exceptions

from limiter import scripts
from limiter.core import definition, layout
from limiter.core.layout import Entry, Message, Reply
from limiter.core.model import Model
from limiter.core.quota import Quota
from limiter.shells import embedded, opening
from limiter.shells.redis_store import translated
from limiter.simulation.replay import Engine
from limiter.simulation.workload import START_US

Kind = Literal["lua", "model"]

_TIMEOUT_S = 30.0


def runs_lua(kind: Kind, url: str | None) -> bool:
    """Say whether the script itself will run: not on `memory://`, nor where no server can be."""
    if kind == "model" or (url or "").startswith("memory:"):
        return False
    return url is not None or embedded.available()


@contextlib.contextmanager
def opened(quota: Quota, owners: Sequence[str], kind: Kind, url: str | None) -> Iterator[Engine]:
    """Open an engine on a quota of its own, all full at `START_US`.

    Raises:
        StoreError: the server does not answer, or refuses.
    """
    if not runs_lua(kind, url):
        text = definition.write(quota)
        yield Model(definition.read(quota.name, "1", text), START_US)
        return
    user = object()
    store: Any = opening.sync_store(url, _TIMEOUT_S, user)
    try:
        with _translated(), _Lua(store, quota, owners) as engine:
            yield engine
    finally:
        store.close()
        opening.leave(url, user)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (exceptions.RedisError, OSError) as exc:
        raise translated(exc) from exc


class _Lua:
    """Run `lua/run.lua`; one round trip for each batch, wake-ups included."""

    def __init__(self, store: Any, quota: Quota, owners: Sequence[str]) -> None:
        self.keys = layout.keys(f"simulation-{uuid.uuid4().hex}")
        self.client = store.client
        if store.sharded:
            # All keys have one tag, so one node has them all.
            self.client = store.client.get_node_from_key(self.keys.state).redis_connection
        text = definition.write(quota)
        _, version = store.declare(self.keys, "", text, "code")
        self.definition = definition.read(quota.name, version, text)
        self._script = scripts.load("run")
        self._lists = {self.keys.wake + owner: owner for owner in owners}
        self._connection = self.client.connection_pool.get_connection()
        self._pops = b"".join(
            part for name in self._lists for part in self._connection.pack_command("LPOP", name)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.disconnect()
        self.client.connection_pool.release(self._connection)
        self.client.delete(*self.keys.all(), *self._lists)

    def run(
        self,
        now: int,
        owner: str,
        number: int,
        lease_us: int,
        version: str,
        entries: Sequence[Entry],
    ) -> tuple[Reply, Mapping[str, Message]]:
        """Apply a batch; return its reply, and the wake-ups by owner."""
        keys = self.keys.all()
        arguments = (len(keys), *keys, now, owner, number, lease_us, version, self.keys.wake,
                     "RPUSH", layout.pack_entries(entries))  # fmt: skip
        answers = self._ask("EVALSHA", self._script.sha, *arguments)
        if isinstance(answers[0], exceptions.NoScriptError):
            answers = self._ask("EVAL", self._script.source, *arguments)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        letters = zip(self._lists.values(), answers[1:], strict=True)
        messages = {name: layout.parse_message(text) for name, text in letters if text is not None}
        return layout.parse_reply(answers[0], entries), messages

    def _ask(self, *command: Any) -> list[Any]:
        """Send a command and the pops behind it; return an answer, or its error, for each."""
        packed = b"".join(self._connection.pack_command(*command))
        self._connection.send_packed_command((packed, self._pops), check_health=False)
        return [self._answer() for _ in range(1 + len(self._lists))]

    def _answer(self) -> Any:
        try:
            return self._connection.read_response()
        except exceptions.ResponseError as exc:
            return exc
