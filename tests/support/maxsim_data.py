"""Documents, queries and segments that tests of MaxSim share: on the CPU, under the interpreter and on a GPU."""

from __future__ import annotations

import numpy as np
import torch

from tridex.kernels import Codebook, Codec, Segment, pack, pack_bitmap

LENGTHS = [0, 1, 15, 16, 17, 300, 31, 32, 33, 2]
"""Tokens of documents: around the sizes that kernels cut them to."""


def documents(lengths: list[int], dim: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = [rng.standard_normal((length, dim), np.float32) for length in lengths]
    return [tokens / np.linalg.norm(tokens, axis=1, keepdims=True) for tokens in drawn]


def codebook(codec: Codec, dim: int, seed: int = 5) -> Codebook | None:
    """Of random directions, and of levels that leave a large error: what is stored is what must be scored."""
    if not codec.residual_bits:
        return None
    generator = torch.Generator().manual_seed(seed)
    centroids = torch.nn.functional.normalize(torch.randn((70, dim), generator=generator), dim=-1).half()
    levels = torch.linspace(-127, 127, 2**codec.residual_bits).round().to(torch.int8)
    return Codebook(centroids, levels, step=2.0**-8)


def packed(docs: list[np.ndarray], codec: Codec, device: torch.device | str = "cpu") -> Segment:
    return pack(docs, codec, device, codebook(codec, docs[0].shape[1]))


def queries(batch: int, tokens: int, dim: int, seed: int = 1) -> torch.Tensor:
    drawn = torch.randn((batch, tokens, dim), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=-1)


def masks(batch: int, tokens: int, seed: int = 2) -> torch.Tensor:
    return torch.rand((batch, tokens), generator=torch.Generator().manual_seed(seed)) < 0.7


def rising(count: int, dim: int = 16) -> tuple[list[np.ndarray], torch.Tensor]:
    """Documents of which each is better than the one before for the one query: every one enters a top-k's buffer."""
    direction = np.eye(1, dim, dtype=np.float32)
    return [direction * ((row + 1) / count) for row in range(count)], torch.from_numpy(direction)[None]


def far_away(codec: Codec, tokens: int, document: np.ndarray, device: torch.device | str = "cpu") -> Segment:
    """Row 0: a dead document of so many tokens, whose memory nobody touches on a CPU. Row 1: the document, after it."""
    dim = document.shape[1]
    rows = torch.from_numpy(codec.encode(document, codebook(codec, dim)))
    near = codec.split(rows)
    total = tokens + len(document)
    far: list[torch.Tensor | None] = []
    for plane in near:
        far.append(None if plane is None else torch.zeros((total, *plane.shape[1:]), dtype=plane.dtype, device=device))
        if plane is not None:
            far[-1][tokens:] = plane.to(device)
    book = codebook(codec, dim)
    return Segment(
        codec,
        dim,
        far[0],
        torch.tensor([0, tokens, total], device=device),
        pack_bitmap(np.array([False, True])).to(device),
        far[1],
        far[2],
        None if book is None else book.to(device),
    )
