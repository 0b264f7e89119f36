"""A process of the server is killed with SIGKILL at random moments of a mixed load: tritonserver, or a model's.

What was acknowledged is there when the server is ready again, and found; every answer is one that the documents allow;
every call ends; and the launcher says that the server is not ready until it is.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from servers import new_server

from benchmarks.processes import processes
from tridex.client import Client, Document, Overloaded, Timeout, TridexError, Unavailable
from tridex.export import export_checkpoint
from tridex.serving.server import TritonServer, supervisor

IDS = [f"d{i:02}" for i in range(40)]
WORDS = ("red", "planet", "moon", "ring", "dust", "ice", "giant", "rock")
QUERY = "the ring of a giant planet"
SEARCHERS = 2
CALL_S = 3
"""What a call is allowed."""
HUNG_S = 60.0
"""A call that takes so long hangs, on the slowest machine too."""

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


class Load:
    """One writer and some searchers, from a kill to the next. Each ends with its first call that fails.

    `rows` is what was acknowledged, `after` what the last write makes of it.
    """

    def __init__(self, address: str, rows: Rows, seed: int) -> None:
        self.rows = rows
        self.after = rows
        self.doing = "upsert"
        self.acknowledged: Counter[str] = Counter()
        self.searches = 0
        self.failures: list[TridexError] = []
        self.longest_s = 0.0
        self.wrong: list[str] = []
        self._address = address
        self._rng = random.Random(seed)
        self._revision = seed * 10_000
        self._written = {key: {text(key, revision)} for key, revision in rows.items()}
        """Every text that was sent under an id: those that a search may answer with."""
        self._stop = threading.Event()
        targets = [self._write, *[self._search] * SEARCHERS]
        self._threads = [threading.Thread(target=self._run, args=(target,), daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Returns when every call has ended. Fails the test where one hangs."""
        self._stop.set()
        for thread in self._threads:
            thread.join(HUNG_S)
            assert not thread.is_alive(), "a call hangs"

    def _run(self, step: Callable[[Client], None]) -> None:
        with Client(self._address, timeout_s=CALL_S) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    step(client)
                except TridexError as error:
                    self.failures.append(error)
                    return
                finally:
                    self.longest_s = max(self.longest_s, time.monotonic() - began)

    def _write(self, client: Client) -> None:
        some = self._rng.sample(IDS, self._rng.randint(1, 8))
        self._revision += 1
        self.doing = self._rng.choices(["upsert", "delete", "compact"], [4, 2, 1])[0]
        if self.doing == "upsert":
            self.after = self.rows | dict.fromkeys(some, self._revision)
            documents = [Document(key, text(key, self._revision), {}) for key in some]
            for document in documents:
                self._written.setdefault(document.id, set()).add(document.text)
            client.upsert("c", documents)
        elif self.doing == "delete":
            self.after = {key: row for key, row in self.rows.items() if key not in some}
            client.delete("c", some)
        else:
            self.after = self.rows
            client.compact("c")
        self.rows = self.after
        self.acknowledged[self.doing] += 1

    def _search(self, client: Client) -> None:
        hits = client.search("c", QUERY, top_k=len(IDS) + 1)
        scores = [hit.score for hit in hits]
        if scores != sorted(scores, reverse=True) or len({hit.id for hit in hits}) < len(scores):
            self.wrong.append(f"not a ranking: {hits}")
        self.wrong += [f"never written: {hit}" for hit in hits if hit.text not in self._written.get(hit.id, ())]
        self.searches += 1


def test_kills_lose_nothing_acknowledged_and_harm_no_answer(
    repository: Path,
    tmp_path: Path,
    crash_kills: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The kills are no crash loop, in which starts would wait.
    monkeypatch.setattr(supervisor, "_SOON_S", 0.0)
    rng = random.Random(0)
    rows: Rows = {}
    killed: Counter[str] = Counter()
    acknowledged: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    detected_s, recovered_s = [], []
    searches, longest_s = 0, 0.0
    with new_server(repository, tmp_path / "store") as server, Client(server.address, timeout_s=60) as client:
        client.create_collection("c", codec="float32")
        for kill in range(crash_kills):
            load = Load(server.address, rows, kill + 1)
            time.sleep(rng.uniform(0.2, 1.5))
            name, victim = rng.choice(sorted(processes(server.pid).items()))
            victim.kill()
            began = time.monotonic()
            detected_s.append(_until(server, False, began))
            recovered_s.append(_until(server, True, began))
            load.end()
            rows = _check(client, [load.rows, load.after])
            assert load.wrong == []
            assert all(isinstance(error, (Unavailable, Timeout, Overloaded)) for error in load.failures), load.failures
            killed[name] += 1
            acknowledged += load.acknowledged
            failed.update(type(error).__name__ for error in load.failures)
            searches += load.searches
            longest_s = max(longest_s, load.longest_s)
    assert processes_naming(tmp_path / "store") == []
    with capsys.disabled():
        print(
            f"\n{crash_kills} kills ({_counts(killed)}): {acknowledged.total():,} acknowledged operations "
            f"({_counts(acknowledged)}) and {searches:,} searches checked, nothing lost, no wrong answer, no hung "
            f"call; {_counts(failed)} of clients that were allowed {CALL_S} s, the longest call {longest_s:.1f} s\n"
            f"not ready after {_percentiles(detected_s)}; ready again after {_percentiles(recovered_s)}"
        )
    assert acknowledged.total() > 0


def _until(server: TritonServer, ready: bool, began: float) -> float:
    """Waits until the server is ready, or is not, and says after how many seconds that was."""
    while server.is_ready != ready:
        assert time.monotonic() < began + 10 * HUNG_S
        time.sleep(0.005)
    return time.monotonic() - began


def _percentiles(seconds: list[float]) -> str:
    p50, p99 = np.percentile(seconds, [50, 99])
    return f"{p50:.2f} s (p50), {p99:.2f} s (p99), {max(seconds):.2f} s (longest)"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"


def _check(client: Client, expected: list[Rows]) -> Rows:
    """The stored rows, which are one of those expected, all found by scores that numpy gets from the same tokens."""
    texts = {document.id: document.text for document in client.scroll("c", limit=len(IDS) + 1)}
    (rows,) = [rows for rows in expected if texts == {key: text(key, row) for key, row in rows.items()}][:1]
    assert client.count("c") == len(rows)
    found = {hit.id: hit.score for hit in client.search("c", QUERY, top_k=len(IDS) + 1)}
    assert found.keys() == rows.keys()
    if rows:
        tokens = dict(zip(texts, client.encode_document(list(texts.values())), strict=True))
        asked = client.encode_query(QUERY)
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
