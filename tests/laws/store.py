"""The store that a story is told to, as those see it who declare quotas and learn limits."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from limiter.core import definition, ops
from limiter.core.model import Model
from limiter.providers.verdict import Seen
from tests.engine.lua import Lua
from tests.laws.story import Story

T = TypeVar("T")


class Store:
    """Answer what `ops.define_gen` and `ops.learn_gen` ask, one step at a time."""

    def __init__(self, story: Story) -> None:
        self.story, self.engine = story, story.engine
        self.origin, self.declared = "code", 0

    def read(self) -> ops.Found | None:
        if isinstance(self.engine, Model):
            now = self.engine.definition
            return now.version, now.text, self.origin
        found = self.engine.client.hmget(self.engine.keys.quota, "version", "definition", "origin")
        return None if found[0] is None else tuple(each.decode() for each in found)

    def declare(self, wanted: ops.Declare) -> tuple[bool, str]:
        self.declared += 1
        if isinstance(self.engine, Model):
            before = self.engine.definition.version
            if wanted.seen != before:
                return False, before
            version, self.origin = str(int(before) + 1), wanted.origin
            self._take(version, wanted.text, self.engine)
            return True, version
        assert isinstance(self.engine, Lua)
        replaced, raw = self.engine.eval(
            "declare", self.engine.keys.declaring(), self.story.now, wanted.seen, wanted.text,
            wanted.origin,
        )  # fmt: skip
        if replaced:
            self.engine.definition = definition.read(
                self.story.quota.unit, raw.decode(), wanted.text
            )
        return bool(replaced), raw.decode()

    def _take(self, version: str, text: str, model: Model) -> None:
        model.redefine(definition.read(self.story.quota.unit, version, text), self.story.now)

    def answer(self, wanted: ops.Declare | None) -> object:
        return self.read() if wanted is None else self.declare(wanted)

    def run(self, steps: Generator[ops.Declare | None, Any, T]) -> T:
        """Run an operation on definitions to its end."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self.answer(wanted))
        except StopIteration as stop:
            value: T = stop.value
            return value

    def learn(self, *seen: Seen) -> None:
        """Take over what an answer tells of the story's quota."""
        quota = self.story.quota
        self.run(ops.learn_gen(quota.unit, quota.name, seen))
