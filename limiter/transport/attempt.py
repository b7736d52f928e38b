"""One attempt of a call: what it costs before, what its answer says, what it used in the end.

Pure: it is shown the response's head and bytes as they pass by, and keeps no more of them than it
must. What it says is always by what was seen so far: a stream that is whole, broken off, or left
early is settled by the same rule.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from limiter.observing import is_unanswered
from limiter.providers import (
    Profile,
    Rule,
    Tap,
    Usage,
    Verdict,
    judge,
    judge_stream_error,
    no_answer,
)
from limiter.providers.bodies import answers
from limiter.transport.coding import Decoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter.core.sketch import OutputKey

# Raised before a request has left, by httpx and httpx2. All others may come after it was received.
_NEVER_SENT = frozenset({
    "ConnectError", "ConnectTimeout", "LocalProtocolError", "PoolTimeout", "ProxyError",
    "UnsupportedProtocol",
})  # fmt: skip

# An answer of more bytes is not kept for its usage; its estimate stands.
ANSWER_MAX_BYTES = 64 * 2**20

_PROBE = Usage(10**9, 10**9, 2 * 10**9)


class Attempt:
    """Hold what one HTTP request takes from a quota.

    Attributes:
        quota: its name.
        cost: what to reserve, by dimension.
        asked: what else to ask of the line: `timeout`, `priority`, `tenant`, `fail_fast`.
        body: of the request; None: it cannot be read.
        over: the answer is whole, as its content says; nothing after it matters.
        output_key: what names the calls whose answers are alike in length; None: it matters to nobody.
    """

    def __init__(
        self,
        quota: str,
        cost: Mapping[str, int],
        *,
        profile: Profile,
        path: str,
        body: Mapping[str, Any] | None,
        rule: Rule,
        asked: Mapping[str, Any],
        output_key: OutputKey | None = None,
    ) -> None:
        self.quota = quota
        self.cost = cost
        self.asked = asked
        self.output_key = output_key
        self.over = False
        self._profile = profile
        self._path = path
        self.body = body
        self._rule = rule
        self._status = 200
        self._decoder: Decoder | None = None
        self._tap: Tap | None = None
        self._answer: bytearray | None = None
        self._is_troubled = False
        self._output_tokens: int | None = None

    def forget_learned(self) -> bool:
        """Reserve no more than without learning; say whether that is less.

        For answers that became longer than a limit ever grants at once: to refuse such calls for good
        would be worse than the debt that they leave.
        """
        if self.output_key is None:
            return False
        learned = self.cost
        self.cost = self._profile.estimate(self._path, self.body or {}, rule=self._rule) or learned
        return any(n < learned.get(name, 0) for name, n in self.cost.items())

    def unanswered(self, error: BaseException) -> Verdict | None:
        """Say what an exception means that came instead of an answer; None: it is the caller's."""
        return no_answer(error) if is_unanswered(error) else None

    def failed(self, error: BaseException) -> Mapping[str, int] | None:
        """Say what was used by a request that got no response; None: it was never sent."""
        names = {kind.__name__ for kind in type(error).__mro__}
        return None if names & _NEVER_SENT else self.cost

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head of the response, and get ready for what follows."""
        self._status = status
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not 200 <= status < 300:
            return
        if kind == "text/event-stream":
            self._tap = Tap(read=self._profile.usage)
        elif kind.endswith("json") and self._usage_matters():
            self._answer = bytearray()
        if self._tap or self._answer is not None:
            self._decoder = Decoder(headers.get("content-encoding", ""))

    def judged(self, headers: Mapping[str, str], content: bytes | None = None) -> Verdict:
        """Say what the answer means for everybody; `content` is an error's body."""
        body = self.body or {}
        model = body.get("model")
        return judge(
            self._status,
            headers,
            content,
            provider=self._profile.name,
            path=self._path,
            stream=body.get("stream") is True,
            model=model if isinstance(model, str) else "",
        )

    def trouble(self) -> Verdict | None:
        """Say, once, what an error inside the stream means; None: there is no news of one."""
        if self._tap is None or self._tap.error is None or self._is_troubled:
            return None
        self._is_troubled = True
        return judge_stream_error(self._tap.error, self._profile.name)

    def saw(self, chunk: bytes) -> bool:
        """Take a piece of the answer as it went over the wire; say whether that was its end."""
        if self._decoder is None or self.over:
            return False
        for piece in self._decoder.feed(chunk):
            self.saw_plain(piece)
        return self.over

    def saw_plain(self, piece: bytes) -> None:
        """Take a piece of the answer without its coding."""
        if self._tap:
            self._tap.feed(piece)
            self.over = self._tap.done
        elif self._answer is not None:
            self._answer += piece
            if len(self._answer) > ANSWER_MAX_BYTES:
                self._answer = self._decoder = None

    def used(self) -> Mapping[str, int] | None:
        """Say what the call used, by what was seen of its answer; None: it was not served."""
        if 300 <= self._status < 400:
            return None  # the call itself is the one that follows
        if not 200 <= self._status < 300:
            return self._profile.failure(self._status, self.cost)
        usage = self._usage()
        self._output_tokens = self._length(usage)
        return self._settled(usage)

    @property
    def output_tokens(self) -> int | None:
        """Return how long an answer became, once `used` has looked; None: nobody can learn from it."""
        return self._output_tokens

    def _length(self, usage: Usage | None) -> int | None:
        """Return what an answer that came to its end tells of its length, the mean of several.

        One that was cut by its own cap is as long as this, and tells it. What a stream was only seen to
        write, without a word of its usage, teaches nothing: the hidden reasoning is not in it.
        """
        if self.output_key is None or usage is None:
            return None
        if self._tap and not (self.over and self._tap.usage and not self._tap.error):
            return None
        written = usage.sides[2] if usage.sides else usage.output_tokens
        return None if written is None else -(-written // answers(self.body or {}))

    def _usage(self) -> Usage | None:
        if self._tap:
            blind = self._decoder is not None and self._decoder.lost
            return self._tap.usage if blind else self._tap.seen
        try:
            return self._profile.usage(json.loads(self._answer or b""))
        except (ValueError, RecursionError):
            return None  # broken off, or no JSON after all

    def _settled(self, usage: Usage | None) -> Mapping[str, int]:
        return self._profile.settled(self._path, self.cost, usage, rule=self._rule, body=self.body)

    def _usage_matters(self) -> bool:
        """Say whether a usage could change what the call is charged; else its answer is not read.

        OpenAI's chat completions and embeddings are charged at admission, and embeddings are long.
        """
        probed = self._profile.settled(self._path, self.cost, _PROBE, rule=self._rule)
        return probed != self.cost
