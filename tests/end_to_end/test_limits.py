"""A server with little memory and a damaged collection: typed errors with the reason, and the rest is served."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import new_server

from tridex.client import Client, Document, ResourceExhausted, ServerError
from tridex.index import Store


def documents(first: int, count: int) -> list[Document]:
    return [Document(f"d{i:03}", f"document {i} of some words about rivers") for i in range(first, first + count)]


def test_little_memory_and_damaged_files(repository: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    budget = 1_000_000
    with new_server(repository, store, memory_budget=budget) as server, Client(server.address, timeout_s=60) as client:
        client.upsert("damaged", documents(0, 4))
        client.upsert("other", documents(0, 4))
        count = 0
        with pytest.raises(ResourceExhausted, match=r"^collection 'c' needs .* of the budget of 1\.00 MB"):
            while count < 1000:
                client.upsert("c", documents(count, 16), batch_size=16)
                count += 16
        assert 0 < client.count("c") == count
        assert len(client.search("c", "rivers", top_k=1000)) == count
        assert client.upsert("other", documents(0, 4)) and len(client.search("other", "rivers")) == 4
    for file in (Store(store).resolve("damaged").folder / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    for manifest in (Store(store).resolve("other").folder / "_versions").glob("*.manifest"):
        manifest.write_bytes(manifest.read_bytes()[:20])
    # A quarter of the memory: what was written does not fit any more.
    with (
        new_server(repository, store, memory_budget=budget // 4) as server,
        Client(server.address, timeout_s=60) as client,
    ):
        with pytest.raises(ResourceExhausted, match=r"^collection 'c' needs .* of the budget of 250\.00 kB"):
            client.search("c", "rivers")
        with pytest.raises(ServerError, match="collection 'damaged' cannot be read"):
            client.search("damaged", "rivers")
        assert client.count("c") == count
        client.upsert("new", documents(0, 2))
        assert len(client.search("new", "rivers")) == 2
        listed = {info.name: info for info in client.collections()}
        assert listed["c"].count == count and listed["new"].count == 2
        assert "collection 'other' cannot be read" in listed["other"].damage
