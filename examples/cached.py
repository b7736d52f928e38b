"""A cache before the limit: five threads ask the same, one call is made, and a stream has its answer, too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from common import provider

from limiter import Limiter, Quota
from limiter.cache import Cache

limiter = Limiter(quotas=[Quota("gpt-4o", rpm=500, tpm=30_000)])
asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}

with provider() as client, Cache(namespace="example", ttl=10) as cache:
    limiter.instrument(client, cache=cache)
    raw = client.chat.completions.with_raw_response

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: raw.create(**asked), range(5)))
    print("five calls:", sorted(each.headers.get("x-limiter-cache", "asked") for each in answers))
    words = answers[0].parse().choices[0].message.content

    stream = client.chat.completions.create(**asked, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    print(f"a stream of {len(pieces)} chunks, with the same words: {''.join(pieces) == words}")

    stats = cache.stats()
    print(f"saved: {stats.requests_saved} requests, {stats.tokens_saved} tokens")
print(limiter.peek("gpt-4o").limits["requests/minute"].level, "requests left this minute")
limiter.close()
