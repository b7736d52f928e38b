"""One process's end of one quota's line: what to send next, and what an answer means.

Pure: the shells call it under their own mutual exclusion and give it the time. Calls that are ready
together leave in one batch; one batch is under way at a time; a batch whose answer was lost is sent
again under a new number, marked so that nothing happens twice. Waiters do not poll: a grant comes
in an answer or as a wake-up, and a wake-up that was lost is found out as `Line` promises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count, islice

from limiter.core.definition import Definition
from limiter.core.layout import Grant, Message, Op, Outcome, Reply, Result, Status
from limiter.core.request import Asking, Batch, Request
from limiter.core.told import Lessons
from limiter.errors import StoreError

POLL_US = 250_000  # how late a wake-up that was lost in silence is found out while the line moves
STANDING_POLL_US = 600_000  # and while it stands: a process's polls stay below two a second
MOVING_US = 1_000_000  # how long a line counts as moving after the last thing that was seen of it
BATCH = 256  # entries in a batch: a run of some milliseconds, so that nobody waits long behind it
CONFIRM = 256  # tickets asked about at once when wake-ups may have been lost
POLLED = 32  # tickets asked about in a poll: 1 us each, and few processes have more of them
SCANNED = 1_000  # tickets looked through for the oldest ones of their flows
POSTED_MAX = 100_000
BACKOFF_US = 50_000  # after a failure, doubled with each one in a row; the shells add jitter
BACKOFF_MAX_US = 1_000_000


class Line:
    """Hold the calls of one owner on one quota.

    What becomes of a wake-up that does not arrive, counted from when it was sent:

    - The connection was cut, the server unsubscribed us, or the subscription was not yet there: the
      shell calls `confirm` once the subscription stands (again), and every ticket is asked about
      at once: within 250 ms, or within a second from when an absent store is back.
    - The connection lives and lost it all the same (nothing tells us): one poll finds it out,
      within 250 ms while the line moves, that is for 1 s after anything but a refill was seen of
      it, and within 600 ms while it stands. A poll asks about the oldest ticket, which first come
      first served grants first, and goes round the others, 31 at a time.

    What this costs does not grow with the tickets: a line that stands sends five commands in
    three seconds. The lines of one owner share them (`waiting`): with k quotas that stand the
    600 ms become k times as long, at most a third of the lease, which every owner sends anyway.
    """

    def __init__(
        self, definition: Definition, owner: str, lease_us: int, patience_us: int,
        waiting: set[Line] | None = None,
    ) -> None:  # fmt: skip
        self.definition = definition
        self.owner = owner
        self.lease_us = lease_us
        self.patience_us = patience_us
        self.outbox: list[Request] = []
        self.flying: Batch | None = None
        self.tickets: dict[int, Request] = {}
        self.held: set[int] = set()
        self.outdated = False  # the definition must be read again before the next batch
        self.lessons = Lessons()
        self._number = 0
        self._numbers = count(1)  # may be drawn from without the mutual exclusion
        self._waiting: set[Line] = set() if waiting is None else waiting
        self._fit_us: int | None = None
        self._heard_us = 0
        self._moved_us = 0
        self._asked_us = 0  # when tickets were asked about
        self._turn = 0  # the next ticket to be polled
        self._unsure = False  # wake-ups may have been lost: all tickets are to be asked about
        self._sweep: list[int] = []  # those of them that are still to be asked about
        self._seen = (0, 0)
        self._failing_since_us: int | None = None
        self._failures = 0
        self._retry_us = 0

    # --- what the operations ask for ------------------------------------------------------

    def acquire(self, cost: Mapping[str, int], asking: Asking) -> Request:
        """Make the request for a reservation, with an id of its own."""
        return Request(Op.ACQUIRE, next(self._numbers), cost, asking)

    def submit(self, request: Request, now_us: int) -> None:
        """Put a request into the next batch; it fails when the store stays away too long."""
        request.give_up_us, request.submitted = now_us + self.patience_us, True
        self.outbox.append(request)

    def post(self, request: Request) -> None:
        """Put a request into the next batch for which nobody waits; it is kept through outages."""
        if len(self.outbox) < POSTED_MAX:
            self.outbox.append(request)

    def abandon(self, request: Request) -> None:
        """Forget a call whose caller has gone, and give back what it may have got."""
        if request.done and request.status not in (Status.GRANTED, 0):
            return
        request.done = True
        if request.submitted and not request.sent:
            return  # it stays behind when the next batch leaves
        self.tickets.pop(request.n, None)
        self.held.discard(request.n)
        self.post(Request(Op.CANCEL, request.n))

    # --- batches --------------------------------------------------------------------------

    def depart(self, now_us: int) -> Batch | None:
        """Return the next batch, unless one is under way or there is nothing to send."""
        if self.flying or self.outdated or not self.outbox:
            return None
        return self._depart(now_us)

    def _depart(self, now_us: int) -> Batch:
        requests = self._take() + [Request(Op.RENEW, n) for n in self._suspects(now_us)]
        self._number += 1
        entries = [request.entry(self.definition) for request in requests]
        self.flying = Batch(self._number, self.definition.version, requests, entries)
        return self.flying

    def _take(self) -> list[Request]:
        """Take what leaves now out of the outbox; calls that were given up meanwhile are dropped."""
        requests, looked = [], 0
        for request in self.outbox:
            looked += 1
            if request.done and request.op == Op.ACQUIRE:
                continue
            request.sent = True
            requests.append(request)
            if len(requests) == BATCH:
                break
        del self.outbox[:looked]
        return requests

    def arrive(self, reply: Reply, now_us: int) -> list[Request]:
        """Take the answer to the batch under way; return the requests that have come to an end."""
        assert self.flying is not None
        batch, self.flying = self.flying, None
        self._heard_us, self._failing_since_us, self._failures = now_us, None, 0
        if reply.outcome != Outcome.DONE:
            self.outdated = reply.outcome != Outcome.FENCED
            self._again(batch.requests)
            return []
        self._set_timer(reply.next_us if reply.mine else -1, now_us)
        self._watch(batch, reply, now_us)
        ended: list[Request] = []
        for request, result in zip(batch.requests, reply.results, strict=True):
            if request.op == Op.RENEW:
                ended += self._learn(request.n, result)
            elif self._apply(request, result):
                ended.append(request)
        return ended + self._granted(reply.grants)

    def _watch(self, batch: Batch, reply: Reply, now_us: int) -> None:
        """Note whether anything but a refill happened since the last answer."""
        seen = (reply.waiting, reply.held)
        ours = any(request.op != Op.RENEW for request in batch.requests)
        if ours or reply.grants or seen != self._seen:
            self._moved_us = now_us
        self._seen = seen

    def lost(self, error: StoreError, now_us: int, *, retry: bool) -> list[Request]:
        """Take note that the store gave no answer; return the requests that fail of it.

        Whether the batch under way ran is unknown. What is still worth it is asked again, marked.
        """
        if self.flying:
            requests, self.flying = self.flying.requests, None
        else:
            requests, self.outbox = self.outbox, []
        if self._failing_since_us is None:
            self._failing_since_us = now_us
        self._retry_us = now_us + min(BACKOFF_MAX_US, BACKOFF_US << min(self._failures, 10))
        self._failures += 1
        failed = [r for r in requests if not retry or now_us >= (r.give_up_us or 2**63)]
        self._again(r for r in requests if r not in failed)
        if not retry or now_us - self._failing_since_us > self.patience_us:
            failed += self.tickets.values()
        for request in failed:
            request.error = error
            if request.op == Op.ACQUIRE:
                self.abandon(request)
            elif retry:
                # Its caller goes on; what was used is told when the store is back.
                self.post(Request(request.op, request.n, request.amounts, request.asking))
            else:
                self.held.discard(request.n)  # not kept alive: its lease will end it
            request.done = True
        return failed

    def _again(self, requests: Iterable[Request]) -> None:
        self._unsure = True  # grants of ours may have been in the answer
        wanted = [request for request in requests if not self._is_moot(request)]
        for request in wanted:
            request.asked_before = True
        self.outbox[:0] = wanted

    def _is_moot(self, request: Request) -> bool:
        # A call that was given up has its cancel behind it in the outbox; questions are put anew.
        return request.op == Op.RENEW or (request.op == Op.ACQUIRE and request.done)

    def redefine(self, definition: Definition) -> None:
        """Go on under another version of the quota."""
        self.definition = definition
        self.outdated = False

    # --- what answers mean ----------------------------------------------------------------

    def _apply(self, request: Request, result: Result) -> bool:
        """Note the result of one request; say whether that is its end."""
        if request.done:
            return False
        request.status, request.wait_us, request.ahead, request.levels = result
        request.heard_us = self._heard_us
        if request.op in (Op.LOOK, Op.SURVEY, Op.REPORT):
            if ticket := self.tickets.get(request.n):
                ticket.wait_us, ticket.ahead = request.wait_us, request.ahead
                ticket.heard_us = self._heard_us
        elif request.op != Op.ACQUIRE:
            self.held.discard(request.n)
        elif result.status == Status.WAITING:
            self.tickets[request.n] = request
            return False
        elif result.status == Status.GRANTED:
            self.held.add(request.n)
        request.done = True
        return True

    def _learn(self, n: int, result: Result) -> list[Request]:
        """Take the answer to our own question about a ticket."""
        ticket = self.tickets.get(n)
        if ticket is None or result.status == Status.WAITING:
            return []
        self._unsure |= not self._sweep  # where one wake-up was lost, others may have been
        if result.status == Status.GONE:
            # The store lost it: it goes to the end of the line, as a new one.
            self.outbox.append(self.tickets.pop(n))
            return []
        return self._granted([Grant(n, result.status, result.levels)])

    def _granted(self, grants: Iterable[Grant]) -> list[Request]:
        ended = []
        for n, status, levels in grants:
            request = self.tickets.pop(n, None)
            if request is None:
                continue  # given up; its cancel is under way
            request.status, request.levels, request.done = status, levels, True
            if status == Status.OPEN:  # nothing is told of what it waited for any more
                request.wait_us = request.ahead = 0
            if status == Status.GRANTED:
                self.held.add(n)
            ended.append(request)
        (self._waiting.add if self.tickets else self._waiting.discard)(self)
        return ended

    def hear(self, message: Message, now_us: int) -> list[Request]:
        """Take a wake-up; return the requests that have come to an end.

        After a long silence (a stopped process, a stalled network) our lease may be over and the
        grant taken back: then the store is asked first.
        """
        if message.next_us >= 0:
            self._set_timer(message.next_us, now_us)
        self._moved_us = now_us
        if now_us - self._heard_us > self.lease_us // 2:
            self._unsure = True
            return []
        return self._granted(message.grants)

    def confirm(self) -> None:
        """Take note that wake-ups are heard from now on; what was sent before may be lost."""
        self._unsure = True

    @property
    def _doubtful(self) -> bool:
        return bool(self.tickets) and (self._unsure or bool(self._sweep))

    def _suspects(self, now_us: int) -> list[int]:
        """Choose the tickets to ask about in the batch that leaves now.

        Some of them ride along with our own calls too: a line that is never quiet is never polled.
        """
        if self._unsure:
            # Only now, not in `confirm`: with no batch under way, every ticket is known.
            self._unsure, self._sweep = False, list(self.tickets)
        if self._sweep:
            chosen = self._sweep[:CONFIRM]
            del self._sweep[:CONFIRM]
        elif self.tickets and now_us >= self._asked_us + POLL_US:
            chosen = self._in_turn()
        else:
            return []
        self._asked_us = now_us
        return chosen

    def _in_turn(self) -> list[int]:
        """Choose the oldest ticket of each flow, the first that a grant can be missed of, and others."""
        heads: dict[tuple[str, str], int] = {}
        for n, request in islice(self.tickets.items(), SCANNED):
            heads.setdefault((request.asking.priority, request.asking.tenant), n)
        most = POLLED // 2
        others = list(islice(self.tickets, self._turn, self._turn + most))
        self._turn = self._turn + most if len(others) == most else 0
        return list(dict.fromkeys([*islice(heads.values(), most), *others]))

    @property
    def failing(self) -> bool:
        """Say whether the store gave no answer the last time."""
        return self._failures > 0

    def backoff_us(self, now_us: int) -> int:
        """Return how long to pause before the next batch; 0 while all is well."""
        return max(0, self._retry_us - now_us) if self._failures else 0

    # --- time -----------------------------------------------------------------------------

    def _set_timer(self, next_us: int, now_us: int) -> None:
        self._fit_us = now_us + next_us if next_us >= 0 else None

    @property
    def idle(self) -> bool:
        """Say whether nothing of ours is in the store."""
        return not (self.tickets or self.held)

    def due_us(self) -> int | None:
        """Return when a batch must leave; None: not before something else happens."""
        if self.flying:
            return None
        if self.outbox or self._doubtful:
            return self._retry_us if self._failures else self._heard_us
        if self.idle:
            return None
        if self._failures:
            return self._retry_us
        due = self._heard_us + self.lease_us // 3
        if self.tickets:
            due = min(due, self._poll_us())
            due = due if self._fit_us is None else min(self._fit_us, due)
        return due

    def _poll_us(self) -> int:
        """Return when tickets must be asked about, unless an answer comes before."""
        due = self._heard_us + STANDING_POLL_US * max(1, len(self._waiting))
        if self._heard_us < self._moved_us + MOVING_US:
            due = min(due, max(self._heard_us, self._moved_us) + POLL_US)
        return due

    def tick(self, now_us: int) -> Batch | None:
        """Return a batch if it is time for one, though nobody asks for anything."""
        due = self.due_us()
        if due is None or now_us < due or self.outdated:
            return None
        return self._depart(now_us)
