"""A collection's specification: the checkpoint that it pins, and what older versions of Tridex wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import lance
import pytest

from tridex.index import CheckpointMismatchError, CollectionSpec, Store
from tridex.kernels import Codec

SPEC = CollectionSpec(8, Codec.FLOAT32, fingerprint="f" * 64)


def test_another_checkpoint_is_refused_with_both_hashes_of_each_part(tmp_path: Path) -> None:
    components = {"weights": "1" * 64, "tokenizer": "2" * 64, "rules": "3" * 64}
    spec = Store(tmp_path).create("c", replace(SPEC, checkpoint=components)).latest().spec
    spec.check_checkpoint("c", spec.fingerprint, components)
    with pytest.raises(CheckpointMismatchError) as refused:
        spec.check_checkpoint("c", "a" * 64, components | {"tokenizer": "b" * 64, "rules": "c" * 64})
    assert str(refused.value) == (
        "collection 'c' was indexed with checkpoint ffffffffffff (weights 111111111111, tokenizer 222222222222, rules "
        "333333333333), the served encoder is aaaaaaaaaaaa (weights 111111111111, tokenizer bbbbbbbbbbbb, rules "
        "cccccccccccc), another in tokenizer and rules: index the documents into another collection, or serve that "
        "checkpoint"
    )


@pytest.mark.parametrize(
    ("written", "unknown"), [(2, ["document_length", "windows", "pooling_factor", "codebook"]), (3, [])]
)
def test_collections_of_older_formats_are_read_as_they_were_written(
    tmp_path: Path, written: int, unknown: list[str]
) -> None:
    store = Store(tmp_path)
    folder = store.create("c", SPEC).folder
    schema = lance.dataset(str(folder)).schema
    old = json.loads(schema.metadata[b"tridex"]) | {"format": written}
    for name in ("checkpoint", *unknown):
        del old[name]
    empty = schema.with_metadata({b"tridex": json.dumps(old).encode()}).empty_table()
    lance.write_dataset(empty, str(folder), mode="overwrite")
    spec = Store(tmp_path).open("c").spec
    assert spec == replace(SPEC, format=written)
    assert (spec.document_length, spec.windows, spec.pooling_factor, spec.checkpoint) == (None, False, 1, {})
    with pytest.raises(
        CheckpointMismatchError, match=r"checkpoint ffffffffffff, the served encoder is a{12} \(rules 1"
    ):
        spec.check_checkpoint("c", "a" * 64, {"rules": "1" * 64})
