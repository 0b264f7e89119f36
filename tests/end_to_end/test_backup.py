"""Backups and checks of a store that a server writes to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import torch
from eventually import eventually

from tridex.client import Client, Document
from tridex.index import Follower, Store, back_up, check_store, restore
from tridex.serving.server import TritonServer

TRIDEX = str(Path(sys.executable).with_name("tridex"))
NAME = "backed-up"
QUESTION = "a red planet"


def test_a_backup_beside_the_server_restores_to_the_same_answers(
    server: TritonServer, client: Client, tmp_path: Path
) -> None:
    store, stop = Store(server.store), threading.Event()
    before = [Document(f"b{i}", f"planet {i} is red", {}) for i in range(20)]
    client.upsert(NAME, before)

    def write() -> None:
        with Client(server.address, timeout_s=120) as other:
            for turn in range(10_000):
                if stop.is_set():
                    return
                other.upsert(NAME, [Document(f"w{turn % 7}", f"turn {turn}", {})])
                other.delete(NAME, [f"w{(turn + 3) % 7}"])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        back_up(store, tmp_path / "backups")
        assert [c for c in check_store(store).corrupt if c.collection == NAME] == []
    finally:
        stop.set()
        writer.join()
    restore(tmp_path / "backups", tmp_path / "during")
    restored = Store(tmp_path / "during").open(NAME).get([document.id for document in before])
    assert [document and document.text for document in restored] == [document.text for document in before]

    back_up(store, tmp_path / "backups")
    restore(tmp_path / "backups", tmp_path / "after")
    snapshot = Follower(Store(tmp_path / "after"), NAME, torch.device("cpu")).snapshot
    query = torch.from_numpy(client.encode_query(QUESTION))
    found = snapshot.search(query[None], torch.ones((1, len(query)), dtype=torch.bool), 100)[0]
    hits = client.search(NAME, QUESTION, top_k=100)
    assert found.ids == [hit.id for hit in hits]
    np.testing.assert_allclose(found.scores, [hit.score for hit in hits], rtol=1e-4)
    # The server records the sums behind its writes.
    collection = store.open(NAME)
    eventually(lambda: {*collection.latest().files()} <= {*_recorded(collection.folder)})


def _recorded(folder: Path) -> list[str]:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    return [line.split("  ", 1)[1] for line in lines]


def test_a_full_disk_or_a_store_that_is_served_is_one_clear_line(
    server: TritonServer, client: Client, tmp_path: Path
) -> None:
    """A backup that finds no room, and a restore over the store of a running server, which is newer."""
    client.upsert(NAME, [Document("kept", "what was there before")])
    backups = tmp_path / "backups"

    def run(command: str, *options: str, full: bool = False) -> subprocess.CompletedProcess[str]:
        shell = ["bash", "-c", f'{"ulimit -f 1; " if full else ""}exec "$@"', "_"]  # files of 1 KiB at most
        told = [TRIDEX, "store", command, str(backups), "--store", str(server.store), *options]
        return subprocess.run([*shell, *told], capture_output=True, text=True, check=False, timeout=120)

    made = json.loads(run("backup", "--json").stdout)
    client.upsert(NAME, [Document("newer", "what came after the backup")])
    full = run("backup", full=True)
    assert (full.returncode, full.stdout) == (1, "") and "Traceback" not in full.stderr
    assert full.stderr.splitlines()[-1].startswith(f"tridex: the backup in {backups} cannot be written (")
    assert [backup.name for backup in (backups / "backups").glob("2*")] == [made["name"]]

    over = run("restore")
    assert (over.returncode, over.stdout) == (1, "") and "Traceback" not in over.stderr
    assert over.stderr.splitlines()[-1].startswith(
        f"tridex: {server.store} holds something, and a restore writes over nothing"
    )
    assert client.get(NAME, ["kept", "newer"]) == [
        Document("kept", "what was there before"),
        Document("newer", "what came after the backup"),
    ]
