"""Drive the script by hand on a real server: batches in, replies out, and what the server spent.

What no limiter is between: for server time, for memory, and for runs in which time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis

from limiter import Quota, scripts
from limiter.core import definition, layout
from limiter.core.layout import Entry, Message, Reply
from limiter.simulation.replay import LEASE_US


class Engine:
    """Be one owner on one quota.

    Args:
        quota: declared unless it is; whoever names the same quota shares it.
        owner: who sends.
        listeners: owners whose wake-ups `ask` returns. They go by RPUSH where production has
            PUBLISH, so that they come with the reply and none is in the air when time moves.
    """

    def __init__(
        self, url: str, quota: Quota, owner: str = "bench", listeners: Sequence[str] = ()
    ) -> None:
        self.client = redis.Redis.from_url(url)
        self.keys = layout.keys(quota.unit)
        self.owner = owner
        self.number = 0
        self._publish = "RPUSH" if listeners else "PUBLISH"
        self._lists = {self.keys.wake + name: name for name in listeners}
        text, declaring = definition.write(quota), self.keys.declaring()
        source = scripts.load("declare").source
        answer: Any = self.client.eval(source, len(declaring), *declaring, 0, "", text, "code")
        self.definition = definition.read(quota.unit, answer[1].decode(), text)
        self._script = scripts.load("run")
        self.client.script_load(self._script.source)

    def run(self, *entries: Entry) -> Any:
        """Run a batch at the server's time."""
        return self.client.evalsha(self._script.sha, *self._arguments(0, entries))

    def aside(self, *entries: Entry) -> Any:
        """Run a batch that `server_us` does not count: EVAL has statistics of its own."""
        return self.client.eval(self._script.source, *self._arguments(0, entries))

    def ask(self, now_us: int, entries: Sequence[Entry]) -> tuple[Reply, dict[str, Message]]:
        """Run a batch at a given time; return its reply, and the wake-ups by owner."""
        pipe = self.client.pipeline(transaction=False)
        pipe.evalsha(self._script.sha, *self._arguments(now_us, entries))
        for name in self._lists:
            pipe.lpop(name)
        text, *letters = pipe.execute()
        named = zip(self._lists.values(), letters, strict=True)
        mail = {name: layout.parse_message(letter) for name, letter in named if letter}
        return layout.parse_reply(text, entries), mail

    def _arguments(self, now_us: int, entries: Sequence[Entry]) -> tuple[Any, ...]:
        self.number += 1
        keys, packed = self.keys.all(), layout.pack_entries(entries)
        return (len(keys), *keys, now_us, self.owner, self.number, LEASE_US,
                self.definition.version, self.keys.wake, self._publish, packed)  # fmt: skip

    def server_us(self, act: Callable[[], object], times: int) -> float:
        """Return the server's time for one `run` of those that `act` makes, the mean of some."""
        self.client.config_resetstat()
        for _ in range(times):
            act()
        spent: float = self.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
        return spent

    def memory(self) -> int:
        """Return what the server has allocated, in bytes."""
        used: int = self.client.info("memory")["used_memory"]
        return used

    def clear(self) -> None:
        """Delete the quota."""
        self.client.delete(*self.keys.all(), *self._lists)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
