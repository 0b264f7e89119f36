"""Requests to services, as Triton server would hand them over."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tridex.serving.backend.service import Arrays, Request, RequestError, Service


def strings(*values: str) -> NDArray[np.object_]:
    """A string tensor [values, 1]."""
    array = np.empty((len(values), 1), object)
    array[:, 0] = [value.encode() for value in values]
    return array


def upsert(collection: str, documents: dict[str, str], **parameters: Any) -> Request:
    inputs = {"ID": strings(*documents), "TEXT": strings(*documents.values())}
    return Request(inputs, {"collection": collection, "operation": "upsert", **parameters})


def delete(collection: str, *ids: str) -> Request:
    return Request({"ID": strings(*ids)}, {"collection": collection, "operation": "delete"})


def answers(service: Service, requests: Sequence[Request]) -> list[Arrays | RequestError]:
    """What the service says, also where it says it later."""
    return [result.result(timeout=30) if isinstance(result, Future) else result for result in service.answer(requests)]
