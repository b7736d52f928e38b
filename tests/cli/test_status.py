"""`limiter status`: what is shown of a quota, for people and for programs."""

from __future__ import annotations

import json

import pytest
from rich.console import Console, Group

from limiter import ConfigError, Limiter, Priority, Quota
from limiter.cli import progress
from limiter.cli import status as showing
from limiter.config import Config
from limiter.providers import Outcome, Seen, Verdict
from limiter.testing import VirtualClock

POLICIES = [
    Priority("batch", -10, floor=0.2, share=0.5, strict=True, max_waiting=1000, timeout=600),
    Priority("interactive", 10, promote_after_s=2.5),
]


def show(name: str | None, url: str, capsys: pytest.CaptureFixture[str], **how: bool) -> str:
    assert showing.status(name, url, Config(), **{"watch": False, "as_json": False, **how}) == 0
    return capsys.readouterr().out


def test_who_waits_by_priority(capsys: pytest.CaptureFixture[str]) -> None:
    """Each priority has a row, those that go first above; with its policy in a few words."""
    clock = VirtualClock()
    with Limiter(clock.url, quotas=[Quota("q", rpm=60, burst=1.0, priorities=POLICIES)]) as limiter:
        limiter.acquire("q", priority="interactive").settle()
        waits = [limiter.ticket("q", priority="batch") for _ in range(2)]
        waits.append(limiter.ticket("q"))
        rows = show("q", clock.url, capsys).splitlines()
        assert rows[0] == "q  3 waiting · 0 held · next in 1.0 s"
        assert rows[1].startswith("  requests/minute  █")
        assert rows[2:] == [
            "  interactive           0 waiting  level 10 · promoted every 2.5 s",
            "  default               1 waiting  at most 0:02  level 0",
            f"  batch                 2 waiting  at most 0:04  {' · '.join(progress.policy(POLICIES[0]))}",
        ]
        assert rows[-1].endswith(
            "level -10 · strict floor 0.2 · strict share 0.5 · max 1,000 waiting · timeout 600 s"
        )
        found = json.loads(show("q", clock.url, capsys, as_json=True))[0]["priorities"]
        assert [*found] == ["interactive", "default", "batch"]
        assert found["batch"] == {
            "waiting": 2, "wait_s": 4.0, "level": -10, "floor": 0.2, "share": 0.5, "strict": True,
            "max_waiting": 1000, "timeout": 600.0, "promote_after_s": None, "lend_after_s": 10.0,
        }  # fmt: skip
        for each in waits:
            each.cancel()


def test_nothing_is_said_of_the_plain_priority(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody declares a priority, the heading says how many wait; JSON has one shape."""
    clock = VirtualClock()
    with Limiter(clock.url, quotas=[Quota("q", rpm=60, burst=1.0)]) as limiter:
        limiter.acquire("q").settle()
        with limiter.ticket("q"):
            assert len(show(None, clock.url, capsys).splitlines()) == 2
            found = json.loads(show(None, clock.url, capsys, as_json=True))[0]
    assert (found["waiting"], found["priorities"]["default"]["waiting"]) == (1, 1)


@pytest.mark.parametrize("wait", [True, False])
def test_a_retired_priority_is_shown_while_somebody_waits(
    capsys: pytest.CaptureFixture[str], wait: bool
) -> None:
    """Whoever asked under a priority that nobody declares any more is not hidden."""
    clock = VirtualClock()
    before = Limiter(clock.url, quotas=[Quota("q", rpm=60, burst=1.0, priorities=POLICIES)])
    before.acquire("q").settle()
    ticket = before.ticket("q", priority="batch") if wait else None
    plain = Quota("q", rpm=60, burst=1.0, priorities=[Priority("default")])
    with Limiter(clock.url, quotas=[plain]) as after:
        after.peek("q")
    assert ("batch" in show("q", clock.url, capsys)) is wait
    if ticket:
        ticket.cancel()
    before.close()


def test_columns_line_up_and_nothing_wraps() -> None:
    """Long names of limits and priorities widen the column; a narrow terminal cuts the policy."""
    clock = VirtualClock()
    quotas = [
        Quota("east", rpm=60, group="acme", priorities=[Priority("x" * 30, 5), *POLICIES]),
        Quota("west", rpm=60, group="acme"),
    ]
    with Limiter(clock.url, quotas=quotas) as limiter:
        limiter.peek("east")
        lines = progress.quota_lines({"acme": limiter.peek("acme")})
    console = Console(width=88, highlight=False)
    with console.capture() as drawn:
        console.print(Group(*lines))
    rows = drawn.get().splitlines()
    waiting = [row.index(" waiting") for row in rows[3:]]
    assert len(waiting) == 4
    assert len(set(waiting)) == 1
    assert rows[-1].rstrip().endswith("…")


def test_a_name_that_is_not_there(url: str, name: str) -> None:
    """A quota that the store has not, or has in a group, is answered with what there is."""
    with Limiter(url, quotas=[Quota(name, rpm=5, group=f"g{name}")]) as limiter:
        limiter.peek(name)
    with pytest.raises(ConfigError, match=f"This store has no '{name}'.*'g{name}'.*of a group"):
        showing.status(name, url, Config(), watch=False, as_json=False)


def test_both_levels_are_shown_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """What the provider told stands beside our count: its level, drift, brake, failures, repeats."""
    clock = VirtualClock()
    with Limiter(clock.url, quotas=[Quota("q", rpm=60, burst=1.0), Quota("new")]) as limiter:
        r = limiter.acquire("q")
        used = Seen("requests", 60, remaining=50, full_us=10_000_000, is_bucket=True)
        r.report_soon(Verdict(Outcome.REFUSED, 429, wait_us=2_000_000, seen=(used,)))
        r.settle(requests=1)
        limiter.acquire("new").settle()
        rows = show(None, clock.url, capsys).splitlines()
        found = {
            each["name"]: each for each in json.loads(show(None, clock.url, capsys, as_json=True))
        }
    assert rows[0].startswith("new  0 waiting · 0 held")
    assert rows[1].endswith("0% in use, 2 of 2 left · learned")
    assert rows[2].startswith("q  0 waiting · 0 held · braked by the provider for 2.")
    assert "· provider: -9 left 0:00 ago, drift -9" in rows[3]
    assert 2 <= found["q"]["brake_s"] <= 2.25
    limit = found["q"]["limits"]["requests/minute"]
    assert (limit["provider_level"], limit["declared"], limit["pace"]) == (-9, 60, 1.0)
    assert found["new"]["limits"]["concurrency"]["slots"] == 2
