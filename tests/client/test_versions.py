"""Read your own writes: a search names the version of the client's last write."""

from __future__ import annotations

import numpy as np
import pytest

from tridex.client import UpsertResult


@pytest.fixture
def versions(triton):
    """Versions that the fake server gives to the writes to come."""
    to_come: list[int] = []

    def answer(request):
        if request.model == "ingest":
            return {"VERSION": np.full((len(request.inputs["ID"]), 1), to_come.pop(0))}
        found = {"IDS": [["a"]], "SCORES": np.ones((1, 1), np.float32), "TEXTS": [["t"]], "METADATA": [["{}"]]}
        return {name: (found | {"VERSION": np.array([[9]])})[name] for name in request.outputs}

    triton.answer = answer
    return to_come


async def test_a_search_sees_the_last_write(client, triton, versions):
    await client.search("docs", "q")
    assert not {"min_version", "last_write"} & triton.requests[-1].parameters.keys()
    versions += [4, 5, 6]
    await client.upsert("docs", [{"id": str(i), "text": "t"} for i in range(3)], batch_size=2)
    await client.search("docs", "q")
    assert triton.requests[-1].parameters["last_write"] == 5
    await client.delete("docs", ["0"])
    await client.search_batch("docs", ["q"])
    assert triton.requests[-1].parameters["last_write"] == 6
    await client.rerank("q", collection="docs", ids=["a"])
    assert triton.requests[-1].parameters["last_write"] == 6


async def test_other_collections_and_explicit_versions_are_left_alone(client, triton, versions):
    versions += [4]
    await client.upsert("docs", [{"id": "a", "text": "t"}])
    await client.search("other", "q")
    assert not {"min_version", "last_write"} & triton.requests[-1].parameters.keys()
    await client.search("docs", "q", min_version=np.int64(2))
    assert triton.requests[-1].parameters["min_version"] == 2 and "last_write" not in triton.requests[-1].parameters
    await client.search("docs", "q", min_version=0)
    assert triton.requests[-1].parameters["min_version"] == 0


async def test_a_failed_stream_remembers_what_it_wrote(client, triton, versions):
    versions += [4]

    def documents():
        yield {"id": "a", "text": "t"}
        raise RuntimeError("source ran dry")

    with pytest.raises(RuntimeError, match="source ran dry"):
        await client.upsert("docs", documents(), batch_size=1)
    await client.search("docs", "q")
    assert triton.requests[-1].parameters["last_write"] == 4


async def test_nothing_to_write_answers_with_the_last_write(client, versions):
    versions += [4]
    await client.upsert("docs", [{"id": "a", "text": "t"}])
    assert await client.upsert("docs", iter([])) == UpsertResult(4)


async def test_an_alias_shows_what_was_written_before_it_was_set(client, triton, versions):
    versions += [4, 4]
    await client.upsert("docs", [{"id": "a", "text": "t"}])
    await client.set_alias("live", "docs")
    await client.search("live", "q")
    assert triton.requests[-1].parameters["last_write"] == 4
