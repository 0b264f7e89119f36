"""MaxSim over the packed token embeddings of a segment.

    score(q, d) = sum over unmasked query tokens i of max over document tokens j of <Q_i, D_j>

It is the late interaction of ColBERT, with maxima and sums in float32.
A document without tokens scores -inf and is never returned; a masked query token contributes nothing. Queries may be
of any magnitude (scaling.py) and are rounded to the dtype that the codec computes in, so every device multiplies the
same numbers.

The segment's device chooses the backend (backend.py), and the segment's bitmap which documents are searched. On either
backend a score's bits do not depend on the other queries of the batch.

References:
    Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT,
    2020, section 3.3.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch

from .approximation import Approximation
from .backend import Backend, backend_ahead, backend_of
from .codebook import Codebook
from .codec import Codec
from .segment import Segment, pack

Operator = Literal["search", "rescore", "explain"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)


def search(
    queries: torch.Tensor,
    segment: Segment,
    top_k: int,
    query_mask: torch.Tensor | None = None,
    *,
    workspace: torch.Tensor | None = None,
    approximation: Approximation | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best live documents of a segment for each query, exactly.

    After `warm_up` a search compiles nothing and waits for nothing, and a CUDA graph can capture it.

    Args:
        queries: float32, float16 or bfloat16 [batch, tokens, segment.dim], finite, on the segment's device. Numbers are
            not looked at, that would wait for the device.
        segment: Its bitmap says which documents are searched.
        top_k: At least 1.
        query_mask: bool [batch, tokens], False where a token does not count; all count where None.
        workspace: uint8 [search_workspace_bytes(...) or more], contiguous, on the segment's device and at a multiple of
            16, with any content; allocated where None. Two searches at the same time need two.
        approximation: What `approximate` made of this segment, or of one with another bitmap: the same results to the
            last bit, sooner. For a segment that `approximates` is True of.

    Returns:
        Scores float32 [batch, top_k], descending, and rows int64 [batch, top_k], ties by lower row. Places beyond the
        last live document with tokens hold the score -inf and the row -1. A score beyond float32 is LARGEST_SCORE, or
        its negative.

    Raises:
        ValueError: An argument is not as said, or the device does not read the segment's codec.
    """
    _check_queries(queries, segment, query_mask)
    _check_top_k(top_k)
    backend = _backend(segment)
    if workspace is not None:
        needed = backend.search_workspace_bytes(segment, queries.shape[0], queries.shape[1], top_k)
        fits = workspace.dtype == torch.uint8 and workspace.ndim == 1 and len(workspace) >= needed
        if not fits or workspace.device != segment.device or not workspace.is_contiguous() or workspace.data_ptr() % 16:
            raise ValueError(
                f"workspace is {_described(workspace)} at address {workspace.data_ptr()}; expected contiguous "
                f"torch.uint8 [{needed} or more] on {segment.device} at a multiple of 16"
            )
    if approximation is not None:
        _check_approximation(approximation, segment, backend)
    return backend.search(queries, query_mask, segment, top_k, workspace, approximation)


def search_workspace_bytes(segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:
    """Bytes of working memory that a `search` of these shapes takes: room for sort keys on a GPU, 0 on a CPU.

    Raises ValueError where batch, query_tokens or top_k is less than 1.
    """
    for name, value in (("batch", batch), ("query_tokens", query_tokens)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    _check_top_k(top_k)
    return _backend(segment).search_workspace_bytes(segment, batch, query_tokens, top_k)


def rescore(
    queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The scores of each query's own candidates.

    Args:
        queries: As in `search`.
        segment: As in `search`.
        rows: int64 [batch, candidates], rows of the segment in any order.
        query_mask: As in `search`.

    Returns:
        float32 [batch, candidates], as `search`'s; -inf for a row that is not live, has no tokens, or is not in the
        segment.

    Raises:
        ValueError: As `search` does.
    """
    _check_queries(queries, segment, query_mask)
    _check_rows(rows, queries, segment)
    return _backend(segment).rescore(queries, query_mask, segment, rows)


def explain(
    queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The document token nearest to each query token: what a score is the sum of.

    Args:
        queries: As in `search`.
        segment: As in `search`.
        rows: As in `rescore`.
        query_mask: As in `search`.

    Returns:
        The tokens' places in their documents, int64 [batch, candidates, tokens], the lowest of equals, and their
        similarities, float32 of the same shape: -1 and -inf in a document that scores -inf, -1 and 0 for a masked query
        token.

    Raises:
        ValueError: As `search` does.
    """
    _check_queries(queries, segment, query_mask)
    _check_rows(rows, queries, segment)
    return _backend(segment).explain(queries, query_mask, segment, rows)


def approximates(segment: Segment) -> bool:
    """Whether a `search` of the segment is quicker with an approximation."""
    return _backend(segment).approximates(segment.codec)


def supported_codecs(device: torch.device) -> tuple[Codec, ...]:
    """The codecs that `search`, `rescore` and `explain` read on a device; none on one that has no backend."""
    backend = backend_of(device)
    return tuple(codec for codec in Codec if backend is not None and backend.reads(codec))


def warm_up(
    device: torch.device | str, dim: int, codecs: Iterable[Codec], operators: Container[Operator] = OPERATORS
) -> None:
    """Compiles all that operators will need on a device for these codecs at this dim.

    Takes seconds, on a GPU shared by all cores, and little where the Triton language finds it in its cache. A service
    does it before it reports ready: without it the first request compiles.

    Args:
        device: Where they will run.
        dim: Dimensions of a token embedding.
        codecs: Of the segments.
        operators: All three, or those of them that will be called.

    Raises:
        ValueError: The device does not read a codec, or the dim does not fit it.
    """
    device = torch.device(device)
    # numba compiles one function at a time; triton gives the interpreter's lock away while it compiles.
    _make_ready(device, dim, codecs, operators, parallel=device.type == "cuda")


def compile_ahead(capability: int, dim: int, codecs: Iterable[Codec]) -> None:
    """Puts all that `warm_up` compiles on GPUs of a capability into the Triton language's cache, without such a GPU.

    The process is of no use for anything else afterwards.

    Args:
        capability: The number of sm_80, sm_90 and so on.
        dim: As in `warm_up`.
        codecs: As in `warm_up`.
    """
    _make_ready(torch.device("cpu"), dim, codecs, OPERATORS, backend_ahead(capability), parallel=True)


def _run_all(calls: Sequence[Callable[[], object]], *, parallel: bool) -> None:
    """The first one alone: it loads the compiler and the device's driver.

    Twelve variants for sm_90 took 6.7 s one after the other and 3.5 s on two threads of two cores.
    """
    for call in calls[: 1 if parallel else None]:
        call()
    if parallel:
        with ThreadPoolExecutor(os.cpu_count()) as cores:
            for done in [cores.submit(call) for call in calls[1:]]:
                done.result()


def _make_ready(
    device: torch.device,
    dim: int,
    codecs: Iterable[Codec],
    operators: Container[Operator],
    backend: Backend | None = None,
    *,
    parallel: bool,
) -> None:
    """By the device's backend where None is given."""
    segments = [_one_token(device, dim, codec) for codec in codecs]
    of_each = [(backend or _backend(segment), segment) for segment in segments]
    _run_all([call for pair in of_each for call in _variants(*pair, operators)], parallel=parallel)
    if "search" in operators and of_each:
        # All at once: each may wait for a process that tries a kernel, for as long as half of a start may take.
        with ThreadPoolExecutor(len(of_each)) as together:
            for done in [together.submit(chooser.choose, segment) for chooser, segment in of_each]:
                done.result()


def _one_token(device: torch.device, dim: int, codec: Codec) -> Segment:
    token = np.ones((1, dim), np.float32) / np.float32(dim) ** 0.5
    return pack([token], codec, device, _any_codebook(codec, dim))


def _variants(backend: Backend, segment: Segment, operators: Container[Operator]) -> Iterator[Callable[[], object]]:
    """Calls that together run every variant of operators for a codec."""
    device, dim = segment.device, segment.dim
    query, rows = torch.ones((1, 1, dim), device=device), torch.zeros((1, 1), dtype=torch.int64, device=device)
    masked = torch.ones((1, 1), dtype=torch.bool, device=device)
    if "search" in operators:
        for batch in backend.batches_of_each_variant(segment):
            yield partial(backend.search, query.expand(batch, -1, -1), None, segment, 1, None)
        yield partial(backend.search, query, masked, segment, 1, None)
    for mask in (None, masked):
        if "rescore" in operators:
            yield partial(backend.rescore, query, mask, segment, rows)
        if "explain" in operators:
            yield partial(backend.explain, query, mask, segment, rows)


def _any_codebook(codec: Codec, dim: int) -> Codebook | None:
    if not codec.residual_bits:
        return None
    bucket_weights = torch.arange(2**codec.residual_bits, dtype=torch.int8)
    return Codebook(torch.ones((1, dim), dtype=torch.int8), bucket_weights, step=1.0)


def _check_queries(queries: torch.Tensor, segment: Segment, query_mask: torch.Tensor | None) -> None:
    """Raises ValueError for bad queries or a bad mask."""
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
    if query_mask is not None and (
        query_mask.dtype != torch.bool or query_mask.shape != queries.shape[:2] or query_mask.device != segment.device
    ):
        raise ValueError(
            f"query_mask is {_described(query_mask)}; expected torch.bool {list(queries.shape[:2])} on {segment.device}"
        )


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")


def _check_approximation(approximation: Approximation, segment: Segment, backend: Backend) -> None:
    if not backend.approximates(segment.codec):
        raise ValueError(f"approximation is given; expected None for {segment.codec.value} on {segment.device}")
    made_of = approximation.segment
    if (made_of.documents, made_of.tokens, made_of.dim) != (segment.documents, segment.tokens, segment.dim):
        raise ValueError(
            f"approximation is of {made_of.documents} documents, {made_of.tokens} tokens and dim {made_of.dim}; "
            f"expected the segment's: {segment.documents}, {segment.tokens} and {segment.dim}"
        )


def _check_rows(rows: torch.Tensor, queries: torch.Tensor, segment: Segment) -> None:
    if rows.dtype != torch.int64 or rows.ndim != 2 or len(rows) != len(queries) or rows.device != segment.device:
        raise ValueError(
            f"rows is {_described(rows)}; expected torch.int64 [{len(queries)}, candidates] on {segment.device}"
        )


def _described(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)} on {tensor.device}"


def _backend(segment: Segment) -> Backend:
    backend = backend_of(segment.device)
    if backend is None:
        raise ValueError(f"segment is on {segment.device}; expected a CPU or a CUDA device")
    return backend
