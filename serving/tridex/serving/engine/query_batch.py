"""The queries of several searches as one tensor on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.index import host_buffer, tensors_in
from tridex.serving.modes import Queries


class QueryBatch(NamedTuple):
    """Queries of several searches, one search's after the other's, padded to the widest."""

    queries: Queries
    scoring_tokens: NDArray[np.int64]
    """[queries]: tokens that count."""
    finite: torch.Tensor
    """bool [queries] on the device: whether all numbers of a query are finite."""

    @classmethod
    def of(cls, given: Sequence[tuple[Any, Any | None]], dim: int, device: torch.device) -> QueryBatch:
        """Brings queries to the device: masks, and embeddings that are on the host, in one copy.

        Args:
            given: Embeddings, float32 [queries, tokens, dim], and a mask, [queries, tokens], None where every token
                counts: numpy, or torch where they are on the device already.
            dim: Of a token embedding.
            device: Where they are searched.
        """
        ends = np.cumsum([len(embeddings) for embeddings, _ in given])
        rows = [slice(end - len(embeddings), end) for end, (embeddings, _) in zip(ends, given, strict=True)]
        shape = int(ends[-1]), max(embeddings.shape[1] for embeddings, _ in given), dim
        on_device = [(row, one) for row, (one, _) in zip(rows, given, strict=True) if isinstance(one, torch.Tensor)]
        layout: list[tuple[Sequence[int], torch.dtype]] = [(shape[:2], torch.bool)]
        if len(on_device) < len(given):
            layout.insert(0, (shape, torch.float32))
        buffer = host_buffer(layout, device)
        *numbers, counts = (tensor.numpy() for tensor in tensors_in(buffer, layout))
        for row, (embeddings, mask) in zip(rows, given, strict=True):
            width = embeddings.shape[1]
            counts[row, :width] = True if mask is None else _on_host(mask) != 0
            if not isinstance(embeddings, torch.Tensor):
                numbers[0][row, :width] = embeddings
        *copied, copied_counts = tensors_in(buffer.to(device, non_blocking=True), layout)
        together = _together(on_device, copied[0] if copied else None, shape)
        return cls(Queries(together, copied_counts), counts.sum(axis=1), _finite(together))

    def rows(self, rows: slice, tokens: int) -> Queries:
        """Some of the queries, which have so many tokens at most."""
        return Queries(self.queries.embeddings[rows, :tokens], self.queries.mask[rows, :tokens])


def _together(
    on_device: Sequence[tuple[slice, torch.Tensor]], copied: torch.Tensor | None, shape: tuple[int, int, int]
) -> torch.Tensor:
    """All embeddings, zeros where a query has fewer tokens; `copied`: those from the host, where there are any."""
    if copied is None and all(one.shape[1] == shape[1] for _, one in on_device):
        return torch.cat([one for _, one in on_device])
    together = on_device[0][1].new_zeros(shape) if copied is None else copied
    for row, one in on_device:
        together[row, : one.shape[1]] = one
    return together


def _finite(embeddings: torch.Tensor) -> torch.Tensor:
    if embeddings.device.type == "cpu":
        # numpy works on this thread; torch would wake others, which spin on cores that the search wants.
        return torch.from_numpy(np.isfinite(embeddings.numpy()).all(axis=(1, 2)))
    return torch.isfinite(embeddings).flatten(1).all(dim=1)


def _on_host(mask: Any) -> Any:
    return mask.cpu().numpy() if isinstance(mask, torch.Tensor) else mask
