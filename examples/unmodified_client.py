"""An unmodified OpenAI client: every attempt that it makes is limited and settled."""

from __future__ import annotations

from common import provider

from limiter import Limiter, Quota

limiter = Limiter(quotas=[Quota("gpt-4o-mini", rpm=500, tpm=30_000, models=["gpt-4o-mini*"])])

with provider() as client:
    limiter.instrument(client)  # or: OpenAI(http_client=limiter.http_client())
    response = client.chat.completions.create(
        model="gpt-4o-mini-2024-07-18", messages=[{"role": "user", "content": "Say hello."}]
    )
    print(response.choices[0].message.content[:60])
print(limiter.peek("gpt-4o-mini").limits["requests/minute"].level, "requests left this minute")
limiter.close()
