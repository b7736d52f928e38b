"""FastAPI: one limiter for the whole service; who would wait too long gets a 429 with Retry-After.

The wait is known before it begins: a request that cannot be served within the priority's timeout is
answered at once, and takes no place in the line.

Run it with `uvicorn fastapi_app:app`; started as a script it asks itself four questions and ends.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common import async_provider
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from limiter import AsyncLimiter, LineFull, NeverFits, Priority, Quota, WaitTimeout

# Four a minute, three of them at once, so that the script below is refused. Calls that name no
# priority are `default`.
WEB = Priority("default", timeout=5, max_waiting=100)
QUOTA = Quota("web", rpm=4, tpm=30_000, models=["gpt-4o-mini*"], priorities=[WEB])
limiter = AsyncLimiter(quotas=[QUOTA])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the client with the service, close the limiter with it."""
    async with async_provider() as client:
        app.state.client = limiter.instrument(client)
        yield
    await limiter.aclose()


app = FastAPI(lifespan=lifespan)


@app.exception_handler(LineFull)
@app.exception_handler(WaitTimeout)
async def come_again(_: Request, busy: LineFull | WaitTimeout) -> JSONResponse:
    """Say when to come again."""
    retry_after = max(1, math.ceil(busy.wait_s))
    return JSONResponse({"detail": str(busy)}, 429, {"Retry-After": str(retry_after)})


@app.get("/ask")
async def ask(question: str) -> dict[str, str]:
    """Answer a question, after five seconds of waiting at most."""
    try:
        response = await app.state.client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
        )
    except NeverFits as large:
        raise HTTPException(413, str(large)) from large
    return {"answer": response.choices[0].message.content}


if __name__ == "__main__":
    from fastapi.testclient import TestClient

    with TestClient(app) as browser:
        for _ in range(4):
            answer = browser.get("/ask", params={"question": "What is a limiter?"})
            print(answer.status_code, answer.headers.get("retry-after"), answer.text[:60])
