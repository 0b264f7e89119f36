"""Launches the device code: grids and working memory. Takes tensors of any device the Triton language runs on.

Nothing waits for the device and nothing is tuned at run time, so all of it can be captured in a CUDA graph. The kernels
are compiled for a codec, a dim and a query tile only (query_tile.py); numbers of queries, tokens, documents and
candidates are not specialised on, so warm_up compiles all there is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import triton

from tridex.kernels.approximation import Approximation
from tridex.kernels.codec import Codec
from tridex.kernels.codecs import DESCRIPTIONS
from tridex.kernels.segment import Segment

from . import kernels
from .blocks import Blocks, cut_up
from .codes import code_constants, reads
from .gluon import verdict
from .gluon.roles import HEAD, LISTS, OneWarp, Roles, kernels_of, serves
from .queries import QUERY_TYPES, prepare_queries
from .query_tile import (
    BLOCK_DOCUMENTS,
    EXPLAIN,
    LIST,
    SUBTILE,
    QueryTile,
    capability_of,
    constants,
    multiprocessors,
    query_constants,
    query_tile_of,
    query_tiles,
)
from .single_search import SinglePlan, plan_single, prepare_with_centroids, rescore_single, search_single

__all__ = [
    "approximates",
    "batches_of_each_variant",
    "choose",
    "explain",
    "reads",
    "rescore",
    "search",
    "search_workspace_bytes",
]

FLOAT8_PRODUCTS = 89
"""The first capability that multiplies float8; before it, codes become float16 in registers, which is exact."""

FEWEST_SPLITS = 4
"""Of a group of queries. What begins late shares what is left of the documents: 67 groups on 132 multiprocessors end
after 0.67 of the time that one program takes for all documents, and not after all of it; 133 after 1.17, and not 2."""


@dataclass(frozen=True)
class _Plan:
    """How a search is cut up. Known from shapes alone, so that nothing is read back from the device."""

    roles: Roles | None
    """Of the Gluon kernel that searches; None for the plain one."""
    query_tile: QueryTile
    subtiles: int
    """Of a query."""
    groups: int
    """Of queries that share a query tile."""
    splits: int
    """Programs that share the documents, so that all splits for all groups run at the same time; of many groups more
    than there is room for."""
    cut: Blocks
    most: int
    """Documents that a split takes."""
    rounds: int
    """Blocks that a split takes, at most."""
    kept: int
    """Keys that a split keeps of each query."""
    capacity: int
    """Keys in a buffer: filled up in vain some `kept` times before its least key is looked for."""

    def scratch(self, batch: int) -> dict[str, tuple[torch.dtype, int]]:
        """What the kernel's arguments point to: numbers of a type, the largest types first."""
        programs = self.splits * self.groups
        lists, head = (1, 0) if self.roles is None else (LISTS, HEAD)
        return {
            "p_keys": (torch.int64, batch * self.splits * self.capacity),
            "p_merged": (torch.int64, batch * self.splits * self.kept),
            "p_least": (torch.int64, batch * self.splits),
            "p_chunks": (torch.int64, programs * lists * (head + LIST)),
            "p_ends": (torch.int8, programs * lists * LIST),
            "p_sums": (torch.float32, programs * _sums(self.query_tile, self.subtiles)),
            "p_counters": (torch.int32, 2 * self.groups),
        }


def approximates(codec: Codec) -> bool:  # noqa: ARG001
    """Never: what came back from a filter would have to be waited for."""
    return False


def batches_of_each_variant(segment: Segment) -> tuple[int, ...]:
    """Queries of one subtile, a batch for each query tile."""
    return tuple(tile.subtiles for tile in query_tiles(segment.codec, segment.dim, capability_of(segment.device)))


def choose(segment: Segment) -> None:
    """Has `search` use the Gluon kernels from then on that were seen to agree with the plain one on the device."""
    if not isinstance(kernels.search_documents, triton.JITFunction):  # The interpreter has no Gluon.
        return
    on_device = segment.device.type == "cuda"  # Or else compiled for one that is elsewhere (ahead.py) and asked there.

    def choose_one(kind: str, kernel: Roles | OneWarp) -> None:
        load = partial(load_kernel, kernel, segment)
        if on_device:
            verdict.choose(kind, segment, load)
        else:
            verdict.compile_only(kind, segment.codec, load)

    found = kernels_of(segment.codec, segment.dim, capability_of(segment.device))
    # At the same time: each may wait for a process that tries the kernel.
    with ThreadPoolExecutor(max(len(found), 1)) as together:
        for done in [together.submit(choose_one, *one) for one in found.items()]:
            done.result()


def load_kernel(kernel: Roles | OneWarp, segment: Segment) -> None:
    """Has compiled and loaded what a search, and of a single query a rescore, launches beside warm_up's own kernels."""
    batch = kernel.query_tile.subtiles if isinstance(kernel, Roles) else 1
    queries = torch.ones((batch, 1, segment.dim), device=segment.device)
    if isinstance(kernel, Roles):
        search_by(kernel, queries, None, segment, 1)
        return
    rows = torch.zeros((1, 1), dtype=torch.int64, device=segment.device)
    for mask in (None, torch.ones((1, 1), dtype=torch.bool, device=segment.device)):
        search_by(kernel, queries, mask, segment, 1)
        rescore_by(kernel, queries, mask, segment, rows)


def search_workspace_bytes(segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:
    """Room for each program's lists of chunks and sums, and for each split's keys: by whichever kernel searches."""
    found = kernels_of(segment.codec, segment.dim, capability_of(segment.device))
    plans = [_plan(segment, batch, query_tokens, top_k, kernel) for kernel in {None, *found.values()}]
    return max(_carved_bytes(plan.scratch(batch)) for plan in plans)


def search(
    queries: torch.Tensor,
    mask: torch.Tensor | None,
    segment: Segment,
    top_k: int,
    workspace: torch.Tensor | None,
    approximation: Approximation | None = None,  # noqa: ARG001
) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.search."""
    return search_by(_chosen(queries, segment), queries, mask, segment, top_k, workspace)


def _chosen(queries: torch.Tensor, segment: Segment) -> Roles | OneWarp | None:
    """The Gluon kernel that serves such queries; None where the plain one does."""
    batch, query_tokens, _ = queries.shape
    found = kernels_of(segment.codec, segment.dim, capability_of(segment.device))
    serving = (
        kernel
        for kind, kernel in found.items()
        if serves(kernel, batch, query_tokens) and verdict.is_chosen(kind, segment.device, segment.codec)
    )
    return next(serving, None)


def search_by(
    kernel: Roles | OneWarp | None,
    queries: torch.Tensor,
    mask: torch.Tensor | None,
    segment: Segment,
    top_k: int,
    workspace: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """By this Gluon kernel, where the batch is one for it; else by the plain kernel."""
    batch, query_tokens, _ = queries.shape
    plan = _plan(segment, batch, query_tokens, top_k, kernel)
    if workspace is None:
        workspace = torch.empty(_carved_bytes(plan.scratch(batch)), dtype=torch.uint8, device=segment.device)
    scratch = _carved(workspace, plan.scratch(batch))
    scores = torch.empty((batch, top_k), dtype=torch.float32, device=segment.device)
    rows = torch.empty((batch, top_k), dtype=torch.int64, device=segment.device)
    if isinstance(plan, SinglePlan):
        with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
            products = None if segment.codebook is None else scratch["p_products"]
            prepared = _prepared(queries, mask, segment, scratch["p_counters"], products)
            search_single(plan, segment, prepared, _stored(segment), scores, rows, scratch)
        return scores, rows
    sizes = {
        "queries": batch,
        "subtiles": plan.subtiles,
        "documents": segment.documents,
        **vars(plan.cut),
        "most": plan.most,
        "kept": plan.kept,
        "capacity": plan.capacity,
    }
    with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
        prepared = _prepared(queries, mask, segment, scratch["p_counters"])
        if plan.roles is not None:
            from .gluon.search import search_batch  # Of an interface that other versions of the language may not have.

            device_code, grid = search_batch, (plan.groups, plan.splits)
            own = {"CODES_PER_BYTE": code_constants(segment.codec)["CODES_PER_BYTE"], **plan.roles.constants}
        else:
            device_code, grid = kernels.search_documents, (plan.splits * plan.groups, 1)
            own = {
                "groups": plan.groups,
                "rounds": plan.rounds,
                "BLOCK_DOCUMENTS": BLOCK_DOCUMENTS,
                "LIST": LIST,
                **constants(segment.codec, segment.dim, plan.query_tile),
            }
        device_code[grid](*prepared, *_stored(segment), scores, rows, **scratch, **sizes, top_k=top_k, **own)
    return scores, rows


def rescore(queries: torch.Tensor, mask: torch.Tensor | None, segment: Segment, rows: torch.Tensor) -> torch.Tensor:
    """tridex.kernels.rescore."""
    return rescore_by(_chosen(queries, segment), queries, mask, segment, rows)


def rescore_by(
    kernel: Roles | OneWarp | None,
    queries: torch.Tensor,
    mask: torch.Tensor | None,
    segment: Segment,
    rows: torch.Tensor,
) -> torch.Tensor:
    """By this Gluon kernel, where it is one of single queries and this is one; else by the plain kernel."""
    batch, query_tokens, _ = queries.shape
    candidates = rows.shape[1]
    scores = torch.empty((batch, candidates), dtype=torch.float32, device=segment.device)
    if not candidates:
        return scores
    if isinstance(kernel, OneWarp) and serves(kernel, batch, query_tokens):
        counters = torch.empty(1, dtype=torch.int32, device=segment.device)
        with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
            prepared = _prepared(queries, mask, segment, counters)
            rescore_single(kernel, segment, prepared, _stored(segment), rows.contiguous(), scores, counters)
        return scores
    query_tile = _smallest_tile(segment)
    subtiles = triton.cdiv(query_tokens, SUBTILE)
    block = batch * candidates // (query_tile.programs * multiprocessors(segment.device))
    block = min(max(block, 1), BLOCK_DOCUMENTS)
    programs = batch * triton.cdiv(candidates, block)
    with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
        kernels.score_candidates[(programs,)](
            *_prepared(queries, mask, segment),
            *_stored(segment),
            rows.contiguous(),
            scores,
            torch.empty((programs, LIST), dtype=torch.int64, device=segment.device),
            torch.empty((programs, LIST), dtype=torch.int8, device=segment.device),
            torch.empty((programs, _sums(query_tile, subtiles)), dtype=torch.float32, device=segment.device),
            subtiles,
            segment.documents,
            candidates,
            block,
            BLOCK_DOCUMENTS=BLOCK_DOCUMENTS,
            LIST=LIST,
            **constants(segment.codec, segment.dim, query_tile),
        )
    return scores


def explain(
    queries: torch.Tensor, mask: torch.Tensor | None, segment: Segment, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.explain."""
    batch, query_tokens, _ = queries.shape
    candidates = rows.shape[1]
    subtiles = triton.cdiv(query_tokens, SUBTILE)
    tokens = torch.empty((batch, candidates, subtiles * SUBTILE), dtype=torch.int64, device=segment.device)
    similarities = torch.empty(tokens.shape, dtype=torch.float32, device=segment.device)
    if candidates:
        with torch.cuda.device_of(segment.codes):  # type: ignore[no-untyped-call]
            kernels.explain_candidates[(batch * candidates * triton.cdiv(subtiles, EXPLAIN.subtiles),)](
                *_prepared(queries, mask, segment, each_token=True),
                *_stored(segment),
                rows.contiguous(),
                tokens,
                similarities,
                subtiles,
                segment.documents,
                candidates,
                **constants(segment.codec, segment.dim, EXPLAIN),
            )
    return tokens[..., :query_tokens], similarities[..., :query_tokens]


def _plan(
    segment: Segment, batch: int, query_tokens: int, top_k: int, kernel: Roles | OneWarp | None
) -> _Plan | SinglePlan:
    subtiles = triton.cdiv(query_tokens, SUBTILE)
    served = kernel is not None and serves(kernel, batch, query_tokens)
    if served and isinstance(kernel, OneWarp):
        return plan_single(kernel, segment, top_k)
    roles = None
    if served and isinstance(kernel, Roles):
        roles, query_tile = kernel, kernel.query_tile
    else:
        query_tile = query_tile_of(segment.codec, segment.dim, capability_of(segment.device), batch * subtiles)
    groups = triton.cdiv(batch, query_tile.subtiles // min(subtiles, query_tile.subtiles))
    programs = query_tile.programs * multiprocessors(segment.device)
    documents = segment.documents
    splits = min(max(programs // groups, min(programs, FEWEST_SPLITS)), max(documents, 1))
    cut = cut_up(segment, documents, splits, BLOCK_DOCUMENTS)
    most = 2 * triton.cdiv(documents, splits) + cut.block_documents
    kept = min(top_k, most)
    return _Plan(
        roles,
        query_tile,
        subtiles,
        groups,
        splits,
        cut,
        most,
        most // cut.last_documents,
        kept,
        capacity=2 * kept + 4 * BLOCK_DOCUMENTS,
    )


def _sums(query_tile: QueryTile, subtiles: int) -> int:
    """Numbers that a program has in p_sums."""
    return -(-subtiles // query_tile.subtiles) * BLOCK_DOCUMENTS * query_tile.warps


def _carved_bytes(scratch: dict[str, tuple[torch.dtype, int]]) -> int:
    return -(-sum(dtype.itemsize * count for dtype, count in scratch.values()) // 8) * 8


def _carved(workspace: torch.Tensor, scratch: dict[str, tuple[torch.dtype, int]]) -> dict[str, torch.Tensor]:
    """Tensors that lie in a workspace one behind the other."""
    sizes = [dtype.itemsize * count for dtype, count in scratch.values()]
    parts = torch.split(workspace[: sum(sizes)], sizes)
    return {name: part.view(dtype) for (name, (dtype, _)), part in zip(scratch.items(), parts, strict=True)}


def _smallest_tile(segment: Segment) -> QueryTile:
    """Candidates are a query's own, so a query tile holds a query at most."""
    return query_tiles(segment.codec, segment.dim, capability_of(segment.device))[0]


class _Prepared(NamedTuple):
    """What queries.py makes of queries, in the order of the kernels' arguments."""

    numbers: torch.Tensor
    weights: torch.Tensor
    units: torch.Tensor


def _prepared(
    queries: torch.Tensor,
    mask: torch.Tensor | None,
    segment: Segment,
    counters: torch.Tensor | None = None,
    products: torch.Tensor | None = None,
    *,
    each_token: bool = False,
) -> _Prepared:
    """Queries for the kernels; sets the counters to 0. Each token has its own unit, or each query.

    products: Out: those of a single query and all centroids, where they are wanted.
    """
    codec, device = DESCRIPTIONS[segment.codec], segment.device
    batch, query_tokens, dim = queries.shape
    lines = triton.cdiv(query_tokens, SUBTILE) * SUBTILE
    operand = torch.float16 if _reads_bytes_as_halves(segment) else codec.operand
    prepared = _Prepared(
        torch.empty((batch, lines, dim), dtype=operand, device=device),
        torch.empty((batch, lines), dtype=torch.float32, device=device),
        torch.empty((batch, lines) if each_token else batch, dtype=torch.float64, device=device),
    )
    if counters is None:
        counters = torch.empty(0, dtype=torch.int32, device=device)
    masked = None if mask is None else mask.contiguous().view(torch.int8)
    query_type = QUERY_TYPES.index(queries.dtype)
    arguments = queries.contiguous().view(torch.uint8), query_type, masked, *prepared, counters
    if products is not None:
        prepare_with_centroids(segment, arguments, query_tokens, products)
        return prepared
    prepare_queries[(batch,)](
        *arguments,
        query_tokens,
        lines // SUBTILE,
        len(counters),
        1.0 if segment.codebook is None else segment.codebook.step,
        EACH_TOKEN=each_token,
        **query_constants(segment.codec, dim),
    )
    return prepared


def _reads_bytes_as_halves(segment: Segment) -> bool:
    operand = DESCRIPTIONS[segment.codec].operand
    return operand == torch.float8_e4m3fn and capability_of(segment.device) < FLOAT8_PRODUCTS


def _stored(segment: Segment) -> tuple[torch.Tensor | None, ...]:
    """The arguments that the kernels share, of what the segment holds."""
    codec, codebook = DESCRIPTIONS[segment.codec], segment.codebook
    as_bytes = codebook is not None or _reads_bytes_as_halves(segment)
    return (
        segment.codes if as_bytes else segment.codes.view(codec.operand),
        segment.scales,
        segment.centroid_ids,
        None if codebook is None else codebook.centroids,
        None if codebook is None else codebook.bucket_weights,
        segment.offsets,
        segment.live,
    )
