"""Recoding: what comes out is what a build of the same documents would have written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from builds import build, contents, rows_of, write

from tridex.building import BuildError, Progress, Summary, new_collection_spec, requantize
from tridex.encoding import Artifact
from tridex.export import export_checkpoint
from tridex.index import CheckpointMismatchError, CollectionExistsError, Store
from tridex.kernels import Codec


def requantized(store: Store, repository: Path, codec: Codec, name: str = "new", **options: Any) -> Summary:
    quiet = {"progress": Progress(quiet=True), "documents_per_commit": 10}
    return requantize(store, "c", name, codec, repository=repository, **{**quiet, **options})


@pytest.mark.parametrize(("codec", "pooling_factor"), [(Codec.FLOAT16, 1), (Codec.INT8, 3), (Codec.FLOAT8, 2)])
def test_a_requantized_collection_is_a_built_one(
    repository: Path, artifact: Artifact, tmp_path: Path, codec: Codec, pooling_factor: int
) -> None:
    """Long documents too, whose windows are pooled one by one, and after deletions."""
    rows = rows_of(45)
    store = Store(tmp_path / "store")
    build(write(tmp_path / "rows.jsonl", rows), store, artifact, codec=Codec.FLOAT32, document_length=24)
    store.open("c").delete(["d3", "d4", "d44"])
    done = requantized(store, repository, codec, pooling_factor=pooling_factor)
    assert (done.documents, done.resumed_after) == (42, 0)
    kept = [row for row in rows if row["_id"] not in ("d3", "d4", "d44")]
    source = write(tmp_path / "kept.jsonl", kept)
    build(source, store, artifact, "built", codec=codec, document_length=24, pooling_factor=pooling_factor)
    new, built = store.open("new"), store.open("built")
    assert contents(new) == contents(built) and new.spec == built.spec


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_its_codebook_is_the_one_that_a_build_trains(
    repository: Path, artifact: Artifact, tmp_path: Path, codec: Codec
) -> None:
    # A build's sample is the beginning of each document: all of it, where none is long.
    rows = [{**row, "text": " ".join(row["text"].split()[:12])} for row in rows_of(60)]
    source, store = write(tmp_path / "rows.jsonl", rows), Store(tmp_path / "store")
    build(source, store, artifact, codec=Codec.FLOAT32)
    build(source, store, artifact, "built", codec=codec)
    requantized(store, repository, codec)
    new, built = store.open("new"), store.open("built")
    assert new.spec == built.spec and new.spec.codebook is not None
    assert contents(new) == contents(built)


class KilledError(Exception):
    pass


class _Ending(Progress):
    """Ends the work after so many transactions, as a kill would."""

    def __init__(self, transactions: int) -> None:
        super().__init__(quiet=True)
        self._left = transactions

    @contextmanager
    def stage(self, name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        def advance(_: int) -> None:
            self._left -= 1
            if not self._left:
                raise KilledError(name)

        with super().stage(name, total, done):
            yield advance


def test_it_goes_on_after_a_kill_unless_the_source_changed(
    repository: Path, artifact: Artifact, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    build(write(tmp_path / "rows.jsonl", rows_of(45)), store, artifact, codec=Codec.FLOAT32)
    for name in ("new", "whole", "changed"):
        if name != "whole":
            with pytest.raises(KilledError):
                requantized(store, repository, Codec.INT8, name, progress=_Ending(2))
            assert name not in store.names()
    assert requantized(store, repository, Codec.INT8).resumed_after == 20
    requantized(store, repository, Codec.INT8, "whole")
    assert contents(store.open("new")) == contents(store.open("whole"))
    store.open("c").delete(["d0"])
    with pytest.raises(BuildError, match=r"'changed' was begun from .*--restart"):
        requantized(store, repository, Codec.INT8, "changed")
    store.discard_build("changed")
    assert requantized(store, repository, Codec.INT8, "changed").documents == 44


def test_what_cannot_be_requantized_is_refused(
    repository: Path, artifact: Artifact, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source, store = write(tmp_path / "rows.jsonl", rows_of(12)), Store(tmp_path / "store")
    build(source, store, artifact, "int8", codec=Codec.INT8)
    build(source, store, artifact, "pooled", codec=Codec.FLOAT32, pooling_factor=2)
    build(source, store, artifact, codec=Codec.FLOAT32)
    store.create("empty", new_collection_spec(artifact, Codec.FLOAT32))
    quiet = {"repository": repository, "progress": Progress(quiet=True)}
    with pytest.raises(BuildError, match="'int8' is stored as int8, which is rounded already; expected float32 or"):
        requantize(store, "int8", "new", Codec.RESIDUAL4, **quiet)
    with pytest.raises(BuildError, match="'pooled' keeps one token for 2; expected a collection of all tokens"):
        requantize(store, "pooled", "new", Codec.INT8, pooling_factor=3, **quiet)
    with pytest.raises(BuildError, match="'empty' holds no token embeddings"):
        requantize(store, "empty", "new", Codec.INT8, **quiet)
    with pytest.raises(CollectionExistsError, match="'int8' exists already"):
        requantize(store, "c", "int8", Codec.INT8, **quiet)
    other = tmp_path_factory.mktemp("other")
    export_checkpoint(str(checkpoints.make(other / "checkpoint", "native_plain")), repository=other / "repository")
    with pytest.raises(CheckpointMismatchError, match="was indexed with checkpoint"):
        requantized(store, other / "repository", Codec.INT8, pooling_factor=2)
    # Tokens that are pooled already go into another codec as they are.
    assert requantize(store, "pooled", "new", Codec.INT8, **quiet).documents == 12
    assert store.open("new").spec == replace(store.open("pooled").spec, codec=Codec.INT8)
