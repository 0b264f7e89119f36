"""Synthetic token embeddings for the MaxSim benchmark: the same documents in every codec, made in seconds.

Tokens are unit vectors around the centroids of a small pool, because the residual codecs need structure to have
something to code. A pool is encoded once per codec; a document's tokens are drawn from it, so that a corpus of
gigabytes is a gather on its device and every codec holds the same documents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tridex import kernels
from tridex.kernels import Codec, Segment

DIM = 128
QUERY_TOKENS = 32
POOL_TOKENS = 1 << 17
CENTROIDS = 2048
SPREAD = 0.6
"""Length of a token's step away from its centroid, before it is made unit length: cosine 0.86 to it on average."""


@dataclass(frozen=True)
class Shape:
    """Documents of one length, or of lengths from a gamma distribution of shape 4 cut to 8 tokens and 4 means."""

    name: str
    documents: int
    mean_tokens: int
    ragged: bool

    def lengths(self, tokens: float) -> NDArray[np.int64]:
        """Tokens of each document; the first ones alone where all of them have more than so many tokens."""
        lengths = np.full(self.documents, self.mean_tokens)
        if self.ragged:
            drawn = np.random.default_rng(0).gamma(4, self.mean_tokens / 4, self.documents)
            lengths = drawn.round().astype(np.int64).clip(8, 4 * self.mean_tokens)
        return lengths[: max(int(np.searchsorted(lengths.cumsum(), tokens, side="right")), 1)]


# Ragged shapes have fewer than 2^24 tokens, because late-interaction-kernels reaches no more of 128 dimensions.
SHAPES = (
    Shape("10k documents of 300 tokens", 10_000, 300, False),
    Shape("100k documents of 300 tokens", 100_000, 300, False),
    Shape("ragged documents, mean 68 tokens", 100_000, 68, True),
    Shape("ragged documents, mean 180 tokens", 50_000, 180, True),
)


@dataclass(frozen=True)
class Corpus:
    """The same documents in every codec."""

    shape: Shape
    segments: dict[Codec, Segment]

    @property
    def documents(self) -> int:
        return next(iter(self.segments.values())).documents

    @property
    def tokens(self) -> int:
        return next(iter(self.segments.values())).tokens

    def first(self, documents: int) -> Corpus:
        """The first documents alone, in the same memory."""
        offsets = next(iter(self.segments.values())).offsets[: documents + 1]
        tokens = slice(int(offsets[-1]))
        return Corpus(self.shape, {codec: _take(segment, tokens, offsets) for codec, segment in self.segments.items()})


def embeddings(tokens: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around common centroids: float32 [tokens, DIM]."""
    centroids = torch.nn.functional.normalize(torch.randn(CENTROIDS, DIM, generator=torch.Generator().manual_seed(0)))
    noise = torch.Generator().manual_seed(seed)
    nearest = centroids[torch.randint(CENTROIDS, (tokens,), generator=noise)]
    steps = torch.randn(tokens, DIM, generator=noise) * (SPREAD / DIM**0.5)
    vectors: NDArray[np.float32] = torch.nn.functional.normalize(nearest + steps).numpy()
    return vectors


def queries(batch: int, device: torch.device) -> torch.Tensor:
    """float32 [batch, QUERY_TOKENS, DIM]"""
    return torch.from_numpy(embeddings(batch * QUERY_TOKENS, seed=2)).view(batch, QUERY_TOKENS, DIM).to(device)


def pool(codec: Codec, device: torch.device, tokens: int = POOL_TOKENS) -> Segment:
    """The pool in one codec, as one document; centroids are found on the device, too."""
    vectors = torch.from_numpy(embeddings(tokens, seed=1)).to(device)
    codebook = None
    if codec.residual_bits:
        codebook = kernels.train_codebook(vectors, codec, min(CENTROIDS, tokens // 64))
    rows = kernels.encode(codec, vectors, codebook)
    return Segment.from_numpy(codec, DIM, rows, np.array([0, tokens]), device=device, codebook=codebook)


def corpus(shape: Shape, pools: Iterable[Segment], tokens: float) -> Corpus:
    """A shape's documents, or as many of them as have no more than so many tokens."""
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(shape.lengths(tokens))]))
    segments = {}
    for source in pools:
        chance = torch.Generator().manual_seed(3)  # Anew for each codec, so that all get the same documents.
        drawn = torch.randint(source.tokens, (int(offsets[-1]),), generator=chance).to(source.device)
        segments[source.codec] = _take(source, drawn, offsets)
    return Corpus(shape, segments)


def _take(segment: Segment, tokens: torch.Tensor | slice, offsets: torch.Tensor) -> Segment:
    return dataclasses.replace(
        segment,
        codes=segment.codes[tokens],
        scales=None if segment.scales is None else segment.scales[tokens],
        centroid_ids=None if segment.centroid_ids is None else segment.centroid_ids[tokens],
        offsets=offsets.to(segment.device),
        live=kernels.pack_bitmap(np.ones(len(offsets) - 1, np.bool_)).to(segment.device),
    )
