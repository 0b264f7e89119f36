"""A service of FastAPI that searches, one client for all of its requests; and 50 users at once who ask it.

uvicorn examples.async_service:app              # the server's address is in TRIDEX_ADDRESS
python -m examples.async_service --address localhost:8001
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, HTTPException

from examples.passages import PASSAGES, QUESTION
from tridex.client import AsyncClient, Document, Overloaded

COLLECTION = "async-service"
USERS = 50


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient(os.environ.get("TRIDEX_ADDRESS", "localhost:8001")) as client:
        app.state.tridex = client
        await client.upsert(COLLECTION, [Document(name, text) for name, text in PASSAGES.items()])
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/search")
async def search(query: str, top_k: int = 3) -> list[dict[str, object]]:
    try:
        hits = await app.state.tridex.search(COLLECTION, query, top_k=top_k)
    except Overloaded as error:
        raise HTTPException(503, str(error)) from error
    return [{"id": hit.id, "score": hit.score, "text": hit.text} for hit in hits]


async def users() -> None:
    transport = httpx.ASGITransport(app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as http:
        answers = await asyncio.gather(*(http.get("/search", params={"query": QUESTION}) for _ in range(USERS)))
        print(f"{USERS} users: {answers[0].raise_for_status().json()[0]}")
        assert all(answer.json()[0]["id"] == "maxsim" for answer in answers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="localhost:8001")
    os.environ["TRIDEX_ADDRESS"] = parser.parse_args().address
    asyncio.run(users())
