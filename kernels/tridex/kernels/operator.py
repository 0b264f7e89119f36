"""MaxSim over the packed token embeddings of a segment.

    score(q, d) = sum over unmasked query tokens i of max over document tokens j of <Q_i, D_j>

It is the late interaction of ColBERT (Khattab and Zaharia, 2020, section 3.3), with maxima and sums in float32.
A document without tokens scores -inf and is never returned; a masked query token contributes nothing. Queries may be
of any magnitude (scaling.py) and are rounded to the dtype that the codec computes in, so every device multiplies the
same numbers.

The segment's device chooses the path: Triton-language kernels on a GPU (launch.py), compiled loops on a CPU (cpu.py).
Each is imported only where it runs. On either a score's bits do not depend on the other queries of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Protocol, cast

import numpy as np
import torch

from .codebook import Codebook
from .codecs import Codec
from .scaling import ScaledQueries, scale_queries, scale_tokens, unscaled
from .segment import Segment, pack


class _Path(Protocol):
    """What launch.py and cpu.py both have; their arguments are checked, and results are not `unscaled`."""

    def batches_of_each_shape(self, segment: Segment) -> tuple[int, ...]: ...

    def search_workspace_bytes(self, segment: Segment, batch: int, query_tokens: int, top_k: int) -> int: ...

    def search(
        self, queries: ScaledQueries, segment: Segment, top_k: int, workspace: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    def rescore(self, queries: ScaledQueries, segment: Segment, rows: torch.Tensor) -> torch.Tensor: ...

    def explain(
        self, queries: ScaledQueries, segment: Segment, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


def search(
    queries: torch.Tensor,
    segment: Segment,
    top_k: int,
    query_mask: torch.Tensor | None = None,
    *,
    filter_bitmap: torch.Tensor | None = None,
    workspace: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best live documents of a segment for each query, exactly.

    queries: float32, float16 or bfloat16 [batch, tokens, segment.dim], finite, on the segment's device.
    query_mask: bool [batch, tokens], False where a token does not count; all count where None.
    filter_bitmap: int32 [ceil(documents / 32)], what pack_bitmap returns, on the segment's device: documents whose bit
    is not set are passed over like dead ones, and their tokens are not read.
    workspace: uint8 [search_workspace_bytes(...) or more], contiguous, on the segment's device and at a multiple of 8,
    with any content; allocated where None. Two searches at the same time need two.

    Returns scores float32 [batch, top_k], descending, and rows int64 [batch, top_k], ties by lower row. Places beyond
    the last live document with tokens hold the score -inf and the row -1. A score beyond float32 is LARGEST_SCORE, or
    its negative.
    Raises ValueError where an argument is not as said; numbers are not looked at, that would wait for the device.
    After `warm_up` a search compiles nothing and waits for nothing, and a CUDA graph can capture it.
    """
    mask = _check_queries(queries, segment, query_mask)
    _check_top_k(top_k)
    path = _path(segment)
    if filter_bitmap is not None:
        live = segment.live
        if (filter_bitmap.dtype, filter_bitmap.shape, filter_bitmap.device) != (live.dtype, live.shape, live.device):
            raise ValueError(
                f"filter_bitmap is {_described(filter_bitmap)}; expected {_described(live)}, "
                f"a bit for each of {segment.documents} documents"
            )
        segment = segment.with_live(live & filter_bitmap)
    if workspace is not None:
        needed = path.search_workspace_bytes(segment, queries.shape[0], queries.shape[1], top_k)
        fits = workspace.dtype == torch.uint8 and workspace.ndim == 1 and len(workspace) >= needed
        if not fits or workspace.device != segment.device or not workspace.is_contiguous() or workspace.data_ptr() % 8:
            raise ValueError(
                f"workspace is {_described(workspace)} at address {workspace.data_ptr()}; expected contiguous "
                f"torch.uint8 [{needed} or more] on {segment.device} at a multiple of 8"
            )
    scaled = scale_queries(queries, mask)
    scores, rows = path.search(scaled, segment, top_k, workspace)
    return unscaled(scores, scaled.units), rows


def search_workspace_bytes(segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:
    """Bytes of working memory that a `search` of these shapes takes: room for sort keys on a GPU, 0 on a CPU.

    Raises ValueError where batch, query_tokens or top_k is less than 1.
    """
    for name, value in (("batch", batch), ("query_tokens", query_tokens)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    _check_top_k(top_k)
    return _path(segment).search_workspace_bytes(segment, batch, query_tokens, top_k)


def rescore(
    queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The scores of each query's own candidates.

    rows: int64 [batch, candidates], rows of the segment in any order. The other arguments are those of `search`.
    Returns float32 [batch, candidates], as `search`'s; -inf for a row that is dead, has no tokens, or is not in the
    segment.
    Raises ValueError as `search` does.
    """
    mask = _check_queries(queries, segment, query_mask)
    _check_rows(rows, queries, segment)
    scaled = scale_queries(queries, mask)
    return unscaled(_path(segment).rescore(scaled, segment, rows), scaled.units)


def explain(
    queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which document token each query token found: what a score is the sum of.

    The arguments are those of `rescore`. Returns the tokens' places in their documents, int64 [batch, candidates,
    tokens], the lowest of equals, and their similarities, float32 of the same shape: -1 and -inf in a document that
    scores -inf, -1 and 0 for a masked query token.
    Raises ValueError as `search` does.
    """
    mask = _check_queries(queries, segment, query_mask)
    _check_rows(rows, queries, segment)
    scaled = scale_tokens(queries, mask)
    tokens, similarities = _path(segment).explain(scaled, segment, rows)
    return tokens, unscaled(similarities, scaled.units)


def supported_codecs(device: torch.device) -> tuple[Codec, ...]:
    """The codecs that `search`, `rescore` and `explain` read on a device: all, on a CPU and on a GPU from sm_80 on.

    A GPU before sm_89 does not multiply float8: its codes become float16 in registers, which is exact.
    """
    return tuple(Codec) if device.type in ("cpu", "cuda") else ()


def warm_up(device: torch.device | str, dim: int, codecs: Iterable[Codec]) -> None:
    """Compiles all that `search`, `rescore` and `explain` will need on a device for these codecs at this dim.

    Takes seconds, and a service does it before it reports ready: without it the first request compiles.
    """
    for codec in codecs:
        token = np.ones((1, dim), np.float32) / np.float32(dim) ** 0.5
        segment = pack([token], codec, device, _any_codebook(codec, dim))
        for batch in _path(segment).batches_of_each_shape(segment):
            queries = torch.ones((batch, 1, dim), device=segment.device)
            _, rows = search(queries, segment, top_k=1)
        rescore(queries, segment, rows)
        explain(queries, segment, rows)


def _any_codebook(codec: Codec, dim: int) -> Codebook | None:
    if not codec.residual_bits:
        return None
    levels = torch.arange(2**codec.residual_bits, dtype=torch.int8)
    return Codebook(torch.ones((1, dim), dtype=torch.float16), levels, step=1.0)


def _check_queries(queries: torch.Tensor, segment: Segment, query_mask: torch.Tensor | None) -> torch.Tensor:
    """Raises ValueError for bad queries or a bad mask, and returns the mask."""
    if (
        queries.dtype not in (torch.float32, torch.float16, torch.bfloat16)
        or queries.ndim != 3
        or 0 in queries.shape
        or queries.shape[2] != segment.dim
        or queries.device != segment.device
    ):
        raise ValueError(
            f"queries is {_described(queries)}; expected torch.float32, float16 or bfloat16 "
            f"[batch, tokens, {segment.dim}], none of them 0, on {segment.device}"
        )
    if query_mask is None:
        return torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device)
    if query_mask.dtype != torch.bool or query_mask.shape != queries.shape[:2] or query_mask.device != segment.device:
        raise ValueError(
            f"query_mask is {_described(query_mask)}; expected torch.bool {list(queries.shape[:2])} on {segment.device}"
        )
    return query_mask


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")


def _check_rows(rows: torch.Tensor, queries: torch.Tensor, segment: Segment) -> None:
    if rows.dtype != torch.int64 or rows.ndim != 2 or len(rows) != len(queries) or rows.device != segment.device:
        raise ValueError(
            f"rows is {_described(rows)}; expected torch.int64 [{len(queries)}, candidates] on {segment.device}"
        )


def _described(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)} on {tensor.device}"


def _path(segment: Segment) -> _Path:
    if segment.device.type not in ("cpu", "cuda"):
        raise ValueError(f"segment is on {segment.device}; expected a CPU or a CUDA device")
    return cast(_Path, import_module(".cpu" if segment.device.type == "cpu" else ".launch", __package__))
