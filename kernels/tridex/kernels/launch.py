"""Launches the device code: grids and working memory. Takes tensors of any device the Triton language runs on.

Nothing waits for the device and nothing is tuned at run time, so all of it can be captured in a CUDA graph. The kernels
are compiled for a codec, a dim and a panel only (tiles.py); numbers of queries, tokens, documents and candidates are
not specialised on, so warm_up compiles all there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch.nn.functional import pad

from . import device
from .codecs import FLOAT8_UNIT, Codec, round_queries
from .scaling import ScaledQueries
from .segment import Segment
from .tiles import (
    BLOCK_DOCUMENTS,
    MERGE,
    SLICE,
    Panel,
    capability_of,
    constants,
    multiprocessors,
    panel_of,
    panels,
)

_BLOCKS_PER_PART = 8
"""So that a part that got the long documents is not waited for."""

_TOKENS_PER_BLOCK = 4096
"""A block of more has nothing to gain: 1 MiB of float16 at 128 dimensions."""

FLOAT8_PRODUCTS = 89
"""The first capability that multiplies float8; before it, codes become float16 in registers, which is exact."""


@dataclass(frozen=True)
class _Plan:
    """How a search is cut up. Known from shapes alone, so that nothing is read back from the device."""

    panel: Panel
    groups: int
    """Of queries that share a panel."""
    parts: int
    """Of the documents, so that all parts for all groups run at the same time."""
    block_documents: int
    kept: int
    """Keys that a part keeps of each query."""
    capacity: int
    """Keys in a buffer: filled up in vain some `kept` times before its least key is looked for."""


def batches_of_each_shape(segment: Segment) -> tuple[int, ...]:
    """What warm_up has to search with, queries of one slice: a batch for each panel."""
    return tuple(panel.slices for panel in panels(segment.codec, segment.dim, capability_of(segment.device)))


def search_workspace_bytes(segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:
    """tridex.kernels.search_workspace_bytes: 8 bytes for each key of each part's buffers, and for each that is kept."""
    plan = _plan(segment, batch, query_tokens, top_k)
    return 8 * batch * plan.parts * (plan.capacity + plan.kept)


def search(
    queries: ScaledQueries, segment: Segment, top_k: int, workspace: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.search."""
    batch, query_tokens = queries.weights.shape
    plan = _plan(segment, batch, query_tokens, top_k)
    if workspace is None:
        size = search_workspace_bytes(segment, batch, query_tokens, top_k)
        workspace = torch.empty(size, dtype=torch.uint8, device=segment.device)
    appended, merged = batch * plan.parts * plan.capacity, batch * plan.parts * plan.kept
    keys = workspace[: 8 * (appended + merged)].view(torch.int64)
    buffers, kept = keys[:appended], keys[appended:]
    scores = torch.empty((batch, top_k), dtype=torch.float32, device=segment.device)
    rows = torch.empty((batch, top_k), dtype=torch.int64, device=segment.device)
    with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
        device.search_documents[(plan.parts * plan.groups,)](
            *_inputs(queries, segment),
            buffers,
            batch,
            triton.cdiv(query_tokens, SLICE),
            segment.documents,
            plan.block_documents,
            plan.groups,
            plan.kept,
            plan.capacity,
            BLOCK_DOCUMENTS=BLOCK_DOCUMENTS,
            **constants(segment.codec, segment.dim, plan.panel),
        )
        kept.view(-1, plan.kept).copy_(buffers.view(-1, plan.capacity)[:, : plan.kept])
        device.best_documents[(batch,)](kept, scores, rows, plan.parts * plan.kept, top_k, **MERGE)
    return scores, rows


def rescore(queries: ScaledQueries, segment: Segment, rows: torch.Tensor) -> torch.Tensor:
    """tridex.kernels.rescore."""
    batch, query_tokens = queries.weights.shape
    candidates = rows.shape[1]
    scores = torch.empty((batch, candidates), dtype=torch.float32, device=segment.device)
    if not candidates:
        return scores
    panel = _smallest_panel(segment)
    programs = panel.programs * multiprocessors(segment.device)
    block = min(max(batch * candidates // programs, 1), BLOCK_DOCUMENTS)
    with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
        device.score_candidates[(batch * triton.cdiv(candidates, block),)](
            *_inputs(queries, segment),
            rows.contiguous(),
            scores,
            triton.cdiv(query_tokens, SLICE),
            segment.documents,
            candidates,
            block,
            BLOCK_DOCUMENTS=BLOCK_DOCUMENTS,
            **constants(segment.codec, segment.dim, panel),
        )
    return scores


def explain(queries: ScaledQueries, segment: Segment, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.explain."""
    batch, query_tokens = queries.weights.shape
    candidates = rows.shape[1]
    slices = triton.cdiv(query_tokens, SLICE)
    tokens = torch.empty((batch, candidates, slices * SLICE), dtype=torch.int64, device=segment.device)
    similarities = torch.empty(tokens.shape, dtype=torch.float32, device=segment.device)
    panel = _smallest_panel(segment)
    if candidates:
        with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
            device.explain_candidates[(batch * candidates * triton.cdiv(slices, panel.slices),)](
                *_inputs(queries, segment),
                rows.contiguous(),
                tokens,
                similarities,
                slices,
                segment.documents,
                candidates,
                **constants(segment.codec, segment.dim, panel),
            )
    return tokens[..., :query_tokens], similarities[..., :query_tokens]


def _plan(segment: Segment, batch: int, query_tokens: int, top_k: int) -> _Plan:
    slices = triton.cdiv(query_tokens, SLICE)
    panel = panel_of(segment.codec, segment.dim, capability_of(segment.device), batch * slices)
    groups = triton.cdiv(batch, panel.slices // min(slices, panel.slices))
    programs = panel.programs * multiprocessors(segment.device)
    parts = min(max(programs // groups, 1), max(segment.documents, 1))
    by_tokens = _TOKENS_PER_BLOCK * segment.documents // max(segment.tokens, 1)
    by_parts = segment.documents // (parts * _BLOCKS_PER_PART)
    block_documents = min(max(min(by_tokens, by_parts), 1), BLOCK_DOCUMENTS)
    most = triton.cdiv(triton.cdiv(segment.documents, block_documents), parts) * block_documents
    kept = min(top_k, max(most, 1))
    return _Plan(panel, groups, parts, block_documents, kept, capacity=2 * kept + 4 * BLOCK_DOCUMENTS)


def _smallest_panel(segment: Segment) -> Panel:
    """Candidates are a query's own, so a panel holds a query at most."""
    return panels(segment.codec, segment.dim, capability_of(segment.device))[0]


def _inputs(queries: ScaledQueries, segment: Segment) -> tuple[torch.Tensor | None, ...]:
    """The arguments that the kernels share. Queries are filled up to whole slices, so that each lies in memory as it
    stands in a panel. What a token's products have in common goes into its weight; the residual codecs' two products
    have nothing."""
    codec, codebook = segment.codec, segment.codebook
    missing = -queries.weights.shape[1] % SLICE
    tokens, weights = pad(queries.tokens, (0, 0, 0, missing)), pad(queries.weights, (0, missing)).contiguous()
    numbers, scales = round_queries(tokens, codec)
    halves = None
    codes = segment.codes if codec.residual_bits else segment.codes.view(codec.dtype)
    if codebook is not None and scales is not None:
        scales = scales * codebook.step
        halves = tokens.half()
    elif scales is not None:
        weights, scales = weights * scales, None
    elif codec is Codec.FLOAT8 and capability_of(segment.device) < FLOAT8_PRODUCTS:
        numbers, codes = (numbers.float() / FLOAT8_UNIT).half(), segment.codes
    elif codec is Codec.FLOAT8:
        weights = weights / FLOAT8_UNIT**2
    return (
        numbers,
        scales,
        halves,
        weights,
        codes,
        segment.scales,
        segment.centroid_ids,
        None if codebook is None else codebook.centroids,
        None if codebook is None else codebook.levels,
        segment.offsets,
        segment.live,
    )
