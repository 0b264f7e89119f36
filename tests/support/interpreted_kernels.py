"""What test_triton_language.py calls in a process whose triton interprets; its own triton compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import torch
from gluon_on_cpu import OnCpu
from maxsim_data import far_away
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder

from tridex.kernels import Codec, Segment, operator, warm_up
from tridex.kernels.gpu import backend, query_tile, single_query, single_search
from tridex.kernels.gpu.gluon import one_warp, verdict
from tridex.kernels.gpu.gluon import search as batch_search
from tridex.kernels.gpu.gluon.roles import SINGLE_QUERIES, OneWarp

__all__ = [
    "best_of_scores",
    "explain",
    "launches",
    "ready_for_search_and_rescore",
    "rescore",
    "rescore_by_one_warp",
    "search",
    "search_before_float8",
    "search_by_one_warp",
    "search_by_roles",
    "search_far_away",
    "search_far_away_by_one_warp",
    "search_far_away_by_roles",
    "search_in_workspace_of",
    "search_workspace_bytes",
    "variants_warmed_up",
]

Found = tuple[torch.Tensor, torch.Tensor]
Result = TypeVar("Result")

_matmul, _create_dot = np.matmul, InterpreterBuilder.create_dot


def _matmul_in_order(a: Any, b: Any, dtype: Any) -> Any:
    """A product whose sums go from the first column to the last. BLAS adds in another order for another shape, on some
    processors, where a kernel on a GPU does not: a score has the same bits in every batch."""
    if np.issubdtype(dtype, np.integer):
        return _matmul(a, b, dtype=dtype)
    a, b = a.astype(dtype), b.astype(dtype)
    total = a[..., :1] * b[..., :1, :]
    for column in range(1, a.shape[-1]):
        total += a[..., column : column + 1] * b[..., column : column + 1, :]
    return total


def _dot_in_order(*arguments: Any) -> Any:
    with patch.object(np, "matmul", _matmul_in_order):
        return _create_dot(*arguments)


InterpreterBuilder.create_dot = _dot_in_order

# On a CPU the operator would take the CPU's backend.
_interpreted = patch.object(operator, "backend_of", lambda _device: backend)


@_interpreted
def search(
    query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor, **arguments: torch.Tensor | None
) -> Found:
    return operator.search(query, segment, top_k, mask, **arguments)


@_interpreted
def rescore(query: torch.Tensor, segment: Segment, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return operator.rescore(query, segment, rows, mask)


@_interpreted
def explain(query: torch.Tensor, segment: Segment, rows: torch.Tensor, mask: torch.Tensor) -> Found:
    return operator.explain(query, segment, rows, mask)


@_interpreted
def search_workspace_bytes(segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:
    return operator.search_workspace_bytes(segment, batch, query_tokens, top_k)


class _Launches(TorchDispatchMode):
    """Kernels by their names, and torch's operations but for those that only allocate or view memory."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, operation: Any, _types: Any, arguments: Any = (), options: Any = None) -> Any:
        if not operation.is_view and operation is not torch.ops.aten.empty.memory_format:
            self.seen.append(str(operation))
        return operation(*arguments, **(options or {}))


def launches(query: torch.Tensor, segment: Segment, mask: torch.Tensor) -> list[list[str]]:
    """What a search, a rescore and an explain launch."""
    run, rows = InterpretedFunction.run, torch.zeros((len(query), 1), dtype=torch.int64)
    found = []
    for call, argument in ((search, 1), (rescore, rows), (explain, rows)):
        with _Launches() as launched:

            def noted(kernel: Any, *arguments: Any, seen: list[str] = launched.seen, **options: Any) -> None:
                seen.append(kernel.__name__)
                with _disable_current_modes():  # type: ignore[no-untyped-call]
                    run(kernel, *arguments, **options)

            with patch.object(InterpretedFunction, "run", noted):
                call(query, segment, argument, mask)  # type: ignore[operator]
        found.append(launched.seen)
    return found


def search_in_workspace_of(
    content: int, query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor
) -> Found:
    size = search_workspace_bytes(segment, len(query), query.shape[1], top_k)
    workspace = torch.full((size + 24,), content, dtype=torch.uint8)
    found = search(query, segment, top_k, mask, workspace=workspace)
    assert (workspace[size:] == content).all(), "the kernel wrote behind its workspace"
    return found


def search_before_float8(query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor) -> Found:
    """As on an A100."""
    with patch.object(backend, "capability_of", lambda _device: 80):
        return search(query, segment, top_k, mask)


def search_far_away(
    codec: Codec, tokens: int, document: np.ndarray, query: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores and rows of the best two, the document's score, and the tokens that the query's tokens found."""
    segment, row = far_away(codec, tokens, document), torch.tensor([[1]])
    scores, rows = search(query, segment, 2, mask)
    return scores, rows, rescore(query, segment, row, mask), explain(query, segment, row, mask)[0]


def variants_warmed_up(dim: int, codec: Codec) -> set[int]:
    """Subtiles of the query tiles that warm_up made kernels for."""
    seen = set()

    def constants(codec: Codec, dim: int, tile: query_tile.QueryTile) -> dict[str, object]:
        seen.add(tile.subtiles)
        return query_tile.constants(codec, dim, tile)

    with _interpreted, patch.object(backend, "constants", constants):
        warm_up("cpu", dim, [codec])
    return seen


def search_by_roles(
    splits: int, query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor
) -> tuple[Found, Found]:
    """What the plain kernel finds on a GPU of so many multiprocessors, and what the Gluon kernel finds there."""
    with patch.object(backend, "multiprocessors", lambda _device: splits):
        plain, on_cpu = search(query, segment, top_k, mask), OnCpu(batch_search.search_batch)
        with (
            patch.object(batch_search, "search_batch", on_cpu),
            patch.object(verdict, "is_chosen", lambda *_: True),
        ):
            found = search(query, segment, top_k, mask)
    assert on_cpu.launches == 1, "the plain kernel searched"
    return plain, found


def _by_one_warp(programs: int, call: Callable[[], Result]) -> tuple[Result, Result]:
    """What the plain kernel finds, and what so many programs of one warp find."""
    kernel = OneWarp(programs)
    with patch.object(backend, "kernels_of", lambda *_: {SINGLE_QUERIES: kernel}):
        plain, on_cpu = call(), OnCpu(one_warp.score_documents)
        with (
            patch.object(one_warp, "score_documents", on_cpu),
            patch.object(single_search, "multiprocessors", lambda _device: 1),
            patch.object(verdict, "is_chosen", lambda *_: True),
        ):
            found = call()
    assert on_cpu.launches == 1, "the plain kernel served"
    return plain, found


def search_by_one_warp(
    programs: int, query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor
) -> tuple[Found, Found]:
    return _by_one_warp(programs, lambda: search(query, segment, top_k, mask))


def rescore_by_one_warp(
    programs: int, query: torch.Tensor, segment: Segment, rows: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return _by_one_warp(programs, lambda: rescore(query, segment, rows, mask))


def ready_for_search_and_rescore(
    query: torch.Tensor, segment: Segment, mask: torch.Tensor
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """A query's numbers, weights, unit and counters, with a table of centroids, which comes last, and without one."""
    assert segment.codebook is not None
    products = torch.empty((len(segment.codebook.centroids), 8, 4), dtype=torch.int32)
    with_table, without = torch.empty(2, dtype=torch.int32), torch.empty(2, dtype=torch.int32)
    return (
        (*backend._prepared(query, mask, segment, with_table, products), with_table, products),
        (*backend._prepared(query, mask, segment, without), without),
    )


def search_far_away_by_roles(
    codec: Codec, tokens: int, document: np.ndarray, query: torch.Tensor, mask: torch.Tensor
) -> tuple[Found, Found]:
    """Of a document behind so many tokens."""
    return search_by_roles(1, query, far_away(codec, tokens, document), 2, mask)


def search_far_away_by_one_warp(
    codec: Codec, tokens: int, document: np.ndarray, query: torch.Tensor, mask: torch.Tensor
) -> tuple[Found, Found]:
    """Of a document behind so many tokens."""
    return search_by_one_warp(1, query, far_away(codec, tokens, document), 2, mask)


def best_of_scores(scores: torch.Tensor, top_k: int, splits: int) -> Found:
    """What the kernel of that name finds."""
    share = -(-len(scores) // splits)
    kept = min(top_k, share)
    capacity = 2 * kept + 2 * single_query.SCORES_AT_A_TIME
    sizes = [splits * capacity, splits * kept, splits]
    found = torch.empty(top_k), torch.empty(top_k, dtype=torch.int64)
    single_query.best_of_scores[(splits,)](
        scores,
        torch.ones(1, dtype=torch.float64),
        *found,
        *(torch.empty(size, dtype=torch.int64) for size in sizes),
        torch.zeros(1, dtype=torch.int32),
        len(scores),
        share,
        kept,
        capacity,
        top_k,
        CHUNK=single_query.SCORES_AT_A_TIME,
        num_warps=4,
    )
    return found
