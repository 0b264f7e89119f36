"""Launches the device code: grids, tile sizes, working memory. Takes tensors of any device the Triton language runs on.

Nothing waits for the device and nothing is tuned at run time. The kernels are compiled for a codec and a dim only;
numbers of queries, tokens, documents and candidates are not specialised on, so warm_up compiles all there is.
"""

from __future__ import annotations

from functools import reduce

import torch
import triton

from . import device, ranking
from .codecs import Codec
from .segment import Segment

SLICE = 32
"""Query tokens in a slice; most checkpoints' queries are one slice."""

SLICES = 2
"""Slices in a panel."""

BLOCK_DOCUMENTS = 16
"""Documents of one program of a search."""

BLOCK_SELECT = 256
"""Documents of one program of the selection, which sorts them."""

SELECT_WARPS = 4


def scoring_options(codec: Codec, dim: int) -> dict[str, int]:
    """The scoring kernels' constants, warps and stages: the largest tiles whose registers spill neither on sm_80 nor on
    sm_90 (tests/kernels compiles them all and looks).

    No tensor core keeps float32 exact, so its dot products are scalar multiplications, on fewer dimensions at a time.
    On sm_80 a third stage of 256 dimensions takes all 255 registers, and blocks of 256 out of 768 spill.
    """
    if codec is Codec.FLOAT32:
        block_dim, warps, stages = 32, 8, 2
    elif dim <= 128:
        block_dim, warps, stages = max(triton.next_power_of_2(dim), 16), 4, 3
    else:
        block_dim, warps, stages = 256 if dim <= 256 else 128, 4, 2
    return {
        "DIM": dim,
        "BLOCK_DIM": block_dim,
        "BLOCK_TOKENS": 64,
        "SLICE": SLICE,
        "SLICES": SLICES,
        "num_warps": warps,
        "num_stages": stages,
    }


def search(
    queries: torch.Tensor, segment: Segment, top_k: int, query_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.search. Working memory: 4 bytes for each slice of each query and each document."""
    batch, query_tokens, _ = queries.shape
    slices = triton.cdiv(query_tokens, SLICE)
    blocks = triton.cdiv(segment.documents, BLOCK_SELECT)
    kept = min(top_k, BLOCK_SELECT)
    sums = torch.empty((batch, slices, segment.documents), dtype=torch.float32, device=segment.device)
    keys = torch.empty((batch, blocks * kept), dtype=torch.int64, device=segment.device)
    with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
        programs = triton.cdiv(segment.documents, BLOCK_DOCUMENTS) * triton.cdiv(batch * slices, SLICES)
        device.score_documents[(programs,)](
            *_inputs(queries, segment, query_mask),
            sums,
            batch,
            query_tokens,
            segment.documents,
            BLOCK_DOCUMENTS=BLOCK_DOCUMENTS,
            **scoring_options(segment.codec, segment.dim),
        )
        device.select_documents[(batch * blocks,)](
            sums, keys, slices, segment.documents, kept, BLOCK=BLOCK_SELECT, num_warps=SELECT_WARPS
        )
        return ranking.best(keys, top_k)


def rescore(queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor) -> torch.Tensor:
    """tridex.kernels.rescore."""
    batch, query_tokens, _ = queries.shape
    candidates = rows.shape[1]
    slices = triton.cdiv(query_tokens, SLICE)
    sums = torch.empty((batch, slices, candidates), dtype=torch.float32, device=segment.device)
    with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
        device.score_candidates[(batch * candidates * triton.cdiv(slices, SLICES),)](
            *_inputs(queries, segment, query_mask),
            rows.contiguous(),
            sums,
            query_tokens,
            segment.documents,
            candidates,
            **scoring_options(segment.codec, segment.dim),
        )
        return reduce(torch.add, sums.unbind(1))


def _inputs(queries: torch.Tensor, segment: Segment, query_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The arguments that the scoring kernels share. The queries are copied, so that their address is aligned."""
    return (
        queries.to(segment.codec.dtype, copy=True, memory_format=torch.contiguous_format),
        query_mask.contiguous().view(torch.uint8),
        segment.codes.view(segment.codec.dtype),
        segment.offsets,
        segment.live,
    )
