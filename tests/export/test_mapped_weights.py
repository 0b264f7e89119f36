"""Weights that sessions share: the same bits, one file, whoever was killed while making it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tridex.encoding import Artifact, create_encoder


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_shared_weights_encode_as_the_graph_does(
    precision: str, exported: Callable[[str, str], Artifact], tmp_path: Path
) -> None:
    artifact = exported("stanford_attended", precision)
    tokenizer = artifact.tokenizer()
    batches = [tokenizer.queries(["late interaction"]), tokenizer.queries(["one", "custard with sugar", "capital"])]
    expected = create_encoder(artifact, threads=2).encode_many(batches)
    (tmp_path / "encoder.partial").mkdir()
    (tmp_path / "encoder.partial" / "weights").write_bytes(b"of a process that was killed")
    for _ in range(2):
        shared = create_encoder(artifact, threads=2, shared=tmp_path)
        for actual, wanted in zip(shared.encode_many(batches), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)
        files = {path: path.stat().st_mtime_ns for path in (tmp_path / "encoder").iterdir()}
        assert {path.name for path in files} == {artifact.model_path.name, "weights"}
    assert {path.name for path in tmp_path.iterdir()} == {"encoder", "encoder.lock"}
