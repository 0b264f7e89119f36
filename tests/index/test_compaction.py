"""Compaction in small steps: few files stay, none that nobody reads, and a step is small whatever the collection is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tridex.index import Collection, CollectionSpec, Document, Follower, Store
from tridex.index.storage import compaction
from tridex.kernels import Codec

SPEC = CollectionSpec(8, Codec.FLOAT32, "f" * 64)
ONE = np.ones((2, 8), np.float32)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Store(tmp_path).create("c", SPEC)


def put(collection: Collection, keys: range) -> None:
    collection.upsert([Document(f"{i:05}", f"text {i % 7}", {}) for i in keys], [ONE] * len(keys))


def rows_of_files(collection: Collection) -> list[int]:
    return [fragment.count_rows() for fragment in collection.latest().dataset.get_fragments()]


def files(folder: Path) -> dict[str, int]:
    """Files in each folder of a collection."""
    return {path.name: sum(file.is_file() for file in path.rglob("*")) for path in folder.iterdir()}


def test_a_stream_of_small_writes_leaves_few_files_and_copies_a_row_a_few_times(collection: Collection) -> None:
    copied = steps = 0
    for first in range(0, 2048, 4):
        put(collection, range(first, first + 4))
        before = {f.fragment_id for f in collection.dataset.get_fragments()}
        while collection.compact_some():
            steps += 1
            copied += sum(f.count_rows() for f in collection.dataset.get_fragments() if f.fragment_id not in before)
            before = {f.fragment_id for f in collection.dataset.get_fragments()}
    assert collection.count() == 2048
    assert len(rows_of_files(collection)) < 4 * compaction._MIN_FILES
    assert steps < 512 / 4 and copied < 5 * 2048, (steps, copied)


def test_nothing_is_left_of_what_nobody_reads(collection: Collection) -> None:
    for turn in range(3):
        for first in range(0, 400, 20):
            put(collection, range(first, first + 20))
        collection.delete([f"{i:05}" for i in range(turn, 400, 9)])
        while collection.compact_some():
            pass
        collection.index_new_texts()
    assert collection.clean_up(timedelta(0)) > 0
    newest = collection.latest()
    fragments = newest.dataset.get_fragments()
    deletions = sum(fragment.num_deletions > 0 for fragment in fragments)
    left = files(newest.folder)
    assert left["data"] == len(fragments) < compaction._MIN_FILES + 2
    assert left.get("_deletions", 0) == deletions and left["_transactions"] == 1
    assert left["_versions"] == 2, "the newest, and Lance's hint at it"
    (index,) = newest.dataset.describe_indices()
    assert len(list((newest.folder / "_indices").iterdir())) == len(index.segments)


def test_half_deleted_files_are_rewritten(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_MIN_DELETED_BYTES", 1000)
    put(collection, range(500))
    put(collection, range(500, 1000))
    assert not collection.compact_some()
    collection.delete([f"{i:05}" for i in range(0, 100)])
    assert not collection.compact_some(), "a fifth of one file is deleted"
    collection.delete([f"{i:05}" for i in range(100, 200)])
    assert collection.compact_some() and not collection.compact_some()
    assert rows_of_files(collection) == [500, 300] and collection.count() == 800
    assert sum(f.num_deletions for f in collection.dataset.get_fragments()) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 70_000), st.integers(0, 50), st.integers(1, 40 * 2**20)), max_size=120))
def test_a_step_is_small_and_ends(sizes: list[tuple[int, int, int]]) -> None:
    """Whatever the files are: (live rows, deleted rows, bytes)."""
    remaining = [compaction._File(i, *size) for i, size in enumerate(sizes)]
    for _ in range(1000):
        chosen = compaction._worth_merging(remaining)
        if not chosen:
            break
        assert len(chosen) <= compaction._STEP_FILES and sum(file.bytes for file in chosen) <= compaction._STEP_BYTES
        ids = [file.id for file in remaining]
        first = ids.index(chosen[0].id)
        assert ids[first : first + len(chosen)] == [file.id for file in chosen], "neighbours"
        live, size = sum(file.live for file in chosen), sum(file.bytes for file in chosen)
        assert len(chosen) // compaction._MIN_FILES * live >= compaction._MIN_GROWTH * max(f.live for f in chosen)
        merged = compaction._File(1000 + max(ids), live, 0, size)
        remaining = [*remaining[:first], *remaining[first + len(chosen) :], merged]
    else:
        pytest.fail("it never ends")
    half_deleted = compaction._worth_clearing(remaining)
    most = max(compaction._STEP_BYTES, sum(file.bytes for file in remaining) // compaction._STEPS_TO_REWRITE_ALL)
    assert sum(file.bytes for file in half_deleted[:-1]) <= most


def nested(depth: int) -> list[int]:
    """Sizes of which the largest among neighbours is always more than a quarter of them: 1 3 1 9 1 3 1 ..."""
    return [*nested(depth - 1), 3**depth, *nested(depth - 1)] if depth >= 0 else []


@settings(deadline=None)
@example(nested(6))
@given(st.lists(st.integers(0, 7).map(lambda power: 2**power), max_size=150))
def test_whatever_the_sizes_of_writes_few_files_stay_and_a_row_is_copied_a_few_times(sizes: list[int]) -> None:
    """Sizes of writes in rows, all together too few for a full file. A row of a file of n rows, after w writes, was
    copied by at most log2(n) of the merges that double its file, and by w / 23 of the others: these merge 24 files and
    more, of which 23 are gone then."""
    files: list[compaction._File] = []
    merges_of_many = 0
    many, most = 3 * compaction._MIN_FILES, compaction._MIN_FILES * compaction._MIN_GROWTH
    for writes, rows in enumerate(sizes, 1):
        files.append(compaction._File(writes, rows, 0, rows))
        while chosen := compaction._worth_merging(files):
            live = sum(file.live for file in chosen)
            if len(chosen) < many:
                assert live >= 2 * max(file.live for file in chosen)
            else:
                merges_of_many += 1
            first = files.index(chosen[0])
            files = [*files[:first], compaction._File(chosen[0].id, live, 0, live), *files[first + len(chosen) :]]
        assert len(files) < most
        assert merges_of_many * (many - 1) <= writes


def test_snapshots_follow_steps_without_loading(collection: Collection, tmp_path: Path) -> None:
    for first in range(0, 300, 10):
        put(collection, range(first, first + 10))
    collection.index_new_texts()
    follower = Follower(Store(tmp_path), "c", torch.device("cpu"))
    codes = [segment.packed.codes for segment in follower.snapshot.segments]
    assert collection.compact_some()
    snapshot = follower.refresh()
    assert snapshot.version == collection.version
    assert all(segment.packed.codes is before for segment, before in zip(snapshot.segments, codes, strict=True))
