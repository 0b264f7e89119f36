"""A single query by programs of one warp, its search and its rescore: memory and launches.

A search is three launches: the query made ready (backend.py; for residual codes here, with its products with all
centroids), the scores of all documents, and the best of them. A rescore is two: the query made ready, and the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from triton import cdiv

from tridex.kernels.segment import Segment

from . import single_query
from .blocks import Blocks, cut_up
from .codes import code_constants
from .gluon.roles import LANES, OneWarp
from .query_tile import SUBTILE, multiprocessors


@dataclass(frozen=True)
class SinglePlan:
    """How a search is cut up. Known from shapes alone, as backend.py's plan."""

    kernel: OneWarp
    programs: int
    documents: int
    cut: Blocks
    splits: int
    """Programs that look for the best scores."""
    share: int
    """Documents of each."""
    kept: int
    """Keys that a split keeps."""
    capacity: int
    """Keys in its buffer."""
    centroids: int
    """Of residual codes; 0 for others."""

    def scratch(self, _batch: int) -> dict[str, tuple[torch.dtype, int]]:
        """What the kernels' arguments point to: numbers of a type, the largest types first.

        Products come before them: 16 bytes are read at a time, and a workspace begins at a multiple of that.
        """
        return {
            "p_products": (torch.int32, self.centroids * SUBTILE),
            "p_keys": (torch.int64, self.splits * self.capacity),
            "p_merged": (torch.int64, self.splits * self.kept),
            "p_least": (torch.int64, self.splits),
            "p_scores": (torch.float32, self.documents),
            "p_counters": (torch.int32, 2),
        }


def plan_single(kernel: OneWarp, segment: Segment, top_k: int) -> SinglePlan:
    """The plan of a search that the kernel serves."""
    documents = segment.documents
    at_once = multiprocessors(segment.device)
    programs = min(kernel.programs * at_once, max(documents, 1))
    splits = min(max(cdiv(documents, single_query.SCORES_AT_A_TIME), 1), at_once)
    share = max(cdiv(documents, splits), 1)
    kept = min(top_k, share)
    return SinglePlan(
        kernel,
        programs,
        documents,
        cut_up(segment, documents, programs, LANES),
        splits,
        share,
        kept,
        capacity=2 * kept + 2 * single_query.SCORES_AT_A_TIME,
        centroids=0 if segment.codebook is None else len(segment.codebook.centroids),
    )


def prepare_with_centroids(
    segment: Segment, arguments: Sequence[torch.Tensor | int | None], tokens: int, products: torch.Tensor
) -> None:
    """Makes a query ready, as prepare_queries, and multiplies it with all centroids of a segment of residual codes.

    arguments: The first ones of prepare_queries, up to the counters. tokens: of the query.
    """
    codebook, counters = segment.codebook, arguments[-1]
    assert codebook is not None and isinstance(counters, torch.Tensor)
    centroids = len(codebook.centroids)
    shares = cdiv(centroids, single_query.CENTROIDS_AT_A_TIME)
    programs = min(shares, single_query.TABLE_PROGRAMS * multiprocessors(segment.device))
    single_query.prepare_with_centroids[(programs,)](
        *arguments,
        codebook.centroids,
        products,
        tokens,
        len(counters),
        codebook.step,
        centroids,
        DIM=segment.dim,
        SUBTILE=SUBTILE,
        CENTROIDS=single_query.CENTROIDS_AT_A_TIME,
        num_warps=4,
    )


def search_single(
    plan: SinglePlan,
    segment: Segment,
    prepared: Sequence[torch.Tensor],
    stored: Sequence[torch.Tensor | None],
    scores: torch.Tensor,
    rows: torch.Tensor,
    scratch: dict[str, torch.Tensor],
) -> None:
    """The launches behind the one that makes the query ready.

    prepared: The query's numbers, weights and unit. stored: arguments of search_documents, from codes to bitmap.
    scratch: What the plan says, by the arguments' names.
    """
    counters, document_scores = scratch["p_counters"], scratch["p_scores"]
    products = None if segment.codebook is None else scratch["p_products"]
    _score(plan.kernel, plan.programs, plan.cut, segment, prepared, stored, products, None, document_scores, counters)
    single_query.best_of_scores[(plan.splits,)](
        document_scores,
        prepared[2],
        scores,
        rows,
        scratch["p_keys"],
        scratch["p_merged"],
        scratch["p_least"],
        counters[1:],
        plan.documents,
        plan.share,
        plan.kept,
        plan.capacity,
        scores.shape[1],
        CHUNK=single_query.SCORES_AT_A_TIME,
        num_warps=4,
    )


def rescore_single(
    kernel: OneWarp,
    segment: Segment,
    prepared: Sequence[torch.Tensor],
    stored: Sequence[torch.Tensor | None],
    rows: torch.Tensor,
    scores: torch.Tensor,
    counters: torch.Tensor,
) -> None:
    """The launch behind prepare_queries.

    prepared, stored: As in search_single. rows, scores: of the query's candidates. counters: int32 [1], 0.
    """
    candidates = rows.shape[1]
    programs = min(kernel.programs * multiprocessors(segment.device), candidates)
    cut = cut_up(segment, candidates, programs, LANES)
    _score(kernel, programs, cut, segment, prepared, stored, None, rows, scores, counters)


def _score(
    kernel: OneWarp,
    programs: int,
    cut: Blocks,
    segment: Segment,
    prepared: Sequence[torch.Tensor],
    stored: Sequence[torch.Tensor | None],
    products: torch.Tensor | None,
    rows: torch.Tensor | None,
    scores: torch.Tensor,
    counters: torch.Tensor,
) -> None:
    from .gluon.one_warp import score_documents  # Of an interface that another version of the language may not have.

    score_documents[(programs,)](
        *prepared,
        *stored,
        products,
        rows,
        scores,
        counters,
        segment.documents,
        scores.numel(),
        cut.block_documents,
        cut.large_blocks,
        cut.last_documents,
        cut.blocks,
        CODES_PER_BYTE=code_constants(segment.codec)["CODES_PER_BYTE"],
        **kernel.constants,
    )
