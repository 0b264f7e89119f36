"""Tokens to token embeddings on ONNX Runtime, where Triton server has no backend for it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tridex.encoding import OnnxEncoder, TokenBatch, latest_version_dir, load_artifact
from tridex.protocol import models

from .service import Context, Request, Result


class EncoderService:
    """INPUT_IDS, ATTENTION_MASK, EMBEDDING_MASK, [batch, tokens] each, to EMBEDDINGS [batch, tokens, dim]."""

    def __init__(self, context: Context) -> None:
        artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._encoder = OnnxEncoder(artifact.model_path, threads=os.cpu_count() or 1)
        self._encoder.encode(artifact.tokenizer().queries(["warm up"]))

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        batches = [_token_batch(request) for request in requests]
        return [{models.EMBEDDINGS.name: embeddings} for embeddings in self._encoder.encode_many(batches)]

    def close(self) -> None:
        pass


def _token_batch(request: Request) -> TokenBatch:
    return TokenBatch(*(np.asarray(request.inputs[tensor.name]) for tensor in models.ENCODER.inputs))
