"""Renders model_repository/ from `tridex.protocol`: every config.pbtxt and model.py that Triton server loads.

The files are committed so that they can be read; a test fails when they differ from what this module renders.
Each config passes through Triton's own ModelConfig protobuf, so a misspelt field cannot be written.

    python -m tridex.export.repository [folder]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInput, ModelInstanceGroup

from tridex.protocol import models
from tridex.protocol.tensors import DType, Ensemble, Model, Tensor

_HEADER = "# Rendered from tridex.protocol by `python -m tridex.export.repository`; change it there.\n"

_DTYPES = {DType.STRING: "TYPE_STRING", DType.INT64: "TYPE_INT64", DType.FP32: "TYPE_FP32"}

# Shapes that the encoder backend runs before it reports ready, (texts, tokens).
_WARM_UP_SHAPES = ((1, 16), (8, 32), (16, 256))


def _input(tensor: Tensor, ragged: bool) -> ModelInput:
    return ModelInput(
        name=tensor.name,
        data_type=_DTYPES[tensor.dtype],
        dims=tensor.shape,
        optional=tensor.optional,
        # Only a shape that can vary needs it, and Triton refuses it together with fixed shapes.
        allow_ragged_batch=ragged and -1 in tensor.shape,
    )


def _base(model: Model | Ensemble, ragged: bool) -> ModelConfig:
    config = ModelConfig(name=model.name, max_batch_size=model.max_batch_size)
    config.input.extend(_input(t, ragged) for t in model.inputs)
    for tensor in model.outputs:
        config.output.add(name=tensor.name, data_type=_DTYPES[tensor.dtype], dims=tensor.shape)
    return config


def model_config(model: Model, backend: str | None = None) -> ModelConfig:
    """The configuration of a model with code of its own, for `backend` or the one that the protocol names."""
    backend = backend or model.backend
    config = _base(model, ragged=backend == "python")
    config.backend = backend
    # No queue delay: a batch is what arrived while the model was busy, so a lone request never waits. No limit of the
    # queue's length: with any queue policy Triton's batcher hands nothing over before a runner waits for work, and is
    # not woken when one begins to. A request that comes just as the answer before it leaves, as a client's next does,
    # then waits until the batcher checks again after 500 ms (measured with a limit of 1,024: 7 % of searches).
    config.dynamic_batching.SetInParent()
    if model.cpu_only:
        config.instance_group.add(kind=ModelInstanceGroup.KIND_CPU, count=1)
    if backend == "python":
        # Leaves tensors where the step before put them: on the GPU where there is one.
        config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value = "no"
    return config


def ensemble_config(ensemble: Ensemble) -> ModelConfig:
    """The configuration of an ensemble and its steps."""
    config = _base(ensemble, ragged=False)
    config.platform = "ensemble"
    for step in ensemble.steps:
        config.ensemble_scheduling.step.add(
            model_name=step.model.name, model_version=-1, input_map=step.input_map, output_map=step.output_map
        )
    return config


def encoder_configs() -> dict[str, ModelConfig]:
    """The encoder for every runtime, by the name that `tritonserver --model-config-name` takes; "" is the default."""
    onnx = model_config(models.ENCODER)
    for texts, tokens in _WARM_UP_SHAPES:
        warmup = onnx.model_warmup.add(name=f"{texts}x{tokens}", batch_size=texts)
        for tensor in models.ENCODER.inputs:
            sample = warmup.inputs[tensor.name]
            sample.data_type = _DTYPES[tensor.dtype]
            sample.dims.append(tokens)
            sample.random_data = False
            sample.zero_data = True

    accelerated = ModelConfig()
    accelerated.CopyFrom(onnx)
    accelerator = accelerated.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    accelerator.parameters["precision_mode"] = "FP16"
    accelerator.parameters["max_workspace_size_bytes"] = str(4 << 30)

    engine = ModelConfig()
    engine.CopyFrom(onnx)
    engine.backend = "tensorrt"
    return {
        "": onnx,
        "cpu": model_config(models.ENCODER, backend="python"),
        "onnxruntime-tensorrt": accelerated,
        "tensorrt": engine,
    }


def _code(model: Model) -> str:
    """The model.py of a model: the service of model `search` is SearchService in tridex.serving.models.search."""
    service = f"{model.name.capitalize()}Service"
    return (
        "from tridex.serving.backend.python_backend import python_model\n"
        f"from tridex.serving.models.{model.name} import {service}\n\n"
        f"TritonPythonModel = python_model({service})\n"
    )


def write_encoder_code(version_dir: Path) -> None:
    """Puts the Python encoder, which the "cpu" runtime uses, into an exported encoder's version folder."""
    (version_dir / "model.py").write_text(_code(models.ENCODER))


def _text(config: ModelConfig) -> str:
    body: str = text_format.MessageToString(config)
    return _HEADER + body


def render() -> dict[Path, str]:
    """Every file of the repository but the exported encoder itself, by its path within the repository."""
    files: dict[Path, str] = {}
    for model in models.MODELS:
        folder = Path(model.name)
        if model is models.ENCODER:
            for name, config in encoder_configs().items():
                path = folder / "configs" / f"{name}.pbtxt" if name else folder / "config.pbtxt"
                files[path] = _text(config)
        else:
            files[folder / "config.pbtxt"] = _text(model_config(model))
            files[folder / "1" / "model.py"] = _code(model)
    for ensemble in models.ENSEMBLES:
        folder = Path(ensemble.name)
        files[folder / "config.pbtxt"] = _text(ensemble_config(ensemble))
        # Triton wants a version folder even where there is nothing to put into it; git keeps no empty one.
        files[folder / "1" / ".keep"] = ""
    return files


def write(repository: Path, *, overwrite: bool = True) -> Iterable[Path]:
    """Writes what is missing, and with `overwrite` what differs; yields each path written."""
    for path, text in render().items():
        target = repository / path
        if not target.exists() or (overwrite and target.read_text() != text):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            yield target


if __name__ == "__main__":
    for written in write(Path(sys.argv[1] if len(sys.argv) > 1 else "model_repository")):
        print(f"wrote {written}")
