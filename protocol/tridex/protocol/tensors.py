"""The types that describe a served model; `models` holds the descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DType(str, Enum):
    """Tensor element types, by the name that the KServe v2 protocol sends."""

    STRING = "BYTES"
    INT64 = "INT64"
    FP32 = "FP32"


@dataclass(frozen=True)
class Tensor:
    """One input or output. `shape` leaves the batch dimension out; -1 is a length known only at run time."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Model:
    """A model with code of its own, served by `backend` ("python" unless the runtime says otherwise).

    `ragged` lets the dynamic batcher put requests of different lengths into one batch: right for a Python model,
    which sees each request by itself, wrong for a backend that wants one rectangular tensor. `cpu_only` keeps a model
    to one instance on the CPU: by itself, Triton server starts one on every GPU there is. `internal` models serve the
    other models and no clients.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int
    backend: str = "python"
    ragged: bool = True
    cpu_only: bool = False
    internal: bool = False


@dataclass(frozen=True)
class Step:
    """One step of an ensemble: the step's own tensor name to the ensemble's name for it."""

    model: Model
    input_map: dict[str, str]
    output_map: dict[str, str]


@dataclass(frozen=True)
class Ensemble:
    """Models chained inside the server, so that tensors between them never leave it."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int
    steps: tuple[Step, ...]
