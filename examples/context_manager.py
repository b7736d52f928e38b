"""The context manager: reserve what you expect, settle what it was."""

from __future__ import annotations

from common import provider

from limiter import Limiter, Quota, WaitTimeout, estimate

limiter = Limiter(quotas=[Quota("gpt-4o-mini", rpm=500, tpm=30_000)])
body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]}
cost = estimate("/v1/chat/completions", body)

with provider() as client:
    try:
        with limiter.reserve("gpt-4o-mini", cost, timeout=30) as reservation:
            response = client.chat.completions.create(**body)
            reservation.settle(response)
    except WaitTimeout as late:
        print("Too many ahead:", late)
    else:
        print("estimated", reservation.estimate, "used", response.usage.total_tokens)
limiter.close()
