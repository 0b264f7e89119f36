"""Scores given texts against a query: nothing is stored, nothing is searched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tridex import kernels
from tridex.encoding import latest_version_dir, load_artifact
from tridex.kernels import Codec
from tridex.protocol import limits, models

from . import arguments
from .documents import Embedder
from .service import Arrays, Context, Request, Result, each, invalid


class RerankService:
    """QUERY [1, 1] and DOCUMENTS [1, texts] to SCORES [1, texts], in the order of the texts."""

    def __init__(self, context: Context) -> None:
        artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._mean = artifact.manifest.rules.similarity == "meanmaxsim"
        self._embedder = Embedder(artifact, context.infer)
        self._device = torch.device(context.device)
        kernels.warm_up(self._device, artifact.manifest.dim, codecs=(Codec.FLOAT32,))

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        return each(requests, self._answer_one)

    def close(self) -> None:
        pass

    def _answer_one(self, request: Request) -> Arrays:
        query = arguments.texts(request, models.QUERY)[0]
        texts = arguments.texts(request, models.RERANK_TEXTS)
        if not 0 < len(texts) <= limits.MAX_CANDIDATES:
            raise invalid(
                f"input {models.RERANK_TEXTS.name} holds {len(texts)} texts; expected 1 to {limits.MAX_CANDIDATES}"
            )
        embeddings = self._embedder.query(query)
        if not len(embeddings):
            raise invalid(f"input {models.QUERY.name} holds {query[:60]!r}, of which no token scores")
        queries = torch.from_numpy(embeddings)[None].to(self._device)
        segment = kernels.pack(self._embedder.documents(texts), Codec.FLOAT32, self._device)
        rows = torch.arange(len(texts), device=self._device)[None]
        scores = kernels.rescore(queries, segment, rows).cpu().numpy()
        return {models.SCORES.name: scores / np.float32(len(embeddings)) if self._mean else scores}
