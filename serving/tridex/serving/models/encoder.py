"""Tokens to token embeddings on ONNX Runtime, where Triton server has no backend for it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tridex.encoding import TokenBatch, create_encoder, latest_version_dir, load_artifact
from tridex.protocol import models
from tridex.serving.backend.service import Context, Request, RequestError, Result, Service, invalid


class EncoderService(Service):
    """INPUT_IDS, ATTENTION_MASK, EMBEDDING_MASK, [batch, tokens] each, to EMBEDDINGS [batch, tokens, dim]."""

    NICENESS = 10
    """Documents are encoded here, behind the searches, which have an encoder of their own."""

    def __init__(self, context: Context) -> None:
        artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._encoder = create_encoder(artifact, "cpu", threads=os.cpu_count() or 1)
        self._tokenizer = artifact.tokenizer()
        self._encoder.encode(self._tokenizer.queries(["warm up"]))

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        results: dict[int, Result] = {}
        batches: dict[int, TokenBatch] = {}
        for i, request in enumerate(requests):
            try:
                batches[i] = self._token_batch(request)
            except RequestError as error:
                results[i] = error
        for i, embeddings in zip(batches, self._encoder.encode_many(list(batches.values())), strict=True):
            results[i] = {models.EMBEDDINGS.name: embeddings}
        return [results[i] for i in range(len(requests))]

    def _token_batch(self, request: Request) -> TokenBatch:
        """What the graph can run: a text that it cannot would fail the others of its batch."""
        ids, *masks = (np.asarray(request.inputs[tensor.name]) for tensor in models.ENCODER.inputs)
        widest, vocabulary = self._tokenizer.widest, self._tokenizer.vocabulary
        if ids.ndim != 2 or not 0 < ids.shape[1] <= widest:
            raise invalid(f"input {models.INPUT_IDS.name} has shape {list(ids.shape)}; expected [texts, 1 to {widest}]")
        for tensor, mask in zip(models.ENCODER.inputs[1:], masks, strict=True):
            if mask.shape != ids.shape:
                raise invalid(
                    f"input {tensor.name} has shape {list(mask.shape)}; expected {list(ids.shape)}, as "
                    f"{models.INPUT_IDS.name}"
                )
            if mask.min() < 0 or mask.max() > 1:
                raise invalid(f"input {tensor.name} holds {mask.min()} to {mask.max()}; expected 0 and 1")
        if ids.min() < 0 or ids.max() >= vocabulary:
            raise invalid(
                f"input {models.INPUT_IDS.name} holds {ids.min()} to {ids.max()}; expected 0 to {vocabulary - 1}"
            )
        return TokenBatch(ids, *masks)
