"""Requests to every model that callers can name, made of what tridex.protocol says of the models."""

from __future__ import annotations

from enum import Enum
from math import prod
from random import Random
from typing import Any

import hostile_values as values
import kserve
from tritonclient.grpc import service_pb2 as pb

from tridex.protocol import models, parameters
from tridex.protocol.tensors import DType, Ensemble, Model, Tensor

Served = Model | Ensemble

SERVED: tuple[Served, ...] = (*models.MODELS, *models.ENSEMBLES)
REACHABLE = tuple(model for model in SERVED if not (isinstance(model, Model) and model.internal))
WRITERS = (models.INGEST,)
"""Models that are never asked about the victim."""

PARAMETERS = tuple(
    value
    for name, value in vars(parameters).items()
    if name.isupper() and isinstance(value, str) and not name.startswith("DEFAULT")
)
_OPERATIONS = (parameters.IngestOperation, parameters.CatalogOperation)
_UPSERT, _DELETE = parameters.IngestOperation.UPSERT, parameters.IngestOperation.DELETE
_USUAL: dict[str, tuple[Enum, ...]] = {
    models.INGEST.name: (*parameters.IngestOperation, *[_UPSERT] * 6, _DELETE, _DELETE),
    models.CATALOG.name: tuple(parameters.CatalogOperation),
}
_CHOICES = (*_OPERATIONS, parameters.LongDocuments)
WORDS = (
    *(str(member.value) for kind in _CHOICES for member in kind),
    *parameters.SEARCH_MODES,
    "float16",
    "int8",
    "residual2",
    "0.5",
)


class Requests:
    """Makes requests that a model might answer.

    What writes is given the collections `own` and never `victim`, so that nobody is harmed by what the protocol allows;
    `dim` is that of the served encoder.
    """

    def __init__(self, victim: str, own: tuple[str, ...], dim: int) -> None:
        self._victim = victim
        self._own = own
        self._dim = dim
        # Not with a zero byte at the end: Triton server reads no further.
        near = (victim.upper(), victim[:-1], victim + "-", f" {victim}", f"{victim}\n", f"\0{victim}", f"{victim}/..")
        self._near = (*near, "\uff43" + victim[1:])

    def __call__(self, rng: Random, model: Served) -> pb.ModelInferRequest:
        request = pb.ModelInferRequest(model_name=model.name)
        rows = rng.choice((1, 1, 1, 2, 2, 3, model.max_batch_size)) if rng.random() < 0.1 else 1
        chosen = _chosen(rng, model)
        for tensor in model.inputs:
            if not tensor.optional or tensor.name in chosen:
                add(rng, request, tensor, rows, self._dim)
        for tensor in model.outputs:
            if rng.random() < 0.8:
                request.outputs.add().name = tensor.name
        names = self._own if model in WRITERS else (*self._own, self._victim, self._victim)
        said: dict[str, Any] = {
            parameters.COLLECTION: rng.choice(self._near if rng.random() < 0.1 else names),
            parameters.OPERATION: rng.choice(self._operations(rng, model)).value,
        }
        if parameters.ALIAS in rng.sample(PARAMETERS, len(PARAMETERS) // 2):
            said[parameters.ALIAS] = rng.choice((*self._own, *self._near))
        if rng.random() < 0.3:
            said["timeout"] = 5_000_000
        for name, value in said.items():
            kserve.set_parameter(request.parameters[name], value)
        return request

    def _operations(self, rng: Random, model: Served) -> tuple[Enum, ...]:
        """Mostly those that the model has, where they are known."""
        return _USUAL[model.name] if model.name in _USUAL and rng.random() < 0.9 else tuple(rng.choice(_OPERATIONS))


def _chosen(rng: Random, model: Served) -> list[str]:
    """Some of the optional inputs: often those that an ensemble gives together."""
    optional = [tensor.name for tensor in model.inputs if tensor.optional]
    groups = [list(step.input_map) for ensemble in models.ENSEMBLES for step in ensemble.steps if step.model is model]
    if groups and rng.random() < 0.8:
        optional = rng.choice(groups)
    return rng.sample(optional, rng.randrange(len(optional)) + 1) if optional else []


def add(rng: Random, request: pb.ModelInferRequest, tensor: Tensor, rows: int, dim: int) -> None:
    """Adds an input that is as the protocol says, but for its values."""
    lengths = [rng.choice((0, 1, 1, 1, 1, 2, 8)) if length < 0 else length for length in tensor.shape]
    if tensor.dtype is DType.FP32 and rng.random() < 0.9:
        lengths[-1] = dim
    shape = (rows, *lengths)
    if tensor.dtype is DType.STRING:
        json_wanted = tensor.name == models.DOCUMENT_METADATA.name
        raw = kserve.strings(values.text(rng, json_wanted) for _ in range(prod(shape)))
    elif tensor.dtype is DType.FP32:
        raw = values.floats(rng, shape).tobytes()
    else:
        raw = values.integers(rng, shape).tobytes()
    kserve.add_input(request, tensor.name, tensor.dtype.value, shape, raw)
