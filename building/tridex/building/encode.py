"""Text to token embeddings in this process, by the exported encoder and the server's own code around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import Artifact, DocumentReading, OnnxEncoder, TokenBatch
from tridex.protocol import models
from tridex.serving.backend.service import Arrays

from .embedder import Embedder

Encode = Callable[[Sequence[str], bool], Iterator[NDArray[np.float32]]]
"""Texts, and whether long ones are read in windows, to each one's token embeddings, [tokens, dim], in order."""


def local_encoder(artifact: Artifact, reading: DocumentReading, threads: int) -> Encode:
    """Encodes documents as a collection reads them, on `threads` of this machine's cores."""
    encoder = OnnxEncoder(artifact.model_path, threads)

    def infer(model: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:  # noqa: ARG001
        batch = TokenBatch(*(np.asarray(inputs[tensor.name]) for tensor in models.ENCODER.inputs))
        return {models.EMBEDDINGS.name: encoder.encode(batch)}

    embedder = Embedder(artifact, infer)
    return lambda texts, windows: embedder.collection_documents(texts, replace(reading, windows=windows))
