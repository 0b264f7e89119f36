"""A writer is killed with SIGKILL at random moments: the store holds what was acknowledged, and no half of anything."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import crash_writer
import numpy as np
import pytest
import torch
from crash_writer import IDS, NAME, OPERATIONS, SPEC, Operation, Rows, document, embeddings_of, write_until_killed

from tridex.index import Collection, Follower, Store, View

CPU = torch.device("cpu")


@dataclass
class Tally:
    """What the rounds saw."""

    killed_during: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    """Operations that the kill kept from being acknowledged, and that were in the store nevertheless."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    """Compared, over all rounds."""


def test_a_killed_writer_loses_nothing_acknowledged(
    tmp_path: Path, crash_rounds: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = Store(tmp_path / "store").create(NAME, SPEC)
    # Opened once and moved on through everything that the killed writers leave behind.
    follower = Follower(Store(tmp_path / "store"), NAME, CPU, segment_bytes=4096)
    # Writers are forked from a process that has imported everything, which takes two seconds; it needs to find it.
    monkeypatch.setenv("PYTHONPATH", str(Path(crash_writer.__file__).parent))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["crash_writer"])
    rng = random.Random(crash_rounds)
    rows: Rows = {}
    tally = Tally()
    began = time.monotonic()
    for seed in range(crash_rounds):
        journal = tmp_path / f"{seed}.journal"
        journal.touch()
        writer = processes.Process(target=write_until_killed, args=(str(tmp_path / "store"), str(journal), seed))
        writer.start()
        try:
            while not journal.stat().st_size:
                assert writer.is_alive(), "the writer ended by itself"
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.15))
        finally:
            writer.kill()
            writer.join()
        assert writer.exitcode == -9
        acknowledged, in_flight = read_journal(journal)
        for operation in acknowledged:
            rows = operation.after(rows)
            tally.acknowledged[operation.name] += 1
        rows = check_store(collection.latest(), rows, in_flight, tally)
        check_search(Follower(Store(tmp_path / "store"), NAME, CPU).view, rows)
        check_search(follower.refresh(), rows)
        follower.merge()
        check_search(follower.view, rows)
        tally.documents += len(rows)
        journal.unlink()
    assert crash_rounds < 20 or tally.killed_during.keys() >= {"upsert", "compact"}
    with capsys.disabled():
        print(summary(tally, crash_rounds, time.monotonic() - began))


def read_journal(journal: Path) -> tuple[list[Operation], Operation | None]:
    """The operations that were acknowledged, and the one that was not."""
    begun: list[Operation] = []
    acknowledged = 0
    for line in journal.read_text().splitlines():
        said = json.loads(line)
        if "begin" in said:
            begun.append(Operation(*said["begin"]))
        else:
            acknowledged += 1
    return begun[:acknowledged], begun[acknowledged] if len(begun) > acknowledged else None


def check_store(collection: Collection, rows: Rows, in_flight: Operation | None, tally: Tally) -> Rows:
    """The rows that are there: those acknowledged, and all or nothing of what was in flight."""
    found = {doc.id: doc for doc in collection.scroll(limit=len(IDS) + 1)}
    assert collection.count() == len(found)
    there = {key: int(doc.metadata["revision"]) for key, doc in found.items()}
    assert found == {key: document(key, revision) for key, revision in there.items()}
    if in_flight is None:
        tally.killed_during["nothing"] += 1
    else:
        tally.killed_during[in_flight.name] += 1
        if there == in_flight.after(rows) != rows:
            tally.kept[in_flight.name] += 1
            return there
    assert there == rows
    return there


def check_search(view: View, rows: Rows) -> None:
    """Every query finds what multiplying with every survivor finds, and reads the texts of the right revision."""
    rng = np.random.default_rng(len(rows))
    queries = rng.integers(-3, 4, (3, 4, SPEC.dim)).astype(np.float32)
    mask = torch.ones(queries.shape[:2], dtype=torch.bool)
    for query, ranking in zip(queries, view.search(torch.from_numpy(queries), mask, len(IDS)), strict=True):
        scores = {key: float((query @ embeddings_of(key, r).T).max(axis=1).sum()) for key, r in rows.items()}
        expected = sorted((-score, key) for key, score in scores.items())
        assert [(-score, key) for score, key in zip(ranking.scores.tolist(), ranking.ids, strict=True)] == expected
    texts, _ = view.collection.payload(ranking.addresses)
    assert texts == [document(key, rows[key]).text for key in ranking.ids]


def summary(tally: Tally, rounds: int, seconds: float) -> str:
    lines = [
        f"\n{rounds} writers killed in {seconds:.0f} s; {sum(tally.acknowledged.values()):,} acknowledged operations "
        f"and {tally.documents:,} documents checked, nothing lost, no half of a batch seen",
        f"{'operation':<12}{'acknowledged':>14}{'killed during':>15}{'of those kept':>15}",
    ]
    lines += [
        f"{name:<12}{tally.acknowledged[name]:>14,}{tally.killed_during[name]:>15,}{tally.kept[name]:>15,}"
        for name in OPERATIONS
    ]
    lines.append(f"{'(between)':<12}{'':>14}{tally.killed_during['nothing']:>15,}")
    return "\n".join(lines)
