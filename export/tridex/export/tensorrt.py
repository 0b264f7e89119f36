"""Builds a TensorRT engine from the exported graph with NVIDIA's trtexec."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tridex.protocol import limits, models

from .errors import TensorRTError
from .precision import Precision

ENGINE_FILE = "model.plan"
_CONTAINER_PATH = Path("/usr/src/tensorrt/bin/trtexec")
_TYPICAL_BATCH, _TYPICAL_TOKENS = 16, 64
"""What the engine is optimised for; other shapes within the limits run more slowly."""


def find_trtexec(precision: Precision) -> Path:
    """The path of trtexec.

    Raises:
        TensorRTError: There is none, or the precision is not one for a GPU.
    """
    if precision is Precision.INT8:
        raise TensorRTError("precision: int8 is for CPUs (its scales are computed per token); for TensorRT use fp16")
    if found := shutil.which("trtexec"):
        return Path(found)
    if _CONTAINER_PATH.is_file():
        return _CONTAINER_PATH
    raise TensorRTError(
        f"trtexec is neither on PATH nor at {_CONTAINER_PATH}: it comes with TensorRT and is in NVIDIA's Triton server "
        "and TensorRT images; the engine must be built on the kind of GPU that will run it"
    )


def build_engine(trtexec: Path, model_path: Path, max_tokens: int) -> Path:
    """Builds model.plan next to `model_path`, for batches up to `limits.MAX_BATCH` texts of `max_tokens` tokens.

    Raises:
        TensorRTError: trtexec failed; the message ends with its last lines.
    """
    engine = model_path.with_name(ENGINE_FILE)
    shapes = {
        "min": (1, 1),
        "opt": (_TYPICAL_BATCH, min(_TYPICAL_TOKENS, max_tokens)),
        "max": (limits.MAX_BATCH, max_tokens),
    }
    command = [str(trtexec), f"--onnx={model_path}", f"--saveEngine={engine}", "--skipInference"]
    # The graph defines which tensors are float16; TensorRT must not choose.
    command.append("--stronglyTyped")
    for which, (batch, tokens) in shapes.items():
        profile = ",".join(f"{tensor.name}:{batch}x{tokens}" for tensor in models.ENCODER.inputs)
        command.append(f"--{which}Shapes={profile}")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0 or not engine.is_file():
        last_lines = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
        raise TensorRTError(f"trtexec failed with status {result.returncode}:\n{last_lines}")
    return engine
