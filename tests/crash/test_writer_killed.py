"""A writer is killed with SIGKILL at random moments: the store holds what was acknowledged, and no half of anything."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import crash_writer
import numpy as np
import pytest
import torch
from crash_build import ALIAS, KEYS, built, name_of
from crash_writer import IDS, NAME, OPERATIONS, SPEC, Operation, Rows, document, embeddings_of, write_until_killed

from tridex.index import Collection, Follower, Snapshot, Store

CPU = torch.device("cpu")
AIMS = ("upsert", "compact", "build")
"""What has to be killed at least once."""


@dataclass
class Tally:
    """What the rounds saw."""

    killed_during: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    """Operations that the kill kept from being acknowledged, and that were in the store nevertheless."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    """Builds that went on behind what a killed process had committed."""
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
    builds = Builds()
    unfinished: Operation | None = None
    tally = Tally()
    began = time.monotonic()
    for seed in range(crash_rounds):
        journal = tmp_path / f"{seed}.journal"
        journal.touch()
        arguments = (str(tmp_path / "store"), str(journal), seed, unfinished)
        writer = processes.Process(target=write_until_killed, args=arguments)
        writer.start()
        try:
            # Every other kill is aimed, as what is in flight would be left to chance.
            aim = AIMS[seed // 2 % len(AIMS)] if seed % 2 else None
            while not is_begun(journal, aim):
                assert writer.is_alive(), "the writer ended by itself"
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.005 if aim else 0.15))
        finally:
            writer.kill()
            writer.join()
        assert writer.exitcode == -9
        life = read_journal(journal)
        for operation in life.acknowledged:
            rows = operation.after(rows)
            tally.acknowledged[operation.name] += 1
        builds.check_encoded(life, tally)
        rows = check_store(collection.latest(), rows, life.in_flight, tally)
        check_search(Follower(Store(tmp_path / "store"), NAME, CPU).snapshot, rows)
        check_search(follower.refresh(), rows)
        follower.merge()
        check_search(follower.snapshot, rows)
        unfinished = builds.check_store(Store(tmp_path / "store"), life, tally)
        tally.documents += len(rows)
        journal.unlink()
    assert crash_rounds < 20 or tally.killed_during.keys() >= set(AIMS)
    with capsys.disabled():
        print(summary(tally, crash_rounds, time.monotonic() - began))


class Life(NamedTuple):
    """What a writer did before it was killed."""

    acknowledged: list[Operation]
    in_flight: Operation | None
    encoded: dict[int, list[str]]
    """The documents that were encoded for each build."""


def is_begun(journal: Path, name: str | None) -> bool:
    """Whether the writer is at that operation, or at any."""
    last_line = journal.read_text().rstrip().rpartition("\n")[2]
    return last_line.startswith(f'{{"begin": ["{name}"') if name else bool(last_line)


def read_journal(journal: Path) -> Life:
    begun: list[Operation] = []
    acknowledged = 0
    encoded: dict[int, list[str]] = {}
    for line in journal.read_text().splitlines():
        match json.loads(line):
            case {"begin": operation}:
                begun.append(Operation(*operation))
            case {"encoded": [revision, key]}:
                encoded.setdefault(revision, []).append(key)
            case _:
                acknowledged += 1
    return Life(begun[:acknowledged], begun[acknowledged] if len(begun) > acknowledged else None, encoded)


class Builds:
    """What the builds left: the one that the alias leads to, and how far the unfinished one came."""

    def __init__(self) -> None:
        self._revision: int | None = None
        self._committed: dict[int, int] = {}

    def check_encoded(self, life: Life, tally: Tally) -> None:
        """A build that goes on encodes what was not committed, and nothing else."""
        done = [operation.revision for operation in life.acknowledged if operation.name == "build"]
        for revision in {*done, *life.encoded}:
            encoded = life.encoded.get(revision, [])
            committed = self._committed.get(revision, 0)
            missing = KEYS[committed:]
            assert encoded == (missing if revision in done else missing[: len(encoded)])
            tally.resumed += bool(encoded) and committed > 0
        self._revision = done[-1] if done else self._revision

    def check_store(self, store: Store, life: Life, tally: Tally) -> Operation | None:
        """The build that has to go on, if one was killed. Finished collections are whole; so is the alias."""
        operation = life.in_flight if life.in_flight and life.in_flight.name == "build" else None
        leads = store.aliases().get(ALIAS)
        if operation and leads == name_of(operation.revision):
            tally.kept["build"] += self._revision != operation.revision
            self._revision = operation.revision
        assert leads == (None if self._revision is None else name_of(self._revision))
        for name in built(store):
            rows = dict.fromkeys(KEYS, int(name.rpartition("-")[2]))
            snapshot = Follower(store, name, CPU).snapshot
            check_search(snapshot, rows)
            assert [snapshot.search_texts(key, 2).ids for key in KEYS] == [[key] for key in KEYS]
            tally.documents += len(rows)
        if operation is not None:
            self._committed[operation.revision] = _committed(store, operation.revision)
        return operation


def _committed(store: Store, revision: int) -> int:
    """How many of the build's documents are in the store: always the first ones of the source."""
    if name_of(revision) in built(store):
        return len(KEYS)
    build = store.resume_build(name_of(revision))
    if build is None:
        return 0
    with build:
        documents = build.collection.scroll(limit=len(KEYS) + 1)
        assert documents == [document(key, revision) for key in KEYS[: len(documents)]]
        return len(documents)


def check_store(collection: Collection, rows: Rows, in_flight: Operation | None, tally: Tally) -> Rows:
    """The stored rows: those acknowledged, and all or nothing of what was in flight."""
    found = {doc.id: doc for doc in collection.scroll(limit=len(IDS) + 1)}
    assert collection.count() == len(found)
    rows_found = {key: int(doc.metadata["revision"]) for key, doc in found.items()}
    assert found == {key: document(key, revision) for key, revision in rows_found.items()}
    if in_flight is None:
        tally.killed_during["nothing"] += 1
    else:
        tally.killed_during[in_flight.name] += 1
        if rows_found == in_flight.after(rows) != rows:
            tally.kept[in_flight.name] += 1
            return rows_found
    assert rows_found == rows
    return rows_found


def check_search(snapshot: Snapshot, rows: Rows) -> None:
    """Every query finds what multiplying with every survivor finds, and reads the texts of the right revision."""
    rng = np.random.default_rng(len(rows))
    queries = rng.integers(-3, 4, (3, 4, SPEC.dim)).astype(np.float32)
    mask = torch.ones(queries.shape[:2], dtype=torch.bool)
    for query, ranking in zip(queries, snapshot.search(torch.from_numpy(queries), mask, len(IDS)), strict=True):
        scores = {key: float((query @ embeddings_of(key, r).T).max(axis=1).sum()) for key, r in rows.items()}
        expected = sorted((-score, key) for key, score in scores.items())
        assert [(-score, key) for score, key in zip(ranking.scores.tolist(), ranking.ids, strict=True)] == expected
    texts, _ = snapshot.collection.payload(ranking.addresses)
    assert texts == [document(key, rows[key]).text for key in ranking.ids]
    for key in ranking.ids[:3]:
        assert snapshot.search_texts(key, 2).ids == [key]


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
    lines.append(f"{tally.resumed:,} builds went on behind what was committed, and encoded none of it again")
    return "\n".join(lines)
