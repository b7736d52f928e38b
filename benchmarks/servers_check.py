"""Prove that each third-party server starts, answers the real openai client and charges as said.

A JSON line per server; exit status 1 if one's headers disagree with `charge`.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from benchmarks.servers import MOCKLIMIT_CONFIGS, LimitingServer, fakeai, mocklimit

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEXT = "Grüße an die Schlange. " * 20


def _requests() -> Iterator[dict[str, Any]]:
    # None above the 1,000 tokens a second of the quantised configuration: that never fits.
    for words, most in ((1, 37), (6, 500), (3, None)):
        body: dict[str, Any] = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": _TEXT * words}],
        }
        yield body if most is None else {**body, "max_completion_tokens": most}


def check(server: LimitingServer) -> dict[str, Any]:
    """Return what the first calls of a fresh key were charged, by the server and by `charge`.

    Only the first call's header is exact (a bucket refills while later ones travel), so that each
    call comes with a key of its own.
    """
    import openai

    rows = []
    for place, body in enumerate(_requests()):
        client = openai.OpenAI(
            base_url=server.base_url, api_key=f"check-{place}-key", max_retries=0
        )
        with client:
            raw = client.chat.completions.with_raw_response.create(**body)
        answer = raw.parse()
        limit, left = (raw.headers[f"x-ratelimit-{what}-tokens"] for what in ("limit", "remaining"))
        row = {
            "charged": int(limit) - int(left),
            "by_body": server.charge(body, None),
            "by_response": server.charge(body, answer.model_dump()),
            "usage": answer.usage.total_tokens,
            "text": bool(answer.choices),
        }
        rows.append(row)
    right = all(row["charged"] == row["by_body"] == row["by_response"] for row in rows)
    return {"server": server.name, "right": right, "calls": rows}


def main() -> None:
    """Check mocklimit's four configurations and fakeai, one at a time."""
    right = True
    for start in (*MOCKLIMIT_CONFIGS, None):
        with ExitStack() as stack:
            server = stack.enter_context(mocklimit(start) if start else fakeai())
            found = check(server)
            print(json.dumps({**found, "limits": [repr(limit) for limit in server.limits]}))
            right &= found["right"]
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
