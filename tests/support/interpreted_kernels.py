"""What test_triton_language.py calls in a process whose triton interprets; its own triton compiles."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from maxsim_data import far_away

from tridex.kernels import Codec, Segment, launch, operator, tiles, warm_up
from tridex.kernels.launch import explain, rescore, search_workspace_bytes

__all__ = [
    "explain",
    "public_search",
    "rescore",
    "search",
    "search_before_float8",
    "search_far_away",
    "search_in_workspace_of",
    "search_workspace_bytes",
    "variants_warmed_up",
]

Found = tuple[torch.Tensor, torch.Tensor]


def search(query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor) -> Found:
    return launch.search(query, segment, top_k, mask, None)


def search_in_workspace_of(
    content: int, query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor
) -> Found:
    size = search_workspace_bytes(segment, len(query), query.shape[1], top_k)
    workspace = torch.full((size + 24,), content, dtype=torch.uint8)
    found = launch.search(query, segment, top_k, mask, workspace)
    assert (workspace[size:] == content).all(), "the kernel wrote behind its workspace"
    return found


def search_before_float8(query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor) -> Found:
    """As on an A100."""
    with patch.object(launch, "capability_of", lambda _device: 80):
        return launch.search(query, segment, top_k, mask, None)


def search_far_away(
    codec: Codec, tokens: int, document: np.ndarray, query: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores and rows of the best two, the document's score, and the tokens that the query's tokens found."""
    segment, row = far_away(codec, tokens, document), torch.tensor([[1]])
    scores, rows = launch.search(query, segment, 2, mask, None)
    return scores, rows, rescore(query, segment, row, mask), explain(query, segment, row, mask)[0]


def public_search(
    query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor, arguments: dict[str, Any]
) -> Found:
    """tridex.kernels.search, which on a CPU would take the CPU's path."""
    with patch.object(operator, "_path", lambda _segment: launch):
        return operator.search(query, segment, top_k, mask, **arguments)


def variants_warmed_up(dim: int, codec: Codec) -> set[int]:
    """Slices of the panels that warm_up made kernels for."""
    seen = set()

    def constants(codec: Codec, dim: int, panel: tiles.Panel) -> dict[str, object]:
        seen.add(panel.slices)
        return tiles.constants(codec, dim, panel)

    with patch.object(operator, "_path", lambda _segment: launch), patch.object(launch, "constants", constants):
        warm_up("cpu", dim, [codec])
    return seen
