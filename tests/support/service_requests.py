"""Requests to services, as Triton server would hand them over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tridex.serving.service import Request


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
