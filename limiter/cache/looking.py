"""One question to the cache, from the first look to an answer or to the task of getting one. Pure.

    look ── there, fresh ────────────────────────────────────────────────> hit
      │ └── there, stale ──> claim, without waiting ──> stale: served, and refreshed if this one leads
      │ └── damaged, foreign ──> dropped, counted
    claim ── there by now ─────────────────────────────────────────────> hit, or join after a wait
      │ └── somebody gets it ──> wait to be woken, a quarter of a second at first ──> claim
      │ └── nobody does ──────────────────────────────────────────────────> lead
      └──── two have failed, or patience is over ─────────────────────────> alone

It yields what is to be done and is sent the results; the drivers do it, and turn a store that is away
into `alone`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from limiter.cache import entry as entries
from limiter.cache.entry import Entry
from limiter.cache.policy import Question
from limiter.cache.shelf import GONE, HIT, LEAD, PASS

How = Literal["hit", "join", "stale", "lead", "alone"]

# A wake-up may be lost with a connection: so the first wait is short, later ones double.
_PAUSE_S, _PAUSE_MAX_S = 0.25, 2.0
_ROUNDS_MAX = 8


class Ask(NamedTuple):
    """Run a verb of the store; the answer is its reply."""

    verb: str
    arguments: tuple[Any, ...]


class Wait(NamedTuple):
    """Wait to be woken for the key; the answer is how long it took, in seconds."""

    seconds: float


class Found(NamedTuple):
    """Hold how a question ended.

    Attributes:
        how: `hit`; `join`: another call's answer, which was waited for; `stale`: one that is past its time;
            `lead`: the caller is to get it, and others wait for that; `alone`: nobody does.
        served: what the caller gets.
        entry, age_s: what that was made of.
        leads: others wait for what this caller gets.
    """

    how: How
    served: Any = None
    entry: Entry | None = None
    age_s: float = 0.0
    leads: bool = False


Steps = Generator[Ask | Wait, Any, Found]
Serve = Callable[[Entry], Any]
Count = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Claimant:
    """Hold who asks, and within which bounds.

    Attributes:
        id: new for each question.
        channel: where this process is woken.
        lease_ms: how long it may be silent before another takes over.
        most: bytes of an answer.
        waits: it waits for others, and lets others wait.
    """

    id: str
    channel: str
    lease_ms: int
    most: int
    waits: bool = True


class Look:
    """Be one question.

    Args:
        question: what is asked.
        who: asks it.
        serve: makes of an entry what the caller gets; None: it will not do.
        count: takes the names of what happened.
    """

    def __init__(self, question: Question, who: Claimant, serve: Serve, count: Count) -> None:
        self._question, self._who, self._serve, self._count = question, who, serve, count
        self._seen, self._bytes = b"", 0

    def steps(self) -> Steps:
        """Ask."""
        found = yield from self._asked()
        if found.entry is not None:
            self._count("bytes_served", self._bytes)
        return found

    def _asked(self) -> Steps:
        key = self._question.key
        if self._question.control.reads:
            stored, left_ms = yield Ask("look", (key, self._who.most))
            found = yield from self._weigh(stored, left_ms)
            if found is not None:
                return found if found.how == "hit" else (yield from self._refresh(found))
        if not (self._who.waits and self._question.control.reads):
            self._count("misses")
            return Found("alone")
        return (yield from self._claim())

    def _weigh(self, stored: bytes, left_ms: int) -> Generator[Ask, Any, Found | None]:
        """Say what a stored answer is good for; None: for nothing, it is as if it were not there."""
        if not stored or left_ms == GONE:
            return None
        self._seen = stored[: entries.HEAD_BYTES]
        entry = entries.read(self._question.key, stored, self._who.most)
        if entry is None or left_ms < 0:  # ours end by themselves
            self._seen = b""
            self._count("corrupt")
            yield Ask("drop", (self._question.key,))
            return None
        age_ms = max(0, entry.lifetime_ms - left_ms)
        wanted_s = self._question.control.ttl_s
        if wanted_s is not None and age_ms > wanted_s * 1000:
            return None
        try:
            served = self._serve(entry)
        except Exception:  # noqa: BLE001 - whole, and yet nothing that the caller can read
            self._count("corrupt")
            yield Ask("drop", (self._question.key,))
            return None
        if served is None:
            return None
        self._bytes = len(stored)
        how: How = "hit" if age_ms <= entry.fresh_ms else "stale"
        return Found(how, served, entry, age_ms / 1000)

    def _refresh(self, found: Found) -> Steps:
        """Serve what is stale; of all who do, one sees to a new one."""
        reply = yield self._asking("")
        if reply[0] == HIT:
            newer = yield from self._weigh(*reply[1:])
            if newer is not None:
                return newer
        return found._replace(leads=reply[0] == LEAD)

    def _claim(self) -> Steps:
        patience_s, waited_s, pause_s = self._question.patience_s, 0.0, _PAUSE_S
        for _ in range(_ROUNDS_MAX):
            while (reply := (yield self._asking(self._who.channel)))[0] not in (HIT, LEAD, PASS):
                left_s = float("inf") if patience_s is None else patience_s - waited_s
                if left_s <= 0:
                    self._count("misses")
                    return Found("alone")
                wait_s = min(pause_s, max(0.0, reply[1] / 1000) + 0.001, left_s)
                waited_s += yield Wait(wait_s)
                pause_s = min(_PAUSE_MAX_S, 2 * pause_s)
            if reply[0] != HIT:
                self._count("misses")
                return Found("lead", leads=True) if reply[0] == LEAD else Found("alone")
            found = yield from self._weigh(*reply[1:])
            if found is not None:
                return found._replace(how="join" if waited_s else "hit")
        self._count("misses")
        return Found("alone")  # what is stored never fits: somebody else's keys, or a defect

    def _asking(self, channel: str) -> Ask:
        who, question = self._who, self._question
        return Ask("claim", (
            question.key, who.id, channel, question.rank, who.lease_ms, who.most, self._seen,
        ))  # fmt: skip
