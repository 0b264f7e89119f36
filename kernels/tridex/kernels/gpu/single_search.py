"""The search of a single query by programs of one warp: memory and launches.

Three launches, four for residual codes: the query made ready (backend.py), its products with all centroids, the scores
of all documents, and the best of them.
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
        cut_up(segment, programs, LANES),
        splits,
        share,
        kept,
        capacity=2 * kept + 2 * single_query.SCORES_AT_A_TIME,
        centroids=0 if segment.codebook is None else len(segment.codebook.centroids),
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
    """The launches behind prepare_queries.

    prepared: The query's numbers, weights and unit. stored: arguments of search_documents, from codes to bitmap.
    scratch: What the plan says, by the arguments' names.
    """
    from .gluon.one_warp import score_documents  # Of an interface that another version of the language may not have.

    numbers, weights, unit = prepared
    codes, scales, ids, centroids, bucket_weights, offsets, live = stored
    products = None
    if centroids is not None:
        products = scratch["p_products"]
        single_query.multiply_centroids[(cdiv(plan.centroids, single_query.CENTROIDS_AT_A_TIME),)](
            numbers,
            centroids,
            products,
            plan.centroids,
            DIM=segment.dim,
            SUBTILE=SUBTILE,
            CENTROIDS=single_query.CENTROIDS_AT_A_TIME,
            num_warps=4,
        )
    counters, document_scores, cut = scratch["p_counters"], scratch["p_scores"], plan.cut
    score_documents[(plan.programs,)](
        numbers,
        weights,
        codes,
        scales,
        ids,
        products,
        bucket_weights,
        offsets,
        live,
        document_scores,
        counters,
        plan.documents,
        cut.block_documents,
        cut.large_blocks,
        cut.last_documents,
        cut.blocks,
        CODES_PER_BYTE=code_constants(segment.codec)["CODES_PER_BYTE"],
        **plan.kernel.constants,
    )
    single_query.best_of_scores[(plan.splits,)](
        document_scores,
        unit,
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
