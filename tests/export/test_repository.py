"""The committed model repository is what the protocol says, and what Triton server accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tridex.export.repository import SERVICES, render, write
from tridex.protocol import models

COMMITTED = Path(__file__).parents[2] / "model_repository"


def configs(folder: Path) -> dict[str, ModelConfig]:
    return {
        str(path.relative_to(folder)): text_format.Parse(path.read_text(), ModelConfig())
        for path in folder.rglob("*.pbtxt")
    }


def test_the_committed_files_are_what_is_rendered(tmp_path: Path) -> None:
    rendered = {COMMITTED / path: text for path, text in render().items()}
    for path, text in rendered.items():
        assert path.read_text() == text, f"{path}: run python -m tridex.export.repository"
    # Nothing else, but for exported encoders.
    existing = {p for p in COMMITTED.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    exported = {p for p in existing if p.relative_to(COMMITTED).parts[:1] == ("encoder",) and p.suffix != ".pbtxt"}
    assert existing - exported == rendered.keys()
    # Writing again writes nothing.
    assert len(list(write(tmp_path))) == len(rendered)
    assert list(write(tmp_path)) == []


def test_every_config_is_a_model_config_of_its_folder() -> None:
    parsed = configs(COMMITTED)
    assert len(parsed) == len(models.MODELS) + len(models.ENSEMBLES) + 3
    for path, config in parsed.items():
        assert config.name == Path(path).parts[0]
        assert config.max_batch_size >= 1


def test_every_runtime_serves_the_encoder_by_the_same_tensors() -> None:
    parsed = {path: config for path, config in configs(COMMITTED).items() if path.startswith("encoder/")}
    backends = {Path(path).stem: config.backend for path, config in parsed.items()}
    assert backends == {
        "config": "onnxruntime",
        "cpu": "python",
        "onnxruntime-tensorrt": "onnxruntime",
        "tensorrt": "tensorrt",
    }
    for config in parsed.values():
        assert [(t.name, list(t.dims)) for t in config.input] == [
            ("INPUT_IDS", [-1]),
            ("ATTENTION_MASK", [-1]),
            ("EMBEDDING_MASK", [-1]),
        ]
        assert [(t.name, list(t.dims)) for t in config.output] == [("EMBEDDINGS", [-1, -1])]
    accelerators = parsed["encoder/configs/onnxruntime-tensorrt.pbtxt"].optimization.execution_accelerators
    assert accelerators.gpu_execution_accelerator[0].name == "tensorrt"


@pytest.mark.parametrize("ensemble", models.ENSEMBLES, ids=lambda ensemble: ensemble.name)
def test_every_tensor_of_an_ensemble_comes_from_somewhere(ensemble: models.Ensemble) -> None:
    known = {tensor.name for tensor in ensemble.inputs}
    for step in ensemble.steps:
        inputs = {tensor.name: tensor for tensor in step.model.inputs}
        assert step.input_map.keys() <= inputs.keys()
        assert {name for name, tensor in inputs.items() if not tensor.optional} <= step.input_map.keys()
        assert set(step.input_map.values()) <= known
        assert step.output_map.keys() <= {tensor.name for tensor in step.model.outputs}
        known |= set(step.output_map.values())
    assert {tensor.name for tensor in ensemble.outputs} <= known


def test_every_model_has_a_service() -> None:
    assert SERVICES.keys() == set(models.MODELS)


def test_what_an_operator_changed_stays_when_a_checkpoint_is_exported(tmp_path: Path) -> None:
    list(write(tmp_path))
    changed, gone = tmp_path / "maxsim" / "config.pbtxt", tmp_path / "ingest" / "config.pbtxt"
    changed.write_text(changed.read_text() + "instance_group { kind: KIND_CPU }\n")
    gone.unlink()
    assert list(write(tmp_path, overwrite=False)) == [gone]
    assert "KIND_CPU" in changed.read_text()
