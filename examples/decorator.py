"""The decorator: a function runs when its cost is granted, and settles by what it returns."""

from __future__ import annotations

from common import provider

from limiter import Limiter, Quota, rate_limited

limiter = Limiter(quotas=[Quota("gpt-4o-mini", rpm=500, tpm=30_000)])

with provider() as client:

    @rate_limited("gpt-4o-mini", limiter=limiter)
    def ask(messages):
        return client.chat.completions.create(model="gpt-4o-mini", messages=messages)

    for question in ("What is a token bucket?", "And a leaky one?"):
        answer = ask([{"role": "user", "content": question}])
        print(question, "→", answer.usage.total_tokens, "tokens")

print(limiter.peek("gpt-4o-mini").limits["tokens/minute"].level, "tokens left this minute")
limiter.close()
