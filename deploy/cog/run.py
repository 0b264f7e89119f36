"""Reranks texts by MaxSim, with a Tridex server in the same container."""

from __future__ import annotations

import subprocess
from typing import TypedDict

import cog
from cog import Input

from tridex.client import AsyncClient


class Ranked(TypedDict):
    """A document's place in the input, and its score."""

    index: int
    score: float


class Runner(cog.BaseRunner):
    """What Replicate calls."""

    def setup(self) -> None:
        """Returns when the server is ready."""
        folders = ["--repository", "/opt/tridex-repository", "--store", "/tmp/store"]
        self._server = subprocess.Popen(["tridex", "serve", *folders, "--json"], stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        if not self._server.stdout.readline():  # printed once it is ready
            raise RuntimeError("the server did not start: the log above says why")

    @cog.concurrent(max=32)
    async def run(
        self,
        query: str = Input(description="What is searched for."),
        documents: list[str] = Input(description="The texts to rank."),  # noqa: B008 - Cog reads defaults
        top_n: int = Input(description="How many of the best ones.", default=10, ge=1),
    ) -> list[Ranked]:
        """The best documents, best first."""
        async with AsyncClient("127.0.0.1:8001") as client:
            ranked = await client.rerank(query, documents, top_n=top_n)
        return [Ranked(index=hit.index, score=hit.relevance_score) for hit in ranked]
