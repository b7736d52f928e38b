"""Drive the Lua by hand: a batch in, its reply and its wake-ups out, the time given."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from limiter import scripts
from limiter.core import definition, layout
from limiter.core.layout import Entry, Message, Reply
from limiter.core.model import Model
from limiter.core.quota import Quota


def redefine(engine: Model | Lua, quota: Quota, now: int) -> None:
    """Declare a quota anew, on the script or on the model."""
    if isinstance(engine, Lua):
        engine.redefine(quota, now)
        return
    before = engine.definition
    version = str(int(before.version) + 1)
    text = definition.write(quota, before)
    engine.redefine(definition.read(quota.unit, version, text), now)


class Lua:
    """Run the scripts on a real server for one quota, with the model's interface."""

    def __init__(self, url: str, quota: Quota, now: int) -> None:
        self.client = redis.Redis.from_url(url)
        self.keys = layout.keys(quota.unit)
        self.definition = self.declare(quota, now, None)
        self.names: set[str] = set()

    def close(self) -> None:
        self.client.close()

    def eval(self, name: str, keys: Sequence[str], *args: str | int | bytes) -> object:
        return self.client.eval(scripts.load(name).source, len(keys), *keys, *args)

    def declare(
        self, quota: Quota, now: int, before: definition.Definition | None
    ) -> definition.Definition:
        text = definition.write(quota, before)
        seen = before.version if before else ""
        _, version = self.eval("declare", self.keys.declaring(), now, seen, text, "code")
        return definition.read(quota.unit, version.decode(), text)

    def redefine(self, quota: Quota, now: int) -> definition.Definition:
        self.definition = self.declare(quota, now, self.definition)
        return self.definition

    def run(
        self,
        now: int,
        owner: str,
        number: int,
        lease_us: int,
        version: str,
        entries: Sequence[Entry],
    ) -> tuple[Reply, dict[str, Message]]:
        # RPUSH in the place of PUBLISH keeps the messages where the test can read them.
        self.names.add(owner)
        text = self.eval("run", self.keys.all(), now, owner, number, lease_us, version,
                         self.keys.wake, "RPUSH", layout.pack_entries(entries))  # fmt: skip
        messages = {}
        for name in self.names:
            for message in self.client.lrange(self.keys.wake + name, 0, -1):
                assert name not in messages
                messages[name] = layout.parse_message(message)
            self.client.delete(self.keys.wake + name)
        return layout.parse_reply(text, entries), messages
