"""MaxSim over the packed token embeddings of a segment.

    score(q, d) = sum over unmasked query tokens i of max over document tokens j of <Q_i, D_j>

It is the late interaction of ColBERT (Khattab and Zaharia, 2020, section 3.3), with maxima and sums in float32.
A document without tokens scores -inf and is never returned; a masked query token contributes nothing. Queries are
rounded to the dtype that the codec computes in, so every device multiplies the same numbers.

The segment's device chooses the path: Triton-language kernels on a GPU (launch.py), compiled loops on a CPU (cpu.py).
Each is imported only where it runs. On either a score's bits do not depend on the other queries of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Protocol, cast

import numpy as np
import torch

from .codecs import Codec
from .segment import Segment, pack


class _Path(Protocol):
    """What launch.py and cpu.py both have; their arguments are checked, and the mask is given."""

    def search(
        self, queries: torch.Tensor, segment: Segment, top_k: int, query_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    def rescore(
        self, queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor
    ) -> torch.Tensor: ...


def search(
    queries: torch.Tensor, segment: Segment, top_k: int, query_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best live documents of a segment for each query, exactly.

    queries: float32, float16 or bfloat16 [batch, tokens, segment.dim], finite, on the segment's device.
    query_mask: bool [batch, tokens], False where a token does not count; all count where None.

    Returns scores float32 [batch, top_k], descending, and rows int64 [batch, top_k], ties by lower row. Places beyond
    the last live document with tokens hold the score -inf and the row -1.
    Raises ValueError where an argument is not as said; numbers are not looked at, that would wait for the device.
    """
    mask = _check_queries(queries, segment, query_mask)
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")
    return _path(segment.device).search(queries, segment, top_k, mask)


def rescore(
    queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The scores of each query's own candidates.

    rows: int64 [batch, candidates], rows of the segment in any order. The other arguments are those of `search`.
    Returns float32 [batch, candidates]; -inf for a row that is dead, has no tokens, or is not in the segment.
    Raises ValueError as `search` does.
    """
    mask = _check_queries(queries, segment, query_mask)
    if rows.dtype != torch.int64 or rows.ndim != 2 or len(rows) != len(queries) or rows.device != segment.device:
        raise ValueError(
            f"rows is {_described(rows)}; expected torch.int64 [{len(queries)}, candidates] on {segment.device}"
        )
    return _path(segment.device).rescore(queries, segment, rows, mask)


def warm_up(device: torch.device | str, dim: int, codecs: Iterable[Codec] = tuple(Codec)) -> None:
    """Compiles all that `search` and `rescore` will need on a device for these codecs at this dim.

    Takes seconds, and a service does it before it reports ready: without it the first request compiles.
    """
    for codec in codecs:
        segment = pack([np.ones((1, dim), np.float32)], codec, device)
        queries = torch.ones((1, 1, dim), device=segment.device)
        _, rows = search(queries, segment, top_k=1)
        rescore(queries, segment, rows)


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


def _described(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)} on {tensor.device}"


def _path(device: torch.device) -> _Path:
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"segment is on {device}; expected a CPU or a CUDA device")
    return cast(_Path, import_module(".cpu" if device.type == "cpu" else ".launch", __package__))
