"""What a document's score is the sum of: which of its tokens each query token took its maximum from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tridex import kernels
from tridex.kernels import Segment, decode_columns


@dataclass(frozen=True)
class TokenMatches:
    """One query's tokens against one document's, over the codes that searches read.

    Attributes:
        nearest: int64 [query tokens]: the document token with the largest similarity, the lowest of equals.
        similarities: float32 [query tokens]: that similarity. Their sum is the document's score.
        matrix: float32 [query tokens, document tokens]: every similarity.
        embeddings: float32 [document tokens, dim]: the document's token embeddings as the codec keeps them.
    """

    nearest: NDArray[np.int64]
    similarities: NDArray[np.float32]
    matrix: NDArray[np.float32]
    embeddings: NDArray[np.float32]


def token_matches(segment: Segment, query: torch.Tensor, rows: NDArray[np.int64]) -> list[TokenMatches]:
    """One for each of these rows, which are live; `query` is float [tokens, dim], on the segment's device."""
    if not len(query):
        nearest = torch.empty((len(rows), 0), dtype=torch.int64)
        similarities = torch.empty((len(rows), 0))
    else:
        on_device = torch.from_numpy(rows)[None].to(segment.device)
        (nearest,), (similarities,) = kernels.explain(query[None], segment, on_device)
    return [
        _matches(segment.document(row), query, *found)
        for row, *found in zip(rows.tolist(), nearest.cpu().numpy(), similarities.cpu().numpy(), strict=True)
    ]


def _matches(
    document: Segment, query: torch.Tensor, nearest: NDArray[np.int64], similarities: NDArray[np.float32]
) -> TokenMatches:
    (matrix,) = kernels.reference.similarities(query[None], document)
    embeddings = decode_columns(document.codec, document.columns, document.codebook, torch.float32)
    within_float32 = matrix.clamp(-kernels.LARGEST_SCORE, kernels.LARGEST_SCORE).float()
    return TokenMatches(nearest, similarities, within_float32.numpy(), embeddings.cpu().numpy())
