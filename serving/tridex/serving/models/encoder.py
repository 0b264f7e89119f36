"""Tokens to token embeddings on ONNX Runtime, where Triton server has no backend for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from tridex.encoding import TokenBatch, create_encoder, latest_version_dir, load_artifact
from tridex.protocol import models
from tridex.serving.backend.canary import FirstAnswer
from tridex.serving.backend.service import Context, Request, RequestError, Result, Service
from tridex.serving.requests.encoder import parse_token_batch


class EncoderService(Service):
    """INPUT_IDS, ATTENTION_MASK, EMBEDDING_MASK, [batch, tokens] each, to EMBEDDINGS [batch, tokens, dim]."""

    NICENESS = 10
    """Documents are encoded here, behind the searches, which have an encoder of their own."""

    def __init__(self, context: Context) -> None:
        artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._encoder = create_encoder(artifact, context.device, threads=os.cpu_count() or 1, shared=context.shared)
        self._tokenizer = artifact.tokenizer()
        # One on a GPU is not to be shared by threads.
        self._encoding = threading.Lock()
        self._canary = self._tokenizer.queries(["warm up"])
        self._first_answer = FirstAnswer()
        self.check()

    def answer(self, requests: Sequence[Request]) -> Sequence[Result]:
        results: dict[int, Result] = {}
        batches: dict[int, TokenBatch] = {}
        for i, request in enumerate(requests):
            try:
                batches[i] = parse_token_batch(
                    request, widest=self._tokenizer.widest, vocabulary=self._tokenizer.vocabulary
                )
            except RequestError as error:
                results[i] = error
        with self._encoding:
            encoded = self._encoder.encode_many(list(batches.values()))
        for i, embeddings in zip(batches, encoded, strict=True):
            results[i] = {models.EMBEDDINGS.name: embeddings}
        return [results[i] for i in range(len(requests))]

    def check(self) -> None:
        with self._encoding:
            answer = self._encoder.encode(self._canary)
        self._first_answer.check(answer)
