"""A process of the server, tritonserver or a model's, is killed (SIGKILL) or stopped (SIGSTOP) at random moments of a
mixed load.

What was acknowledged is there when the server is ready again, and found; every answer is one that the documents allow;
every call ends, and those that nobody retries are told that the server is unavailable long before their deadlines; and
the launcher says that the server is not ready until it is.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from probes import Probes
from servers import new_server

from benchmarks.crash import Fault, FaultOutcome, Outcome, table
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

SIGNALS: dict[Fault, signal.Signals] = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}

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


def test_faults_lose_nothing_acknowledged_and_harm_no_answer(
    repository: Path,
    tmp_path: Path,
    crash_faults: list[Fault],
    crash_results: Path | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The faults are no crash loop, in which starts would wait.
    monkeypatch.setattr(supervisor, "_SOON_S", 0.0)
    rng = random.Random(0)
    rows: Rows = {}
    outcome = Outcome(call_s=CALL_S)
    with new_server(repository, tmp_path / "store") as server, Client(server.address, timeout_s=60) as client:
        client.create_collection("c", codec="float32")
        for i, fault in enumerate(crash_faults):
            load = Load(server.address, rows, i + 1)
            probes = Probes(server.address, "c", HUNG_S)
            time.sleep(rng.uniform(0.2, 1.5))
            name, victim = rng.choice(sorted(processes(server.pid).items()))
            victim.send_signal(SIGNALS[fault])
            began = time.monotonic()
            detected_s = _until(server, False, began)
            recovered_s = _until(server, True, began)
            load.end()
            ended = probes.end()
            rows = _check(client, [load.rows, load.after])
            assert load.wrong == []
            assert all(isinstance(error, (Unavailable, Timeout, Overloaded)) for error in load.failures), load.failures
            assert {probe.status for probe in ended} <= {"OK", "UNAVAILABLE"}
            # Two seconds are what is promised; a busy machine may take longer to look.
            assert detected_s < HUNG_S / 4
            refused = [probe for probe in ended if probe.status == "UNAVAILABLE"]
            noticed = began + detected_s
            outcome.faults.append(
                FaultOutcome(
                    fault=fault,
                    process=name,
                    not_ready_s=detected_s,
                    ready_s=recovered_s,
                    refused_before_s=[probe.seconds for probe in refused if probe.began_s < noticed],
                    refused_after_s=[probe.seconds for probe in refused if probe.began_s >= noticed],
                )
            )
            outcome.acknowledged.update(load.acknowledged)
            outcome.failed.update(type(error).__name__ for error in load.failures)
            outcome.searches += load.searches
            outcome.longest_s = max(outcome.longest_s, load.longest_s)
    assert processes_naming(tmp_path / "store") == []
    assert outcome.acknowledged.total() > 0
    with capsys.disabled():
        print(f"\n{table(outcome)}")
    if crash_results:
        crash_results.write_text(outcome.model_dump_json())


def _until(server: TritonServer, ready: bool, began: float) -> float:
    """Waits until the server is ready, or is not, and says after how many seconds that was."""
    while server.is_ready != ready:
        assert time.monotonic() < began + 10 * HUNG_S
        time.sleep(0.005)
    return time.monotonic() - began


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
