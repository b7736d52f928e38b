"""Agreeing on a definition: who declares, who follows, and who is told that it cannot be."""

from __future__ import annotations

import pytest

from limiter.core import definition, ops
from limiter.core.definition import Definition
from limiter.core.priority import Priority
from limiter.core.quota import Quota
from limiter.errors import ConfigError

A, B = Quota("a", rpm=5, group="acme"), Quota("b", rpm=7, group="acme")
ALONE = Quota("acme", rpm=9)


class Store:
    """Hold one definition, as the driver sees it."""

    def __init__(self, origin: str = "code") -> None:
        self.found: ops.Found | None = None
        self.origin = origin
        self.written = 0
        self.races = 0

    def declare(self, text: str) -> bool:
        self.written += 1
        self.found = (str(self.written), text, self.origin)
        return True

    def agree(self, *ours: Quota, follow: bool = False, unit: str = "acme") -> Definition:
        steps = ops.define_gen(unit, ours, follow=follow)
        answer: object = None
        try:
            while True:
                wanted = steps.send(answer)
                answer = self.found if wanted is None else self.replace(wanted)
        except StopIteration as stop:
            return stop.value

    def replace(self, wanted: ops.Declare) -> tuple[bool, str]:
        if self.races:
            self.races -= 1
            self.declare(definition.write(B, self.known()))
        version = self.found[0] if self.found else ""
        if wanted.seen != version:
            return False, version
        return self.declare(wanted.text), self.found[0]

    def known(self) -> Definition | None:
        return definition.read("acme", *self.found[:2]) if self.found else None


def test_all_quotas_of_a_group_are_declared_at_once() -> None:
    """A process writes what it declares in a unit in one step, and what agrees is left alone."""
    store = Store()
    assert store.agree(A, B).quotas == ("a", "b")
    assert store.agree(B, A).version == store.agree().version == store.agree(A).version == "1"
    assert store.written == 1


def test_a_declaration_replaces_an_older_one() -> None:
    """The newest declaration counts, and the quotas of others stay."""
    store = Store()
    store.agree(A, B)
    assert store.agree(Quota("a", rpm=6, group="acme")).limits[0].amount == 6
    assert store.known().quota("b") == B


def test_a_follower_accepts_what_others_declared() -> None:
    """Who follows writes nothing, unless a quota of its own is missing from the group."""
    store = Store()
    store.agree(A)
    other = Quota("a", rpm=6, group="acme")
    assert store.agree(other, follow=True).quota("a") == A
    assert store.written == 1
    assert store.agree(other, B, follow=True).quota("a") == A
    assert store.known().quotas == ("a", "b")


def test_a_central_definition_is_never_replaced() -> None:
    """What was declared centrally stands, also where it lacks a quota."""
    store = Store("central")
    store.declare(definition.write(A))
    assert store.agree(Quota("a", rpm=6, group="acme"), B).quotas == ("a",)
    assert store.written == 1


def test_who_loses_a_race_reads_again() -> None:
    """Two processes that declare at once end with both declarations."""
    store = Store()
    store.races = 1
    assert store.agree(A).quotas == ("a", "b")


def test_a_name_is_not_a_quota_and_a_group_at_once() -> None:
    """In one process, and for who follows, it is an error; else the newest declaration counts."""
    store = Store()
    with pytest.raises(ConfigError, match=r"'acme' is declared as a quota and as a group.*rename"):
        store.agree(A, ALONE)
    store.agree(A)
    assert store.agree(ALONE).quotas == ("acme",)
    with pytest.raises(ConfigError, match="rename one of them"):
        store.agree(A, follow=True)
    assert store.written == 2


def test_nobody_has_declared_it() -> None:
    """A unit that is neither declared here nor in the store is named, with what to write."""
    with pytest.raises(ConfigError, match="'acme' is not declared: pass quotas="):
        Store().agree()


def test_a_change_of_a_policy_is_a_change() -> None:
    """Priorities are a part of what is agreed on."""
    store = Store()
    store.agree(ALONE)
    assert store.agree(Quota("acme", rpm=9, priorities=[Priority("batch")])).version == "2"
    only = Quota("acme", rpm=9, priorities=[Priority("default")])
    assert store.agree(only).priorities[1].retired


def test_what_is_silent_on_priorities_leaves_them() -> None:
    """A program that declares a quota without priorities does not take them from the others."""
    store = Store()
    store.agree(Quota("acme", rpm=9, priorities=[Priority("batch")]))
    assert store.agree(ALONE).priority_index("batch") == 1
    assert store.agree(Quota("acme", rpm=10)).priority_index("batch") == 1
