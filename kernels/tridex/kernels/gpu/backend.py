"""Launches the device code: grids and working memory. Takes tensors of any device the Triton language runs on.

Nothing waits for the device and nothing is tuned at run time, so all of it can be captured in a CUDA graph. The kernels
are compiled for a codec, a dim and a query tile only (query_tile.py); numbers of queries, tokens, documents and
candidates are not specialised on, so warm_up compiles all there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch.nn.functional import pad

from tridex.kernels.scaling import ScaledQueries
from tridex.kernels.segment import Segment

from . import kernels
from .codes import reads
from .query_tile import (
    BLOCK_DOCUMENTS,
    MERGE,
    SUBTILE,
    QueryTile,
    capability_of,
    constants,
    multiprocessors,
    query_tile_of,
    query_tiles,
)

__all__ = ["batches_of_each_variant", "explain", "reads", "rescore", "search", "search_workspace_bytes"]

_BLOCKS_PER_SPLIT = 8
"""So that a split that got the long documents is not waited for."""

_TOKENS_PER_BLOCK = 4096
"""A block of more has nothing to gain: 1 MiB of float16 at 128 dimensions."""

FLOAT8_PRODUCTS = 89
"""The first capability that multiplies float8; before it, codes become float16 in registers, which is exact."""


@dataclass(frozen=True)
class _Plan:
    """How a search is cut up. Known from shapes alone, so that nothing is read back from the device."""

    query_tile: QueryTile
    groups: int
    """Of queries that share a query tile."""
    splits: int
    """Of the documents, so that all splits for all groups run at the same time."""
    block_documents: int
    kept: int
    """Keys that a split keeps of each query."""
    capacity: int
    """Keys in a buffer: filled up in vain some `kept` times before its least key is looked for."""


def batches_of_each_variant(segment: Segment) -> tuple[int, ...]:
    """Queries of one subtile, a batch for each query tile."""
    return tuple(tile.subtiles for tile in query_tiles(segment.codec, segment.dim, capability_of(segment.device)))


def search_workspace_bytes(segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:
    """8 bytes for each key of each split's buffers, and for each that is kept."""
    plan = _plan(segment, batch, query_tokens, top_k)
    return 8 * batch * plan.splits * (plan.capacity + plan.kept)


def search(
    queries: ScaledQueries, segment: Segment, top_k: int, workspace: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.search."""
    batch, query_tokens = queries.weights.shape
    plan = _plan(segment, batch, query_tokens, top_k)
    if workspace is None:
        size = search_workspace_bytes(segment, batch, query_tokens, top_k)
        workspace = torch.empty(size, dtype=torch.uint8, device=segment.device)
    appended, merged = batch * plan.splits * plan.capacity, batch * plan.splits * plan.kept
    keys = workspace[: 8 * (appended + merged)].view(torch.int64)
    buffers, kept = keys[:appended], keys[appended:]
    scores = torch.empty((batch, top_k), dtype=torch.float32, device=segment.device)
    rows = torch.empty((batch, top_k), dtype=torch.int64, device=segment.device)
    with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
        kernels.search_documents[(plan.splits * plan.groups,)](
            *_inputs(queries, segment),
            buffers,
            batch,
            triton.cdiv(query_tokens, SUBTILE),
            segment.documents,
            plan.block_documents,
            plan.groups,
            plan.kept,
            plan.capacity,
            BLOCK_DOCUMENTS=BLOCK_DOCUMENTS,
            **constants(segment.codec, segment.dim, plan.query_tile),
        )
        kept.view(-1, plan.kept).copy_(buffers.view(-1, plan.capacity)[:, : plan.kept])
        kernels.best_documents[(batch,)](kept, scores, rows, plan.splits * plan.kept, top_k, **MERGE)
    return scores, rows


def rescore(queries: ScaledQueries, segment: Segment, rows: torch.Tensor) -> torch.Tensor:
    """tridex.kernels.rescore."""
    batch, query_tokens = queries.weights.shape
    candidates = rows.shape[1]
    scores = torch.empty((batch, candidates), dtype=torch.float32, device=segment.device)
    if not candidates:
        return scores
    query_tile = _smallest_tile(segment)
    programs = query_tile.programs * multiprocessors(segment.device)
    block = min(max(batch * candidates // programs, 1), BLOCK_DOCUMENTS)
    with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
        kernels.score_candidates[(batch * triton.cdiv(candidates, block),)](
            *_inputs(queries, segment),
            rows.contiguous(),
            scores,
            triton.cdiv(query_tokens, SUBTILE),
            segment.documents,
            candidates,
            block,
            BLOCK_DOCUMENTS=BLOCK_DOCUMENTS,
            **constants(segment.codec, segment.dim, query_tile),
        )
    return scores


def explain(queries: ScaledQueries, segment: Segment, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.explain."""
    batch, query_tokens = queries.weights.shape
    candidates = rows.shape[1]
    subtiles = triton.cdiv(query_tokens, SUBTILE)
    tokens = torch.empty((batch, candidates, subtiles * SUBTILE), dtype=torch.int64, device=segment.device)
    similarities = torch.empty(tokens.shape, dtype=torch.float32, device=segment.device)
    query_tile = _smallest_tile(segment)
    if candidates:
        with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
            kernels.explain_candidates[(batch * candidates * triton.cdiv(subtiles, query_tile.subtiles),)](
                *_inputs(queries, segment),
                rows.contiguous(),
                tokens,
                similarities,
                subtiles,
                segment.documents,
                candidates,
                **constants(segment.codec, segment.dim, query_tile),
            )
    return tokens[..., :query_tokens], similarities[..., :query_tokens]


def _plan(segment: Segment, batch: int, query_tokens: int, top_k: int) -> _Plan:
    subtiles = triton.cdiv(query_tokens, SUBTILE)
    query_tile = query_tile_of(segment.codec, segment.dim, capability_of(segment.device), batch * subtiles)
    groups = triton.cdiv(batch, query_tile.subtiles // min(subtiles, query_tile.subtiles))
    programs = query_tile.programs * multiprocessors(segment.device)
    splits = min(max(programs // groups, 1), max(segment.documents, 1))
    by_tokens = _TOKENS_PER_BLOCK * segment.documents // max(segment.tokens, 1)
    by_splits = segment.documents // (splits * _BLOCKS_PER_SPLIT)
    block_documents = min(max(min(by_tokens, by_splits), 1), BLOCK_DOCUMENTS)
    most = triton.cdiv(triton.cdiv(segment.documents, block_documents), splits) * block_documents
    kept = min(top_k, max(most, 1))
    return _Plan(query_tile, groups, splits, block_documents, kept, capacity=2 * kept + 4 * BLOCK_DOCUMENTS)


def _smallest_tile(segment: Segment) -> QueryTile:
    """Candidates are a query's own, so a query tile holds a query at most."""
    return query_tiles(segment.codec, segment.dim, capability_of(segment.device))[0]


def _inputs(queries: ScaledQueries, segment: Segment) -> tuple[torch.Tensor | None, ...]:
    """The arguments that the kernels share.

    Queries are filled up to whole subtiles, so that each lies in memory as it stands in a query tile. What a token's
    products have in common goes into its weight.
    """
    codec, codebook = segment.codec.description, segment.codebook
    missing = -queries.weights.shape[1] % SUBTILE
    tokens, weights = pad(queries.tokens, (0, 0, 0, missing)), pad(queries.weights, (0, missing)).contiguous()
    numbers, scales = codec.round_queries(tokens)
    codes = segment.codes if codec.has_codebook else segment.codes.view(codec.operand)
    if scales is not None:
        weights = weights * (scales if codebook is None else scales * codebook.step)
    elif codec.operand == torch.float8_e4m3fn and capability_of(segment.device) < FLOAT8_PRODUCTS:
        numbers, codes = (numbers.float() / codec.unit).half(), segment.codes
    elif codec.unit != 1:
        weights = weights / codec.unit**2
    return (
        numbers,
        weights,
        codes,
        segment.scales,
        segment.centroid_ids,
        None if codebook is None else codebook.centroids,
        None if codebook is None else codebook.bucket_weights,
        segment.offsets,
        segment.live,
    )
