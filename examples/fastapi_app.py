"""FastAPI: one limiter for the whole service; a request that would wait too long gets a 503.

Run it with `uvicorn fastapi_app:app`; started as a script it asks itself one question and ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common import async_provider
from fastapi import FastAPI, HTTPException

from limiter import AsyncLimiter, LimitExceeded, Quota

limiter = AsyncLimiter(quotas=[Quota("gpt-4o-mini", rpm=500, tpm=30_000)])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the client with the service, close the limiter with it."""
    async with async_provider() as client:
        app.state.client = limiter.instrument(client, timeout=5)
        yield
    await limiter.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(question: str) -> dict[str, str]:
    """Answer a question, after five seconds of waiting at most."""
    try:
        response = await app.state.client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
        )
    except LimitExceeded as busy:
        raise HTTPException(503, str(busy), {"retry-after": "10"}) from busy
    return {"answer": response.choices[0].message.content}


if __name__ == "__main__":
    from fastapi.testclient import TestClient

    with TestClient(app) as browser:
        print(browser.get("/ask", params={"question": "What is a limiter?"}).json()["answer"][:60])
