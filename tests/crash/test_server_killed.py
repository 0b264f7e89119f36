"""The server is killed with SIGKILL at random moments: what it acknowledged is there when it is back, and found."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from servers import new_server

from tridex.client import Client, Document, TridexError
from tridex.export import export_checkpoint

IDS = [f"d{i:02}" for i in range(40)]
WORDS = ("red", "planet", "moon", "ring", "dust", "ice", "giant", "rock")

Rows = dict[str, int]
"""The revision of each document."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    checkpoint = checkpoints.make(tmp_path_factory.mktemp("checkpoint"), "pylate_modern_bert")
    export_checkpoint(str(checkpoint), repository=folder)
    return folder


def text(key: str, revision: int) -> str:
    return " ".join(random.Random(f"{key} {revision}").choices(WORDS, k=6))


class Writer(threading.Thread):
    """Writes until the server is gone; `rows` is what was acknowledged, `after` what the last write makes of it."""

    def __init__(self, address: str, rows: Rows, seed: int) -> None:
        super().__init__()
        self.rows = rows
        self.after = rows
        self.doing = "upsert"
        self.acknowledged: Counter[str] = Counter()
        self._address = address
        self._rng = random.Random(seed)
        self._revision = seed * 10_000

    def run(self) -> None:
        with Client(self._address, timeout_s=3) as client:
            while True:
                some = self._rng.sample(IDS, self._rng.randint(1, 8))
                self._revision += 1
                self.doing = self._rng.choices(["upsert", "delete", "compact"], [4, 2, 1])[0]
                try:
                    if self.doing == "upsert":
                        written = dict.fromkeys(some, self._revision)
                        self.after = self.rows | written
                        client.upsert("c", [Document(key, text(*row), {}) for key, row in _pairs(written)])
                    elif self.doing == "delete":
                        self.after = {key: row for key, row in self.rows.items() if key not in some}
                        client.delete("c", some)
                    else:
                        self.after = self.rows
                        client.compact("c")
                except TridexError:
                    return
                self.rows = self.after
                self.acknowledged[self.doing] += 1


def _pairs(rows: Rows) -> list[tuple[str, tuple[str, int]]]:
    return [(key, (key, revision)) for key, revision in rows.items()]


def test_a_killed_server_loses_nothing_acknowledged(
    repository: Path, tmp_path: Path, crash_rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: Rows = {}
    expected = [rows]
    killed_during: Counter[str] = Counter()
    acknowledged: Counter[str] = Counter()
    rng = random.Random(0)
    rounds = max(crash_rounds // 14, 3)
    for life in range(rounds + 1):
        server = new_server(repository, tmp_path / "store")
        server.start()
        try:
            with Client(server.address, timeout_s=60) as client:
                if not life:
                    client.create_collection("c", codec="float32")
                rows = _check(client, expected)
            if life == rounds:
                break
            writer = Writer(server.address, rows, life)
            writer.start()
            time.sleep(rng.uniform(0.2, 2.0))
            os.kill(server.pid, signal.SIGKILL)
            server.stop()  # before it is started again
            writer.join()
        finally:
            server.stop()
        assert processes_naming(tmp_path / "store") == []
        expected = [writer.rows, writer.after]
        killed_during[writer.doing] += 1
        acknowledged += writer.acknowledged
    with capsys.disabled():
        print(
            f"\nserver killed {rounds} times, during {_counts(killed_during)}; {acknowledged.total():,} acknowledged "
            f"operations checked ({_counts(acknowledged)}), nothing lost, no half of a batch seen"
        )
    assert acknowledged.total() > 0


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"


def _check(client: Client, expected: list[Rows]) -> Rows:
    """The stored rows, which are one of those expected, all found by scores that numpy gets from the same tokens."""
    texts = {document.id: document.text for document in client.scroll("c", limit=len(IDS) + 1)}
    (rows,) = [rows for rows in expected if texts == {key: text(*row) for key, row in _pairs(rows)}][:1]
    assert client.count("c") == len(rows)
    query = "the ring of a giant planet"
    found = {hit.id: hit.score for hit in client.search("c", query, top_k=len(IDS) + 1)}
    assert found.keys() == rows.keys()
    if rows:
        tokens = dict(zip(texts, client.encode_document(list(texts.values())), strict=True))
        asked = client.encode_query(query)
        scores = {key: float((asked @ array.T).max(axis=1).sum()) for key, array in tokens.items()}
        np.testing.assert_allclose([found[key] for key in scores], list(scores.values()), rtol=1e-4, atol=1e-4)
    return rows


def processes_naming(store: Path) -> list[str]:
    """Command lines of processes whose environment names this store: the server's own."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(store).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found
