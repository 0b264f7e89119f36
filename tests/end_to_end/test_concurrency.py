"""Many clients at once read and write: each answer is of one version, and the server ends and leaves nothing behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from servers import new_server

from tridex.client import Client, Document, Overloaded, SearchResult, TridexError
from tridex.serving.server.leftovers import own_prefix

CLIENTS = 32
SECONDS = 20
MODES = ("maxsim", "hybrid", "bm25")


def test_32_clients_search_upsert_and_delete(repository: Path, tmp_path: Path) -> None:
    regions_before = shared_memory()
    with new_server(repository, tmp_path / "store") as server:
        with Client(server.address, timeout_s=60) as client:
            client.create_collection("shared", fields={"worker": "int"})
            client.upsert("shared", [Document(f"fixed-{i}", f"fixed document {i}", {}) for i in range(20)])
        failures: list[str] = []
        survivors: dict[str, str] = {}
        seen = Versions()
        deadline = time.monotonic() + SECONDS
        threads = [
            threading.Thread(target=_work, args=(server.address, i, deadline, failures, survivors, seen))
            for i in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(seen.documents) > SECONDS
        with Client(server.address, timeout_s=60) as client:
            assert client.is_ready()
            assert client.count("shared") == 20 + len(survivors)
            stored = client.get("shared", list(survivors))
            assert {document.id: document.text for document in stored if document} == survivors
        server.stop()
    assert shared_memory() == regions_before


class Versions:
    """What each version of the collection held, by the searches that saw it."""

    def __init__(self) -> None:
        self.documents: dict[int, dict[str, str | None]] = {}
        self._lock = threading.Lock()

    def agrees(self, result: SearchResult, with_fixed: bool) -> bool:
        """Whether a search for everything, or for all that workers wrote, saw what others of its version saw."""
        documents = {hit.id: hit.text for hit in result if not hit.id.startswith("fixed")}
        if with_fixed and len(result) != len(documents) + 20:
            return False
        with self._lock:
            return self.documents.setdefault(result.version, documents) == documents


def _written_by(worker: int) -> dict[str, object]:
    return {"field": "worker", "operator": "==", "value": worker}


def _work(
    address: str, worker: int, deadline: float, failures: list[str], survivors: dict[str, str], versions: Versions
) -> None:
    """Writes and deletes documents of its own and checks that each of its searches sees exactly what it wrote.

    A search asks for more documents than there are, so that all searches of one version must see the same: but those
    that no worker wrote, which hold no word of the query and are not found by BM25.
    """
    mine: dict[str, str] = {}
    step = 0
    with Client(address, timeout_s=60) as client:
        while time.monotonic() < deadline:
            step += 1
            key = f"w{worker}-{step % 3}"
            try:
                if worker == 0 and step % 7 == 6:
                    client.compact("shared")
                if step % 5 == 4 and key in mine:
                    version = client.delete("shared", [key]).version
                    del mine[key]
                else:
                    text = f"worker {worker} wrote revision {step}"
                    version = client.upsert("shared", [Document(key, text, {"worker": worker})]).version
                    mine[key] = text
                mode = MODES[step % len(MODES)]
                result = client.search("shared", f"worker {worker} wrote", top_k=200, mode=mode)
                own = result
                if step % 2:
                    own = client.search("shared", f"worker {worker} wrote", filters=_written_by(worker), mode=mode)
                    if {hit.id: hit.text for hit in own} != mine:
                        failures.append(f"worker {worker} step {step} {mode}: filtered {own}, wrote {mine}")
            except Overloaded:
                continue
            except TridexError as error:
                failures.append(f"worker {worker} step {step}: {error!r}")
                continue
            if not versions.agrees(result, with_fixed=mode != "bm25"):
                failures.append(f"worker {worker} step {step}: version {result.version} was another to another search")
            if min(result.version, own.version) < version:
                failures.append(f"worker {worker} step {step}: wrote {version}, saw {result.version}, {own.version}")
            for found in (result, own):
                ids = [hit.id for hit in found]
                seen = {hit.id: hit.text for hit in found if hit.id.startswith(f"w{worker}-")}
                scores = [hit.score for hit in found]
                if len(set(ids)) != len(ids) or seen != mine or scores != sorted(scores, reverse=True):
                    failures.append(f"worker {worker} step {step} {mode}: saw {seen}, wrote {mine}")
    survivors.update(mine)


def shared_memory() -> set[str]:
    """Of servers that this process started."""
    return {path.name for path in Path("/dev/shm").glob(f"{own_prefix()}*")}
