"""Finding and verifying an export. Exports that were really made and then changed: tests/export/test_publish.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tridex.encoding import (
    ArtifactError,
    EncodingRules,
    Expansion,
    Manifest,
    TextRules,
    latest_version_dir,
    load_artifact,
    sha256_of_file,
)

RULES = EncodingRules(
    query=TextRules("[Q] ", length=32, only_token_ids=(4, 5)),
    document=TextRules("[D] ", length=180, skip_token_ids=(1, 2, 3)),
    expansion=Expansion("fixed", 32, 103, attend=False),
    pad_token_id=0,
    truncation_side="right",
    split_special_tokens=False,
    dim=128,
    similarity="maxsim",
)


@pytest.fixture
def version_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder" / "3"
    folder.mkdir(parents=True)
    for name in ("model.onnx", "tokenizer.json"):
        (folder / name).write_text(name)
    write(folder, manifest_of(folder))
    return folder


def manifest_of(folder: Path) -> Manifest:
    return Manifest(
        source="org/model",
        revision="0123",
        checkpoint_format="pylate",
        architecture="BertModel",
        head=("Dense(8, 4)", "Normalize"),
        precision="fp32",
        rules=RULES,
        weights={"model.safetensors": "aa"},
        files={name: sha256_of_file(folder / name) for name in ("model.onnx", "tokenizer.json")},
        parity={"score_error": 1e-6},
        libraries={"torch": "2"},
        created="2026-01-01T00:00:00+00:00",
    )


def write(folder: Path, manifest: Manifest) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()))


def test_manifest_survives_json(version_dir: Path) -> None:
    artifact = load_artifact(version_dir)
    assert artifact.manifest == manifest_of(version_dir)
    assert artifact.manifest.rules == RULES
    assert artifact.model_path == version_dir / "model.onnx"
    assert artifact.manifest.dim == 128


def test_fingerprint_is_of_the_checkpoint(version_dir: Path) -> None:
    manifest = manifest_of(version_dir)
    same = [replace(manifest, precision="int8"), replace(manifest, files={**manifest.files, "model.onnx": "00"})]
    assert {other.fingerprint for other in same} == {manifest.fingerprint}
    different = [
        replace(manifest, weights={"model.safetensors": "bb"}),
        replace(manifest, files={**manifest.files, "tokenizer.json": "00"}),
        replace(manifest, rules=replace(RULES, document=TextRules("[D] ", length=181))),
        replace(manifest, head=("Dense(8, 4)",)),
    ]
    assert len({manifest.fingerprint, *(other.fingerprint for other in different)}) == 5
    # The hashes tell which component it is.
    changed = [
        {name for name, sha256 in manifest.component_hashes.items() if other.component_hashes[name] != sha256}
        for other in different
    ]
    assert changed == [{"weights"}, {"tokenizer"}, {"rules"}, {"weights"}]


def test_missing_manifest(version_dir: Path) -> None:
    (version_dir / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"manifest.json is missing; run `make export`"):
        load_artifact(version_dir)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"rules": {}}'])
def test_manifest_of_another_kind(version_dir: Path, content: str) -> None:
    (version_dir / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest.json is not a manifest that this version wrote"):
        load_artifact(version_dir)


def test_every_file_is_verified(version_dir: Path) -> None:
    unlisted = replace(
        manifest_of(version_dir), files={"tokenizer.json": sha256_of_file(version_dir / "tokenizer.json")}
    )
    write(version_dir, unlisted)
    with pytest.raises(
        ArtifactError, match=r"model.onnx was changed after export: SHA-256 [0-9a-f]{64}, exported None"
    ):
        load_artifact(version_dir)


def test_latest_version(version_dir: Path) -> None:
    encoder_dir = version_dir.parent
    for name in ("12", "configs", ".staging-99", "007"):
        (encoder_dir / name).mkdir()
    (encoder_dir / "99").write_text("a file")
    assert latest_version_dir(encoder_dir) == encoder_dir / "12"


def test_no_version(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ArtifactError, match=rf"no exported encoder in {folder}; run `make export`"):
            latest_version_dir(folder)
